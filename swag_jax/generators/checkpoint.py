"""Checkpoints of generators: one safetensors file each, which knows what it is a checkpoint of.

Its tensors have our flat names, its metadata the kind of generator and its configuration, so that the file is all that
is needed. Published checkpoints (`swag_jax.generators.layouts`) are converted into such a file, strict both ways.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import params
from swag_jax._checks import check_name, error, misfits_error
from swag_jax._files import check_apart
from swag_jax.backbones import Operations
from swag_jax.features import Tap
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
from swag_jax.generators.layouts import PUBLISHED

_CONVERTER_VERSION = "1"
"""Grows when the same files would convert to other numbers."""

_ENCODER = "vgg19-normalized-adain"
"""The network that all published generators read, by its name in the manifest of checkpoints."""


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


def load_generator(path: Path | str, *, operations: Operations | None = None) -> Generator:
    """Read a generator that `save_generator` or `swag-jax weights convert` wrote.

    Args:
        path: A safetensors file.
        operations: Precision and kernels; default: float32.

    Returns:
        The generator, of the configuration in the file.

    Raises:
        UserError: If the file is no generator's, is damaged, holds other numbers than were written, or does not fit
            its own configuration; one line for every misfit.
    """
    path = Path(path)
    config = _read_config(path)
    expected, found = parameter_shapes(config), params.checkpoint_shapes(path)
    misfits = _misfits(found, expected)
    tensors, unusable = params.usable_floats(path, [name for name in found if name in expected])
    if misfits or unusable:
        raise misfits_error(f"{path} must fit the {kind_of(config)} generator that it describes", misfits + unusable)
    _check_hash(path, tensors)
    return with_parameters(config, tensors, operations=operations)


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
        for key, shape in params.checkpoint_shapes(source).items():
            if key in homes:
                misfits.append(f"{key} is in {homes[key][0].name} and in {source.name}")
            homes[key] = source, shape
    ours = parameter_shapes(published.config)
    misfits += _misfits({key: shape for key, (_, shape) in homes.items()}, _foreign_shapes(names, ours))
    tensors: dict[str, np.ndarray] = {}
    for source in sources:
        own = [key for key, (home, _) in homes.items() if home == source and key in names]
        values, unusable = params.usable_floats(source, own)
        misfits += unusable
        tensors |= {names[key]: _arranged(value) for key, value in values.items()}
    if misfits:
        files = " and ".join(map(str, sources))
        parts = " and ".join(published.files)
        raise misfits_error(f"{files} must together be a published {kind} generator ({parts})", misfits)
    known = params.checkpoint(_ENCODER)
    encoder = params.Source("file", known.name, known.backbone, sha256=known.sha256)
    _write(output, published.config, tensors, {**encoder_notes(encoder), **_origin(sources)})
    return published.config


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


def _arranged(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value.transpose(2, 3, 1, 0)) if value.ndim == 4 else value


def _origin(sources: Iterable[Path]) -> dict[str, str]:
    hashes = {source.name: params.file_sha256(source) for source in sources}
    return {"source_sha256": json.dumps(hashes), "converter_version": _CONVERTER_VERSION}


def _check_hash(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise where the file says what its float32 tensors were, and they are others."""
    noted = params.read_metadata(path).get("tensors_sha256")
    # The file's own numbers, where they are not float32.
    if noted is not None and noted not in map(params.tensors_sha256, (tensors, params.read_safetensors(path))):
        cure = "bring back a copy, or convert it again"
        raise error(f"{path} must hold the numbers that were written", got="others: it is damaged", cure=cure)


def _write(path: Path, config: Config, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> None:
    own = {
        "generator": kind_of(config),
        "config": json.dumps(dataclasses.asdict(config)),
        "tensors_sha256": params.tensors_sha256(tensors),
    }
    params.write_safetensors(path, tensors, {**notes, **own})


def _read_config(path: Path) -> Config:
    metadata = params.read_metadata(path)
    if metadata.get("generator") not in KINDS:
        what = metadata.get("generator") or metadata.get("backbone")
        raise error(
            f"{path} must be the checkpoint of a generator ({', '.join(KINDS)})",
            got=f"one of {what}" if what else "a file that does not say what it is",
            cure="convert a published one with `swag-jax weights convert --generator`",
        )
    kind = metadata["generator"]
    try:
        fields: dict[str, Any] = json.loads(metadata["config"])
        if "taps" in fields:
            fields["taps"] = tuple(Tap(**tap) for tap in fields["taps"])
        return config_type(kind)(**fields)
    except (KeyError, TypeError, ValueError) as problem:
        raise error(
            f"{path} must hold the configuration of a {kind} generator", got=f"another ({problem})"
        ) from problem
