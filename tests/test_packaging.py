"""What is shipped: the weights and their list, types, one version, a command that starts."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import swag_jax
from swag_jax import params
from swag_jax.params.manifest import packaged_generators, weights_folder

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD = PROJECT["tool"]["hatch"]["build"]["targets"]

LARGEST = 30_000_000
"""Bytes that a file may have: clones stay quick, and hosts of packages and repositories take it."""

LARGEST_WEIGHTS = 43_000_000
"""Bytes that all embedded checkpoints may have together: 38 MB for VGG19 and ResNet50, and 4.8 MB for the small one."""

LARGEST_GENERATORS = 16_000_000
"""Bytes that all generators of the package may have together: an AdaIN has 3.7 MB, a SANet about 6."""


def test_the_wheel_ships_the_weights_where_the_package_looks():
    shipped = BUILD["wheel"]["force-include"]
    assert BUILD["wheel"]["packages"] == [swag_jax.__name__]
    # `weights_folder` prefers `_weights` next to the modules, where the wheel puts them.
    assert all(inside == f"swag_jax/_weights/{Path(source).name}" for source, inside in shipped.items())
    assert {(ROOT / source).parent for source in shipped} == {weights_folder()}
    embedded = {entry.file for entry in (*params.checkpoints(), *packaged_generators().values()) if entry.file}
    assert {Path(source).name for source in shipped} == {"README.md", "manifest.json", *embedded}
    assert all((ROOT / source).is_file() for source in shipped)


def test_the_embedded_checkpoints_stay_small():
    files = {weights_folder() / entry.file for entry in params.checkpoints() if entry.file}
    assert sum(file.stat().st_size for file in files) <= LARGEST_WEIGHTS
    assert sum(entry.path.stat().st_size for entry in packaged_generators().values()) <= LARGEST_GENERATORS


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "swag_jax" / "py.typed").is_file()


def test_everything_named_for_the_source_archive_exists():
    assert [path for path in BUILD["sdist"]["include"] if not (ROOT / path.lstrip("/")).exists()] == []
    assert [path for path in PROJECT["project"]["license-files"] if not (ROOT / path).is_file()] == []


def test_the_changelog_opens_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+)\] - \d{4}-\d{2}-\d{2}$", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"]


def test_the_console_script_starts(capsys):
    ((name, target),) = PROJECT["project"]["scripts"].items()
    module, _, function = target.partition(":")
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"{name} ")


def test_every_variant_of_jax_has_the_same_bounds():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["cuda"], *extras["cuda12"], *extras["tpu"]]
    bounds = [re.sub(r"^jax(\[\w+\])?(?=[<>=])", "", text) for text in wanted if re.match(r"jax[\[<>=]", text)]
    assert len(bounds) == 4
    assert len(set(bounds)) == 1


def test_the_tools_of_ci_are_pinned():
    tools = [text for text in PROJECT["project"]["optional-dependencies"]["dev"] if not text.startswith("swag-jax")]
    assert [text for text in tools if "==" not in text] == []


def test_files_are_small():
    folders = ("swag_jax", "weights", "tests", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_size >= LARGEST] == []


def modules_after(statement):
    """The modules that are loaded after a statement in a new process."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_start_imports_little():
    assert "jax" not in modules_after("import swag_jax")
    loaded = modules_after("from swag_jax import cli; cli.parse(['apply', 'adain', 'a.png', 'b.png', '-o', 'c.png'])")
    assert "swag_jax.apply.drivers" in loaded
    others = {"swag_jax.optimize", "swag_jax.train", "swag_jax.measure", "swag_jax.presets", "swag_jax.plots"}
    assert loaded & {*others, "swag_jax.cli.train", "orbax.checkpoint", "matplotlib", "gradio", "av"} == set()


def test_the_garbage_collector_runs_once_all_is_imported(tmp_path):
    code = "import gc, sys; sys.argv = ['swag-jax']; import swag_jax.__main__ as program; print(gc.isenabled()); "
    code += "program.main(['weights', 'list']); print(gc.isenabled())"
    words, home = [sys.executable, "-c", code], {**os.environ, "SWAG_JAX_HOME": str(tmp_path)}
    first, *_, last = subprocess.run(words, capture_output=True, text=True, check=True, env=home).stdout.splitlines()
    assert (first, last) == ("False", "True")


def test_every_name_of_the_package_is_found_when_it_is_asked_for():
    names = [name for name in dir(swag_jax) if not name.startswith("_")]
    assert {"stylize", "gram", "presets", "UserError"} <= set(names)
    assert all(hasattr(swag_jax, name) for name in names)
    assert set(swag_jax.__all__) <= {*names, "__version__", "_signals"}
    with pytest.raises(AttributeError, match="module 'swag_jax' has no attribute 'stylise'"):
        getattr(swag_jax, "stylise")  # noqa: B009
