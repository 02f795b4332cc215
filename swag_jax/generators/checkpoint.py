"""Checkpoints of generators: one safetensors file each, which knows what it is a checkpoint of.

Its tensors have our flat names, its metadata the kind of generator and its configuration, so that the file is all that
is needed. Published checkpoints (`Method.published`) are converted into such a file, strict both ways. Generators that
come with the package are such files too, with kernels in 8 bits (`weights/pack_generator.py`).
"""

import dataclasses
import json
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import devices, params
from swag_jax._checks import UserError, check_name, error, near
from swag_jax._files import check_apart
from swag_jax._limits import read_json
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators.method import Config, Generator
from swag_jax.generators.registry import METHODS, PUBLISHED, kinds_of, method_of, parameter_shapes, with_parameters
from swag_jax.params._files import file_sha256
from swag_jax.params.checkpoint_file import is_safetensors, tensors_sha256
from swag_jax.params.convert import CONVERTER_VERSION, open_part, read_fitting
from swag_jax.params.layouts import Layout
from swag_jax.params.manifest import checkpoint, packaged_generators
from swag_jax.params.safetensors_file import read_metadata, read_safetensors, write_safetensors
from swag_jax.params.tree import flat_parameters

GENERATOR_FILE = "generator.safetensors"
"""What a training run's folder calls its generator."""

_OURS = Layout("native", lambda key: key, axes=(0, 1, 2, 3))

_LARGEST = 2**20
"""Of the numbers in a configuration, and of the layers that it names at most a thousandth: our choice."""


@devices.moves_arrays
def save_generator(path: Path | str, generator: Generator, *, notes: Mapping[str, str] | None = None) -> None:
    """Write a generator with its configuration, whole or not at all.

    Args:
        path: The safetensors file.
        notes: Further metadata, such as what it was trained on.

    Raises:
        UserError: If the file cannot be written.

    Example:
        >>> from swag_jax import generators
        >>> small = generators.create(generators.JohnsonConfig(channels=2, blocks=1))
        >>> save_generator("small.safetensors", small)
        >>> load_generator("small.safetensors").config.channels
        2
    """
    tensors = {name: np.asarray(array) for name, array in flat_parameters(generator).items()}
    write_generator(Path(path), generator.config, tensors, notes or {})


@devices.moves_arrays
def load_generator(path: Path | str, *, compute: Compute | None = None) -> Generator:
    """Return a generator that `save_generator` or `swag-jax weights convert` wrote, of the file's configuration.

    Args:
        path: The file, a training run's folder, or the name of a generator that comes with the package.

    Raises:
        UserError: If the name is unknown, or the file is no generator's, is damaged, holds other numbers than were
            written, or does not fit its own configuration; one line for every misfit.
    """
    path = find_generator(path)
    config = _read_config(path)
    rule = f"{path} must fit the {method_of(config).name} generator that it describes"
    tensors = read_fitting([open_part(path, bool)], _OURS, parameter_shapes(config), rule=rule)
    _check_hash(path, tensors)
    return with_parameters(config, tensors, compute=compute)


def find_generator(path: Path | str, *, words: Sequence[str] = ()) -> Path:
    """Return the file of a generator: a path, that of a training run's folder, or the name of one in the package.

    What lies at the path counts before the name.

    Args:
        words: What else may stand there, for the error.
    """
    path = Path(path)
    file = path / GENERATOR_FILE if path.is_dir() else path
    packaged, name = packaged_generators(), str(path)
    if name in packaged and not file.exists():
        return packaged[name].path
    # A word without a folder or a suffix is a misspelled name rather than a path.
    if path.parent == Path() and not path.suffix and not os.path.lexists(path):
        raise _unknown(name, [*words, *packaged])
    return file


def _unknown(name: str, names: Sequence[str]) -> UserError:
    cure = "pass a checkpoint's path or a training run's folder"
    if not names:
        return error(f"no generator comes with this installation, so none is called {name!r}", cure=cure)
    return UserError(f"unknown generator {name!r}: {near(name, names)} Or {cure}.")


def encoder_notes(source: params.Source, *, seed: int = 0, padding: str = "auto") -> dict[str, str]:
    """Return the metadata by which a generator's encoder is found again; `seed` is that of random weights."""
    return {
        "encoder": source.name,
        "encoder_backbone": source.backbone,
        "encoder_kind": source.kind,
        "encoder_sha256": source.sha256 or "",
        "encoder_seed": str(seed),
        "encoder_padding": padding,
    }


