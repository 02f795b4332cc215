"""Safetensors files: names, shapes, types, metadata and tensors, each read without the others."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from swag_jax._checks import error
from swag_jax._files import write_whole
from swag_jax.params._files import check_file

_READ = ("F16", "BF16", "F32", "F64", "BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")
"""Types of numbers, as the format calls them, that numpy holds; float8 and others it does not."""


def is_read(kind: str) -> bool:
    """Tell whether numbers of a type, such as `F32`, are read.

    Args:
        kind: As `safetensors_types` returns it.
    """
    return kind in _READ


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """Open a safetensors file, and turn what goes wrong while reading it into one clear error."""
    try:
        with safe_open(check_file(path), framework="np") as file:
            yield file
    # AttributeError and TypeError: a precision that numpy lacks, such as float8.
    except (SafetensorError, OSError, AttributeError, TypeError, UnicodeDecodeError) as problem:
        raise error(
            f"{path} must be a complete safetensors file",
            got=f"one that cannot be read ({problem})",
            cure="download it again",
        ) from problem


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty if it has none.

    Args:
        path: A safetensors file.

    Raises:
        UserError: If the file is not a complete safetensors file.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor, reading only the header.

    Raises:
        UserError: If the file is not a complete safetensors file.
    """
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def safetensors_types(path: Path) -> dict[str, str]:
    """Return the type of every tensor's numbers as the file calls it, such as `F32` or `I8`, reading only the header.

    Raises:
        UserError: If the file is not a complete safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118


def read_safetensors(path: Path, *, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read tensors, all by default, in the file's precision.

    Args:
        path: A safetensors file.
        names: The tensors to read; all by default.

    Returns:
        Arrays by name.

    Raises:
        UserError: If the file is not a complete safetensors file, or has no tensor of that name.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata at once: `path` holds all of them, or what it held before.

    Args:
        path: The file to write.
        tensors: Arrays by name.
        metadata: Texts by name.

    Raises:
        UserError: If the file cannot be written.
    """
    # The writer takes each array's bytes as they lie, so a transposed view must be copied first.
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    # From memory: the writer's own file has a mode that ignores the umask.
    write_whole(path, save(whole, dict(metadata)))
