"""Checkpoints of generators: one safetensors file each, which knows what it is a checkpoint of.

Its tensors have our flat names, its metadata the kind of generator and its configuration, so that the file is all that
is needed. Published checkpoints (`swag_jax.generators.layouts`) are converted into such a file, strict both ways.
"""

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import devices, params
from swag_jax._checks import check_name, error, misfits_error
from swag_jax._files import check_apart
from swag_jax._limits import read_json
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import Generator
from swag_jax.generators.kinds import (
    KINDS,
    Config,
    config_type,
    flat_parameters,
    kind_of,
    parameter_shapes,
    with_parameters,
)
from swag_jax.generators.layouts import PUBLISHED, Published, kinds_of
from swag_jax.params._files import file_sha256
from swag_jax.params.convert import checkpoint_shapes, is_safetensors, tensors_sha256, usable_floats
from swag_jax.params.manifest import checkpoint
from swag_jax.params.prefixes import shared_prefixes, without_prefix
from swag_jax.params.safetensors_file import read_metadata, read_safetensors, write_safetensors

_CONVERTER_VERSION = "1"
"""Grows when the same files would convert to other numbers."""

_LARGEST = 2**20
"""Of the numbers in a configuration, and of the layers that it names at most a thousandth: our choice."""


@devices.moves_arrays
def save_generator(path: Path | str, generator: Generator, *, notes: Mapping[str, str] | None = None) -> None:
    """Write a generator with its configuration, whole or not at all.

    Args:
        path: The safetensors file to write.
        generator: Any generator.
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
    _write(Path(path), generator.config, tensors, notes or {})


@devices.moves_arrays
def load_generator(path: Path | str, *, compute: Compute | None = None) -> Generator:
    """Read a generator that `save_generator` or `swag-jax weights convert` wrote.

    Args:
        path: A safetensors file.
        compute: Precision and kernels; default: float32.

    Returns:
        The generator, of the configuration in the file.

    Raises:
        UserError: If the file is no generator's, is damaged, holds other numbers than were written, or does not fit
            its own configuration; one line for every misfit.
    """
    path = Path(path)
    config = _read_config(path)
    expected, found = parameter_shapes(config), checkpoint_shapes(path)
    misfits = _misfits(found, expected)
    fitting = [name for name, shape in found.items() if shape == expected.get(name)]
    tensors, unusable = usable_floats(path, fitting)
    if misfits or unusable:
        raise misfits_error(f"{path} must fit the {kind_of(config)} generator that it describes", misfits + unusable)
    _check_hash(path, tensors)
    return with_parameters(config, tensors, compute=compute)


def encoder_notes(source: params.Source, *, seed: int = 0, padding: str = "auto") -> dict[str, str]:
    """Return the metadata by which a generator's encoder is found again.

    Args:
        source: Where the encoder's weights came from.
        seed: Of weights that are random.
        padding: A VGG's; `auto` is that of its weights.

    Example:
        >>> encoder_notes(params.resolve("vgg19", weights="random"), seed=3)["encoder_seed"]
        '3'
    """
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
    names, homes, misfits = published.tensors, {}, []
    for source in sources:
        prefix, shapes = _unwrapped(source, published)
        for key, shape in shapes.items():
            if key in homes:
                misfits.append(f"{key} is in {homes[key][0].name} and in {source.name}")
            homes[key] = source, prefix, shape
    expected = _foreign_shapes(names, parameter_shapes(published.config))
    misfits += _misfits({key: shape for key, (_, _, shape) in homes.items()}, expected)
    tensors: dict[str, np.ndarray] = {}
    for source, prefix in {(home, prefix): None for home, prefix, _ in homes.values()}:
        # What has another shape is not read: it could have any size.
        own = [key for key, (home, _, shape) in homes.items() if home == source and shape == expected.get(key)]
        values, unusable = usable_floats(source, own, prefix=prefix)
        misfits += unusable
        tensors |= {names[key]: _arranged(value, published.scales.get(names[key])) for key, value in values.items()}
    if misfits:
        files = " and ".join(map(str, sources))
        parts = " and ".join(published.files)
        raise misfits_error(f"{files} must together be a published {kind} generator ({parts})", misfits)
    _write(output, published.config, tensors, {**_encoder_of(published), **_origin(sources)})
    return published.config


def _unwrapped(source: Path, published: Published) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return what stands in front of a file's keys, and the shapes without it and without what is left out."""
    shapes, names = checkpoint_shapes(source), published.tensors
    prefixes = shared_prefixes(shapes)
    prefix = next((p for p in prefixes if any(key in names for key in without_prefix(shapes, p))), "")
    inner = without_prefix(shapes, prefix)
    return prefix, {key: shape for key, shape in inner.items() if key in names or not published.dropped(key)}


