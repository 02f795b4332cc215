"""From what the user asks for (`auto`, `imagenet`, `embedded`, `random`, a path) to weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from swag_jax._checks import UserError, error, near
from swag_jax.params._files import check_file, file_sha256
from swag_jax.params.checkpoint_file import read_floats
from swag_jax.params.convert import Setup, inspect, read_parameters
from swag_jax.params.manifest import (
    Checkpoint,
    checkpoint,
    checkpoint_of_file,
    checkpoints,
    default_checkpoint,
    embedded_checkpoint,
    weights_folder,
)
from swag_jax.params.rescale import MEAN_ACTIVATION, divided
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.params.store import stored, stored_path
from swag_jax.params.tree import Shapes, Tensors, depth_of, layer_of

WEIGHTS = ("auto", "imagenet", "embedded", "random")
"""What `--weights` accepts besides a path or the name of a stored checkpoint."""

SourceKind: TypeAlias = Literal["imagenet", "embedded", "file", "random"]


@dataclass(frozen=True)
class Source:
    """Where a network's weights come from, and what they ask of it.

    Attributes:
        kind: `imagenet` (from the store, trained on ImageNet), `embedded`, `file`, or `random`.
        path: The file; `None` for random weights.
        sha256: Of the original checkpoint; `None` for random weights.
        normalization: How images in [0, 1] become the network's input; `None` for the network's default.
        architecture: How the network differs from the zoo's of its name, such as `{"version": "v1"}`.
        deepest_layer: The last layer they reach; `None` for the whole network.
        unit_mean: Whether a VGG's filters are rescaled to a mean activation of one as they are read.
    """

    kind: SourceKind
    name: str
    backbone: str
    path: Path | None = None
    sha256: str | None = None
    normalization: str | None = None
    padding: str = "zeros"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    deepest_layer: str | None = None
    unit_mean: bool = False
    note: str = ""

    def describe(self) -> str:
        """Say in one line what they are, such as `random (not trained)`."""
        return f"{self.name} ({self.note})" if self.note else self.name

    def advice(self) -> str | None:
        """Say in one line how to get trained ones; `None` if these are, or if none are known."""
        better = default_checkpoint(self.backbone)
        if self.kind != "random" or better is None:
            return None
        return f"for weights trained on ImageNet: {_fetch_command(better)}"


def resolve(backbone: str, *, weights: str = "auto") -> Source:
    """Find the weights a user asks for.

    Args:
        weights: `auto` (the embedded checkpoint of a network that has one, on every machine alike; else torchvision's
            ImageNet checkpoint if it is in the local store, else random), `imagenet` (torchvision's), `embedded`,
            `random`, the name of an embedded or a stored checkpoint, or the path of any file that can be converted.

    Returns:
        Where the weights are, and what they ask of the network.
    """
    if weights == "random":
        return _random(backbone)
    if weights == "auto":
        return _embedded(backbone) or _imagenet(backbone) or _random(backbone)
    if weights == "imagenet":
        return _imagenet(backbone) or _raise_not_stored(backbone)
    if weights == "embedded":
        return _embedded(backbone) or _raise_not_embedded(backbone)
    if (entry := _known(weights)) and entry.kind == "embedded":
        return _in_package(backbone, entry)
    if weights in stored():
        return _stored(backbone, weights)
    return _file(backbone, weights)


def load(source: Source, expected: Shapes) -> Tensors:
    """Read the weights of a source: float32 arrays by flat name, kernels in (height, width, in, out) order.

    Returns:
        Those that are `expected`; layers beyond the deepest of them are not read.
    """
    if source.path is None:
        raise error("random weights are made by the network, not loaded")
    # Said before anything is read, since a file that ends early would only report what is missing.
    needed = layer_of(max(expected, key=depth_of))
    if source.deepest_layer is not None and depth_of(source.deepest_layer) < depth_of(needed):
        better = default_checkpoint(source.backbone)
        deeper = f"run `{_fetch_command(better)}`" if better else "pass a complete checkpoint"
        raise error(
            f"{source.name} reaches down to {source.deepest_layer}, not to {needed}",
            cure=f"use shallower layers, or {deeper}",
        )
    tensors = read_parameters(source.path, source.backbone, expected, whole=False)
    return divided(tensors, _divisors(source.path, tensors)) if source.unit_mean else tensors


def _divisors(path: Path, tensors: Tensors) -> Tensors:
    layers = [key.removesuffix(".kernel") for key in tensors if key.endswith(".kernel")]
    means = read_floats(path, [layer + MEAN_ACTIVATION for layer in layers])
    return {key.removesuffix(MEAN_ACTIVATION): value for key, value in means.items()}


def _random(backbone: str) -> Source:
    return Source("random", "random", backbone, note="not trained")


def _imagenet(backbone: str) -> Source | None:
    entry = default_checkpoint(backbone)
    return _stored(backbone, entry.name) if entry and stored_path(entry.name).is_file() else None


def _embedded(backbone: str) -> Source | None:
    entry = embedded_checkpoint(backbone)
    return entry and _in_package(backbone, entry)


def _in_package(backbone: str, entry: Checkpoint) -> Source:
    if entry.backbone != backbone:
        cure = f"pass --backbone {entry.backbone}, or weights of {backbone}"
        raise error(f"{entry.name} must be weights of {backbone}", got=f"weights of {entry.backbone}", cure=cure)
    path, note = check_file(weights_folder() / str(entry.file)), f"in the package, trained on {entry.trained_on}"
    return Source(
        "embedded", entry.name, backbone, path, entry.sha256, **_asked_by(entry), unit_mean=entry.unit_mean, note=note
    )


def _known(name: str) -> Checkpoint | None:
    return next((entry for entry in checkpoints() if entry.name == name), None)


def _stored(backbone: str, name: str) -> Source:
    path = stored_path(name)
    sha256, setup = read_metadata(path).get("source_sha256"), inspect(path, backbone)
    entry = _known(name)
    kind = "imagenet" if entry and entry.kind == "imagenet" else "file"
    note = f"trained on {entry.trained_on}" if entry else _noted("from the local store", setup)
    return Source(kind, name, backbone, path, sha256, **_asked_by(setup), note=note)


def _file(backbone: str, weights: str) -> Source:
    path = Path(weights)
    try:
        check_file(path)
    except UserError:
        # A word without a folder or a suffix is a misspelled name rather than a path.
        if path.parent == Path() and not path.suffix:
            raise _unknown(weights) from None
        raise
    sha256 = file_sha256(path)
    setup, known = inspect(path, backbone, sha256=sha256), checkpoint_of_file(sha256)
    note = f"the file of {known.name}" if known else _noted(f"{setup.layout} layout", setup)
    return Source("file", path.name, backbone, path, sha256, **_asked_by(setup), note=note)


def _asked_by(weights: Checkpoint | Setup) -> dict[str, Any]:
    asked = ("normalization", "padding", "architecture", "deepest_layer")
    return {name: getattr(weights, name) for name in asked}


def _noted(note: str, setup: Setup) -> str:
    return ", ".join(filter(None, (note, setup.describe_input())))


def _unknown(weights: str) -> UserError:
    names = [*WEIGHTS, *stored(), *(entry.name for entry in checkpoints())]
    if weights in names:
        return _not_stored(checkpoint(weights))
    return UserError(f"unknown weights {weights!r}: {near(weights, names)} A file's path is fine too.")


def _raise_not_stored(backbone: str) -> Source:
    entry = default_checkpoint(backbone)
    if entry is None:
        raise error(f"no ImageNet checkpoint of {backbone} is known", cure="pass --weights random or a file")
    raise _not_stored(entry)


def _raise_not_embedded(backbone: str) -> Source:
    other = "imagenet or random" if default_checkpoint(backbone) else "random or a file"
    raise error(f"no checkpoint of {backbone} comes with the package", cure=f"pass --weights {other}")


def _not_stored(entry: Checkpoint) -> UserError:
    by_hand = f"get {entry.source}, then run `swag-jax weights convert FILE --backbone {entry.backbone}`"
    cure = by_hand if entry.kind == "manual" else f"run `{_fetch_command(entry)}`"
    return error(f"{entry.name} is not in the local store", cure=cure)


def _fetch_command(entry: Checkpoint) -> str:
    return f"swag-jax weights fetch {entry.name}"
