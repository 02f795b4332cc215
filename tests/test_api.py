"""Laws for every public name, and the examples of all docstrings."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import jaxtyping
import pytest
from api_index import INDEX, PAGES, index, listing

import swag_jax

# Options that are arrays: weights of a mixture, not data.
ARRAY_OPTIONS = {("style_targets", "blend"), ("make_targets", "blend")}


def public_objects():
    """Every public class and function by its shortest name."""
    found = {}
    for name in PAGES:
        module = importlib.import_module(name)
        is_page = Path(module.__file__).name == "__init__.py"
        names = getattr(module, "__all__", vars(module))
        for key, value in ((key, getattr(module, key)) for key in names):
            home = getattr(value, "__module__", None) or ""
            own = home.startswith("swag_jax") if is_page else home == name
            if own and not key.startswith("_") and (inspect.isclass(value) or inspect.isroutine(value)):
                found.setdefault(value, f"{name}.{key}".removeprefix("swag_jax."))
    return {name: value for value, name in found.items()}


def methods(cls):
    """A public class's public methods, `__call__` and `__init__`."""
    for name, value in vars(cls).items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        generated = name == "__init__" and dataclasses.is_dataclass(cls)  # a record of fields, in their order
        public = not name.startswith("_") or name in ("__call__", "__init__")
        if inspect.isfunction(function) and public and not generated:
            yield name, function


OBJECTS = public_objects()

FUNCTIONS = {name: value for name, value in OBJECTS.items() if not inspect.isclass(value)}

CALLABLES = FUNCTIONS | {
    f"{name}.{method}": function
    for name, cls in OBJECTS.items()
    if inspect.isclass(cls)
    for method, function in methods(cls)
}


def parameters(function):
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def is_array(annotation) -> bool:
    return annotation is jax.Array or (inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray))


def test_the_walk_finds_the_public_names():
    assert {"stylize", "StylizeSettings", "gram", "losses.style_targets", "images.resize"} <= set(OBJECTS)
    assert {"Smoothing.softmax", "Backbone.__call__"} <= set(CALLABLES)


def test_the_index_is_what_the_source_says():
    """`python tests/api_index.py` writes it anew."""
    assert INDEX.read_text(encoding="utf-8") == index()


def test_the_index_has_every_public_name_once():
    listed = re.findall(r"^\* `(\w+)`: .", index(), re.MULTILINE)
    classes_and_functions = sorted(value.__name__ for value in OBJECTS.values())
    assert [name for name in classes_and_functions if listed.count(name) != classes_and_functions.count(name)] == []
    assert f"* `gram`: {inspect.getdoc(swag_jax.gram).splitlines()[0]}" in index().splitlines()


def test_the_surface_is_small():
    """Presets apart, what a user has to know of; what only the package needs is imported from its module."""
    listed = re.findall(r"^\* `(\w+)`: .", index(), re.MULTILINE)
    assert len({name for name in listed if not hasattr(swag_jax.presets, name)}) <= 118


def test_contents_pages_are_alphabetical_and_compute_nothing():
    for name in PAGES:
        path = Path(importlib.import_module(name).__file__)
        if path.name == "__init__.py":
            statements = listing(name)
            assert all(isinstance(s, ast.ImportFrom) and s.names[0].asname == s.names[0].name for s in statements)


@pytest.mark.parametrize("name", [*OBJECTS, *(name for name in CALLABLES if not name.endswith("__init__"))])
def test_docstring_opens_with_one_line(name):
    document = inspect.getdoc(OBJECTS.get(name, CALLABLES.get(name)))
    assert document
    summary, *rest = document.split("\n")
    assert summary.endswith((".", "?"))
    assert not rest or rest[0] == ""


@pytest.mark.parametrize("name", CALLABLES)
def test_options_are_keyword_only(name):
    loose = [
        p.name
        for p in parameters(CALLABLES[name])
        if p.default is not p.empty and p.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    assert loose == []


@pytest.mark.parametrize("name", CALLABLES)
def test_arrays_are_positional(name):
    hidden = [
        p.name
        for p in parameters(CALLABLES[name])
        if p.default is p.empty and is_array(p.annotation) and p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert [p for p in hidden if (name.split(".")[-1], p) not in ARRAY_OPTIONS] == []


def described_arguments(function):
    """The entries of the section `Args`: what is described, and how."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.getdoc(function) or "", re.MULTILINE)
    entries = re.findall(r"^    \**(\w+): ((?:.*\n?)(?:     .*\n?)*)", section[1], re.MULTILINE) if section else []
    return {name: " ".join(text.split()) for name, text in entries}


@pytest.mark.parametrize("name", CALLABLES)
def test_described_arguments_exist_in_this_order(name):
    """An argument whose name and type say everything needs no line."""
    described = list(described_arguments(CALLABLES[name]))
    assert described == [p.name for p in parameters(CALLABLES[name]) if p.name in described]


def says_nothing(name: str, text: str) -> bool:
    words = re.sub(r"[^a-z ]", "", text.lower().replace("_", " ")).split()
    told = [word for word in words if word not in ("a", "an", "the", "its", "of", "one", "to", "be", "read", "is")]
    return text.startswith("As in `") or text in ("It.", "Its name.") or told in ([], name.lower().split("_"))


@pytest.mark.parametrize(
    ("name", "text", "empty"),
    [
        ("network", "The network to read.", True),
        ("image", "An image.", True),
        ("generator", "It.", True),
        ("epsilon", "As in `moments`.", True),
        ("image", "Values in [0, 1].", False),
        ("size", "The longer side in pixels.", False),
    ],
)
def test_empty_descriptions_are_told_from_others(name, text, empty):
    assert says_nothing(name, text) == empty


@pytest.mark.parametrize("name", CALLABLES)
def test_no_description_is_empty(name):
    found = described_arguments(CALLABLES[name])
    assert {argument: text for argument, text in found.items() if says_nothing(argument, text)} == {}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_result_is_described(name):
    """In a section, or by a first line that says what is returned (Google's style guide, 3.8.3)."""
    annotation = inspect.signature(FUNCTIONS[name]).return_annotation
    assert annotation is not inspect.Signature.empty
    document = inspect.getdoc(FUNCTIONS[name])
    if annotation is not None:
        assert document.startswith(("Return ", "Yield ")) or re.search(r"^(Returns|Yields):$", document, re.MULTILINE)


def modules_with_examples():
    names = ["swag_jax", *(m.name for m in pkgutil.walk_packages(swag_jax.__path__, "swag_jax."))]
    sources = {name: Path(importlib.util.find_spec(name).origin).read_text() for name in names}
    return {name: source for name, source in sources.items() if ">>> " in source}


EXAMPLES = modules_with_examples()


def docstrings(source: str):
    """Every docstring with its owner's name, from the source: decorators hide functions from doctest's finder."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (document := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), document


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    namespace, reports, count = vars(importlib.import_module(name)), [], 0
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for owner, document in docstrings(EXAMPLES[name]):
        test = doctest.DocTestParser().get_doctest(document, namespace, f"{name}.{owner}", None, 0)
        runner.run(test, out=reports.append)
        count += len(test.examples)
    assert count > 0
    assert "".join(reports) == ""