def convert_generator(sources: Sequence[Path], kind: str, output: Path) -> Config:
    """Write one checkpoint from the files of a published one.

    Args:
        sources: All of its files, in any order.
        kind: One of `PUBLISHED`.
        output: The safetensors file to write.

    Returns:
        What the generator is made of.

    Raises:
        UserError: If the kind is unknown, a file cannot be read, or the files together do not fit; one line for every
            misfit. Nothing is written then.
    """
    published = PUBLISHED[check_name(kind, PUBLISHED, what="generator")]
    check_apart([("the output", output)], [("a file of the published one", source) for source in sources])
    layout = published.layout
    opened = [open_part(source, lambda shapes: any(map(layout.rename, shapes))) for source in sources]
    files, parts = " and ".join(map(str, sources)), " and ".join(published.files)
    rule = f"{files} must together be a published {kind} generator ({parts})"
    tensors = read_fitting(opened, layout, parameter_shapes(published.config), rule=rule)
    notes = {"source_sha256": json.dumps({source.name: file_sha256(source) for source in sources})}
    if published.reads is not None:
        known = checkpoint(published.reads)
        notes |= encoder_notes(params.Source("file", known.name, known.backbone, sha256=known.sha256))
    write_generator(output, published.config, tensors, notes | {"converter_version": CONVERTER_VERSION})
    return published.config


def write_generator(path: Path, config: Config, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
    """Write a generator's tensors, which may be in 8 bits, with its configuration and `notes` as metadata."""
    own = {
        "generator": method_of(config).name,
        "config": json.dumps(dataclasses.asdict(config)),
        "tensors_sha256": tensors_sha256(tensors),
    }
    write_safetensors(path, tensors, {**notes, **own})


def _check_hash(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    noted = read_metadata(path).get("tensors_sha256")
    # Of the tensors as float32, or as they are in the file.
    if noted is not None and noted not in map(tensors_sha256, (tensors, read_safetensors(path))):
        cure = "bring back a copy, or convert it again"
        raise error(f"{path} must hold the numbers that were written", got="others: it is damaged", cure=cure)


def _read_config(path: Path) -> Config:
    metadata = read_metadata(path) if is_safetensors(path) else {}
    kind = metadata.get("generator")
    if kind is None or kind not in METHODS:
        what = kind or metadata.get("backbone")
        raise error(
            f"{path} must be the checkpoint of a generator ({', '.join(METHODS)}) in a file of our own",
            got=f"one of {what}" if what else "a file that does not say what it is",
            cure=_conversion(path),
        )
    try:
        return _config(METHODS[kind].config, read_json(metadata["config"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise error(
            f"{path} must hold the configuration of a {kind} generator", got=f"another ({problem})"
        ) from problem


def _conversion(path: Path) -> str:
    """Say which command makes a generator of ours from a file, as far as its keys tell."""
    found = kinds_of(open_part(path, kinds_of).shapes)
    kind = found[0] if len(found) == 1 else "KIND"
    others = {part for name in found or PUBLISHED for part in PUBLISHED[name].files}
    files = str(path) if found and len(others) == 1 else f"{path} [ITS OTHER FILES]"
    kinds = "" if len(found) == 1 else f", KIND being {' or '.join(found or PUBLISHED)}"
    return (
        f"convert a published one with `swag-jax weights convert {files} --generator {kind} -o OUT.safetensors`{kinds}"
    )


def _config(cls: type, fields: Any) -> Any:
    # A file may say anything: unknown fields, other types, and numbers beyond all bounds are refused.
    if not isinstance(fields, dict):
        raise ValueError("no table of fields")
    types = typing.get_type_hints(cls)
    if unknown := [name for name in fields if name not in types]:
        raise ValueError(f"unknown {', '.join(map(repr, unknown[:3]))}")
    return cls(**{name: _typed(value, types[name], name) for name, value in fields.items()})


def _typed(value: Any, wanted: Any, name: str) -> Any:
    if wanted == tuple[LayerSpec, ...]:
        if not isinstance(value, list) or len(value) > _LARGEST // 1000:
            raise ValueError(f"{name} must be a list of layers")
        return tuple(_config(LayerSpec, tap) for tap in value)
    plain = wanted if isinstance(wanted, type) else str
    if type(value) is not plain or (plain is int and abs(value) > _LARGEST):
        raise ValueError(f"{name} must be {plain.__name__}, not {str(value)[:40]}")
    return value