def _encoder_of(published: Published) -> dict[str, str]:
    if published.reads is None:
        return {}
    known = checkpoint(published.reads)
    return encoder_notes(params.Source("file", known.name, known.backbone, sha256=known.sha256))


def _misfits(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    wrong = [
        f"{name} has shape {tuple(shape)}, expected {expected[name]}" if name in expected else f"unexpected {name}"
        for name, shape in found.items()
        if tuple(shape) != expected.get(name)
    ]
    return wrong + [f"missing {name}" for name in expected if name not in found]


def _foreign_shapes(names: Mapping[str, str], ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return what PyTorch's tensors must be: kernels are (out, in, height, width)."""

    def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape

    return {key: turned(ours[name]) for key, name in names.items()}


def _arranged(value: np.ndarray, scale: float | None) -> np.ndarray:
    ours = np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value
    return ours if scale is None else (ours.astype(np.float64) * scale).astype(np.float32)


def _origin(sources: Iterable[Path]) -> dict[str, str]:
    hashes = {source.name: file_sha256(source) for source in sources}
    return {"source_sha256": json.dumps(hashes), "converter_version": _CONVERTER_VERSION}


def _check_hash(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise where the file says what its float32 tensors were, and they are others."""
    noted = read_metadata(path).get("tensors_sha256")
    # The file's own numbers, where they are not float32.
    if noted is not None and noted not in map(tensors_sha256, (tensors, read_safetensors(path))):
        cure = "bring back a copy, or convert it again"
        raise error(f"{path} must hold the numbers that were written", got="others: it is damaged", cure=cure)


def _write(path: Path, config: Config, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
    own = {
        "generator": kind_of(config),
        "config": json.dumps(dataclasses.asdict(config)),
        "tensors_sha256": tensors_sha256(tensors),
    }
    write_safetensors(path, tensors, {**notes, **own})


def _read_config(path: Path) -> Config:
    metadata = read_metadata(path) if is_safetensors(path) else {}
    kind = metadata.get("generator")
    if kind is None or kind not in KINDS:
        what = kind or metadata.get("backbone")
        raise error(
            f"{path} must be the checkpoint of a generator ({', '.join(KINDS)}) in a file of our own",
            got=f"one of {what}" if what else "a file that does not say what it is",
            cure=_conversion(path),
        )
    try:
        return _config(config_type(kind), read_json(metadata["config"]))
    except (KeyError, TypeError, ValueError) as problem:
        raise error(
            f"{path} must hold the configuration of a {kind} generator", got=f"another ({problem})"
        ) from problem


def _conversion(path: Path) -> str:
    """Say which command makes a generator of ours from a file, as far as its keys tell."""
    shapes = checkpoint_shapes(path)
    found = next(filter(None, (kinds_of(without_prefix(shapes, p)) for p in shared_prefixes(shapes))), ())
    kind = found[0] if len(found) == 1 else "KIND"
    others = {part for name in found or PUBLISHED for part in PUBLISHED[name].files}
    files = str(path) if found and len(others) == 1 else f"{path} [ITS OTHER FILES]"
    kinds = "" if len(found) == 1 else f", KIND being {' or '.join(found or PUBLISHED)}"
    return (
        f"convert a published one with `swag-jax weights convert {files} --generator {kind} -o OUT.safetensors`{kinds}"
    )


def _config(cls: type, fields: Any) -> Any:
    """Build a configuration of what a file says, each field of its type.

    Raises:
        ValueError: If a field is unknown, or its value is of another type or beyond all bounds.
    """
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
