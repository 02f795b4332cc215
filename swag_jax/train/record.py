"""The settings of a run in its folder, which must be the same when the run is resumed."""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from swag_jax._checks import error, printable
from swag_jax._files import replacing
from swag_jax.generators.checkpoint import GENERATOR_FILE
from swag_jax.params.safetensors_file import read_metadata

FILE = "settings.json"

_SHOWN, _WIDTH = 5, 200
"""Settings that differ which an error names, and characters of each value."""


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write a run's settings, as JSON has them."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n")


def check_settings(
    folder: Path, settings: Mapping[str, Any], *, free: Collection[str], say: Callable[[str], object]
) -> None:
    """Raise if the folder holds a run of other settings; those in `free` may differ.

    `say` is called with a line if the file is damaged and the settings are read from a generator.
    """
    found, wanted = _recorded(folder, say), _flat(settings)
    if found is None:
        return
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if different := [name for name in names if name not in free]:
        shown = "; ".join(
            f"{_brief(name)} {_brief(found.get(name))} there and {_brief(wanted.get(name))} here"
            for name in different[:_SHOWN]
        )
        more = f"; and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        cure = "choose another -o, or the flags it began with"
        raise error(f"{folder} must hold a run of these settings", got=shown + more, cure=cure)


def fingerprint(images: Sequence[Path]) -> str:
    """Return the number of images and a hash of their names."""
    # Names that are no UTF-8 count with the bytes that they have.
    names = hashlib.sha256(b"\n".join(os.fsencode(path.name) for path in images)).hexdigest()
    return f"{len(images)} images {names[:16]}"


def _recorded(folder: Path, say: Callable[[str], object]) -> dict[str, Any] | None:
    # Each generator of the run has a copy of its settings.
    file = folder / FILE
    found, problem = _read(file.read_bytes) if file.is_file() or not file.exists() else (None, "no file")
    if found is not None:
        return found
    for path in [folder / GENERATOR_FILE, *sorted(folder.glob("generator-*.safetensors"), reverse=True)]:
        found, _ = _read(lambda path=path: read_metadata(path)["training"])
        if found is not None:
            say(f"the settings of the run are those that {path} was trained with; of {file}: {problem}")
            return found
    if not file.exists() and not any((folder / "checkpoints").glob("[0-9]*")):
        return None
    cure = "bring back a copy, or choose another -o"
    raise error(f"{file} must hold the settings of the run in its folder", got=problem, cure=cure)


def _read(read: Callable[[], str | bytes]) -> tuple[dict[str, Any] | None, str]:
    # The settings, flat; or what is wrong with them.
    try:
        found = json.loads(read())
        return (_flat(found), "") if isinstance(found, dict) else (None, "something else than settings")
    except (FileNotFoundError, KeyError):
        return None, "it is missing"
    except (OSError, ValueError, RecursionError) as problem:
        return None, f"it cannot be read ({type(problem).__name__})"


def _brief(value: Any) -> str:
    # One short piece of a line, whatever a file held.
    text = printable(str(value)[: _WIDTH + 1])
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        name: value for key, sub in tree.items() for name, value in _flat(sub, f"{prefix}.{key}".strip(".")).items()
    }
