"""Writing a file whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

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
