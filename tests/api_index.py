"""The API index: every public name with the first sentence of its docstring, read from the source.

Run: `python tests/api_index.py` writes `swag_jax/API.md` anew; `test_readme.py` checks that it is up to date.
"""

import ast
import functools
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "swag_jax"
INDEX = PACKAGE / "API.md"

PAGES = (
    "swag_jax",
    "swag_jax.apply",
    "swag_jax.backbones",
    "swag_jax.devices",
    "swag_jax.generators",
    "swag_jax.images",
    "swag_jax.losses",
    "swag_jax.measure",
    "swag_jax.optimize",
    "swag_jax.params",
    "swag_jax.presets",
    "swag_jax.train",
)
"""The modules that users read names from."""

HEAD = """# API index

Every public name, with the first sentence of its docstring. `help(name)` shows the rest. If several modules have the
same object, it is listed once, in the first of them. The [user guide](README.md) shows how they are used.

This file is made from the source: `python tests/api_index.py`.
"""


@functools.cache
def is_package(module: str) -> bool:
    return PACKAGE.parent.joinpath(*module.split("."), "__init__.py").is_file()


@functools.cache
def parsed(module: str) -> ast.Module:
    path = PACKAGE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def is_module(module: str) -> bool:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def definitions(module: str) -> dict[str, str | None]:
    """The names that a module defines itself, and their docstrings; a value without one is shown as it is written."""
    found = {}
    body = parsed(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = ast.get_docstring(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            written = ast.unparse(node.value) if node.value else ""
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            text = str(after.value.value) if is_text else f"`{written}`"
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found.update(dict.fromkeys(names, text) if not written.startswith(("TypeVar(", "ParamSpec(")) else {})
    return found


def listing(module: str) -> list[ast.stmt]:
    """The statements of a contents page that say what is on it."""
    _, *body = parsed(module).body
    return next((node.body for node in body if isinstance(node, ast.If)), body)


def exports(module: str) -> list[tuple[str, str]]:
    """The public names of a page, each with the module that has it: what a package imports, or a module's `__all__`."""
    if not is_package(module):
        found = definitions(module)
        names = ast.literal_eval(str(found.get("__all__", "``")).strip("`") or "None") or found
        return [(name, module) for name in names if not name.startswith("_")]
    imports = [node for node in listing(module) if isinstance(node, ast.ImportFrom)]
    names = [(alias.name, node.module) for node in imports for alias in node.names if alias.asname == alias.name]
    return [(name, home) for name, home in names if not (name.startswith("_") or is_module(f"{home}.{name}"))]


def origin(name: str, module: str) -> tuple[str, str]:
    """The module that defines a name, through contents pages, and the name."""
    while is_package(module):
        module = dict(exports(module))[name]
    return module, name


def sentence(text: str) -> str:
    """The first sentence of a docstring, its formulas as GitHub writes them."""
    first = " ".join(text.split("\n\n")[0].split())
    first = re.split(r"(?<=[.?!])\s+(?=[A-Z])", first)[0]
    return re.sub(r":math:`([^`]+)`", r"$`\1`$", first)


def index() -> str:
    """The whole file."""
    lines, listed = [HEAD], set()
    for page in PAGES:
        rows = []
        for name, home in sorted(exports(page), key=lambda item: item[0].lower()):
            found = origin(name, home)
            if found in listed:
                continue
            listed.add(found)
            rows.append(f"* `{name}`: {sentence(definitions(found[0])[name] or '')}")
        if rows:
            about = sentence(ast.get_docstring(parsed(page)) or "")
            lines += [f"## {page}", "", about, "", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    INDEX.write_text(index(), encoding="utf-8")
