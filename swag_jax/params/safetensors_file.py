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

_WHOLE = {f"{letter}{n}": f"{kind}{n}" for letter, kind in (("I", "int"), ("U", "uint")) for n in (8, 16, 32, 64)}
TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "BOOL": "bool", **_WHOLE}
"""NumPy's name of each type of numbers that is read. It has none of float8 and others."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    try:
        with safe_open(check_file(path), framework="np") as file:
            yield file
    # AttributeError and TypeError: a precision that numpy lacks, such as float8.
    except (SafetensorError, OSError, AttributeError, TypeError, UnicodeDecodeError) as problem:
        rule, got = f"{path} must be a complete safetensors file", f"one that cannot be read ({problem})"
        raise error(rule, got=got, cure="download it again") from problem


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty if it has none."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def safetensors_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type of every tensor's numbers, by NumPy's name if it is one of `TYPES`, and the tensor's shape."""
    with _opened(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        types = {name: str(part.get_dtype()) for name, part in parts.items()}
        return {name: (TYPES.get(types[name], types[name]), tuple(part.get_shape())) for name, part in parts.items()}


def read_safetensors(path: Path, *, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read tensors, all by default, in the file's precision."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata at once: `path` holds all of them, or what it held before."""
    # The writer takes each array's bytes as they lie, so a transposed view must be copied first.
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    # From memory: the writer's own file has a mode that ignores the umask.
    write_whole(path, save(whole, dict(metadata)))
