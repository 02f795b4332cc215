"""What every reader here shares: checks and hashes."""

import hashlib
from pathlib import Path

from swag_jax._checks import error
from swag_jax._files import what_is_missing


def check_file(path: Path) -> Path:
    """Return `path` if it is a file that can be read and has something in it; otherwise raise a `UserError`."""
    try:
        if path.is_dir():
            raise error("weights must be a file", got=f"the directory {path}")
        if not path.is_file():
            got = what_is_missing(path) or ("a device or pipe" if path.exists() else None)
            cure = "check the path; `swag-jax weights list` shows known weights"
            raise error(f"no file {path}", got=got, cure=cure)
        with path.open("rb") as file:
            if not file.read(1):
                raise error(f"{path} is empty", cure="download it again")
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
