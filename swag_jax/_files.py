"""Writing a file whole or not at all, and reading what another process may have left damaged."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swag_jax._checks import error


def check_target(path: Path, *, what: str) -> None:
    """Check, before long work starts, that a file can be written.

    Args:
        path: The file, which need not exist.
        what: What to call it.

    Raises:
        UserError: If it is a folder, or its folder is missing or not writable.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise error(f"{what} must name a file in an existing, writable folder", got=path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` at the end, or vanishes if the body fails.

    Beside, not in the system's temporary folder: a rename is atomic only within one file system.

    Raises:
        UserError: If the folder or the file cannot be written.
    """
    if "\0" in str(path):
        raise error("a file's name must not contain a NUL character", got=repr(str(path)))
    # A short name of its own: where only the target's name is too long, cleaning up still works.
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as problem:
        raise error(f"cannot write {path}: {problem}", cure="choose a folder you may write to") from problem


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    r"""Return the JSON objects of a file with one on each line, whatever else stands there.

    Args:
        path: The file, which need not exist.

    Returns:
        The objects in order, and the number of other lines. One at the end that a killed process left half written is
        not counted.

    Raises:
        UserError: If the file is there and cannot be read.

    Example:
        >>> _ = Path("lines.jsonl").write_bytes(b'{"a": 1}\n\xff\n[2]\n{"b": 3}\n{"half')
        >>> read_json_lines(Path("lines.jsonl"))
        ([{'a': 1}, {'b': 3}], 2)
    """
    if not path.exists():
        return [], 0
    if not path.is_file():
        raise error(f"{path} must be a file", cure="move it away")
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    whole = [_json_object(line) for line in lines if line.strip()]
    found = [each for each in (*whole, _json_object(last)) if each is not None]
    return found, whole.count(None)


def _json_object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
