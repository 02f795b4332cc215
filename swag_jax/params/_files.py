"""Small steps every reader and writer here shares: checks, hashes, writing without leaving halves behind."""

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path

from swag_jax._checks import error


def check_file(path: Path) -> Path:
    """Return `path` if it is a file with something in it.

    Raises:
        UserError: If it is missing, a directory, or empty.
    """
    if path.is_dir():
        raise error("weights must be a file", got=f"the directory {path}")
    if not path.is_file():
        raise error(f"no file {path}", cure="check the path; `swag-jax weights list` shows known weights")
    if path.stat().st_size == 0:
        raise error(f"{path} is empty", cure="download it again")
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` at the end, or vanishes if the body fails.

    Beside, not in the system's temporary folder: a rename is atomic only within one file system.

    Raises:
        UserError: If the folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as problem:
        raise error(f"cannot write {path}: {problem}", cure="choose a folder you may write to") from problem
    finally:
        temporary.unlink(missing_ok=True)
