"""A checkpoint's file of either format, safetensors or PyTorch: shapes and float32 tensors by its own keys.

A safetensors file may hold tensors in 8 bits (`swag_jax.params.quantize`); here they are floating-point ones.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from swag_jax._checks import error
from swag_jax.params._files import check_file
from swag_jax.params.prefixes import without_prefix
from swag_jax.params.quantize import as_float32, companion_keys, decode
from swag_jax.params.safetensors_file import TYPES, read_safetensors, safetensors_header
from swag_jax.params.torch_file import read_torch, torch_shapes
from swag_jax.params.tree import Tensors


def checkpoint_shapes(source: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a file, by its own keys; 8-bit ones include their steps and tables."""
    if not is_safetensors(source):
        return torch_shapes(source)
    header = safetensors_header(source)
    companions = companion_keys({key: kind for key, (kind, _) in header.items()}).values()
    return {key: shape for key, (_, shape) in header.items() if key not in companions}


def read_floats(source: Path, keys: Collection[str]) -> Tensors:
    """Return tensors of a safetensors or PyTorch file as float32 arrays; a `UserError` unless all are finite."""
    floats, unusable = usable_floats(source, keys)
    if unusable:
        raise error(f"{source} must hold finite floating-point numbers", got="; ".join(unusable))
    return floats


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Return one SHA-256 over all names, shapes and values: the same for the same weights in any file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def is_safetensors(source: Path) -> bool:
    """Tell whether a file is a safetensors file, or is called one; otherwise it should be a PyTorch file."""
    # By content, since users rename files: a safetensors file is a 64-bit length and then a JSON object.
    with check_file(source).open("rb") as file:
        return file.read(9)[8:] == b"{" or source.suffix == ".safetensors"


def usable_floats(source: Path, keys: Collection[str], *, prefix: str = "") -> tuple[Tensors, list[str]]:
    """Read tensors as float32, by keys without the prefix, and say in one line each which are not finite numbers."""
    values, unusable = _read(source, [prefix + key for key in keys])
    floats = {}
    for key, value in without_prefix(values, prefix).items():
        if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
            unusable.append(f"{key} holds {value.dtype} numbers, expected floating-point ones")
            continue
        floats[key], bad = as_float32(value)
        if bad:
            unusable.append(f"{key} holds {bad} NaN or infinite values")
    return floats, unusable


def _read(source: Path, keys: Collection[str]) -> tuple[Tensors, list[str]]:
    if not is_safetensors(source):
        return read_torch(source, names=keys), []
    types = {key: kind for key, (kind, _) in safetensors_header(source).items()}
    foreign = [key for key in keys if types[key] not in TYPES.values()]
    known = set(keys).difference(foreign)
    # An 8-bit tensor needs the steps or the table that decode it.
    companions = [companion for key, companion in companion_keys(types).items() if key in known]
    decoded, misfits = decode(read_safetensors(source, names=[*known, *companions]))
    return decoded, [f"{key} holds {types[key]} numbers, which are not read" for key in foreign] + misfits
