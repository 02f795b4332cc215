"""The checkpoints this package knows: what they are, where they are, their terms and their hashes.

The list is `weights/manifest.json`, next to the checkpoints that come with the package: networks under `checkpoints`,
trained generators under `generators`.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from swag_jax._checks import check_name, error

Kind: TypeAlias = Literal["imagenet", "embedded", "manual"]
"""`imagenet`: to be fetched. `embedded`: part of the package. `manual`: to be supplied by the user."""


@dataclass(frozen=True)
class Hub:
    """A file on the Hugging Face hub at one commit."""

    repository: str
    file: str
    revision: str


@dataclass(frozen=True)
class Checkpoint:
    """One entry of the manifest.

    Attributes:
        layout: How its original file lays out the weights.
        architecture: How the network differs from the zoo's of that name, such as `{"version": "v1"}`.
        unit_mean: Whether a VGG's filters are rescaled to a mean activation of one as it is read.
        url: The original elsewhere, tried if the hub is out of reach.
        url_sha256_prefix: First digits of the SHA-256 of the file at `url`, as its publisher gives them.
        file: The file in the package's weights folder, for embedded ones.
        sha256: Of the hub's, the embedded or the user's file.
        pinned_by: What makes sure that the file is the right one, in words.
        top1: Published top-1 accuracy on ImageNet, in percent.
        default: Whether it is what `imagenet` means for its network.
    """

    name: str
    backbone: str
    kind: Kind
    layout: str
    normalization: str
    padding: str
    architecture: Mapping[str, Any]
    deepest_layer: str
    unit_mean: bool
    hub: Hub | None
    url: str | None
    url_sha256_prefix: str | None
    file: str | None
    sha256: str | None
    pinned_by: str
    source: str
    trained_on: str
    license: str
    terms: str
    top1: float | None
    default: bool


@dataclass(frozen=True)
class PackagedGenerator:
    """A trained generator that comes with the package; its file also says what it is made of and trained by.

    Attributes:
        method: The kind of generator, such as `adain`.
        encoder: The checkpoint whose activations it reads; `None` if it reads images.
        file: In the package's weights folder.
        sha256: Of the file.
        largest_error: What its 8 bits cost: the largest difference of an output pixel, as a share of the largest value.
    """

    name: str
    method: str
    encoder: str | None
    file: str
    sha256: str
    source: str
    trained_on: str
    license: str
    terms: str
    largest_error: float

    @property
    def path(self) -> Path:
        """Where the file is, if it is here."""
        return weights_folder() / self.file


def weights_folder() -> Path:
    """Return the folder of the manifest and the embedded checkpoints: `swag_jax/_weights`, in a checkout `weights`."""
    package = Path(__file__).parents[1]
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def checkpoints() -> tuple[Checkpoint, ...]:
    """Return every checkpoint of the manifest, in its order; a `UserError` if it is missing or damaged."""
    return _read(weights_folder() / "manifest.json")[0]


def packaged_generators() -> dict[str, PackagedGenerator]:
    """Return the generators of the manifest whose files are here, by name."""
    entries = _read(weights_folder() / "manifest.json")[1]
    return {entry.name: entry for entry in entries if entry.path.is_file()}


@functools.cache
def _read(path: Path) -> tuple[tuple[Checkpoint, ...], tuple[PackagedGenerator, ...]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        networks = (
            Checkpoint(**{**entry, "hub": entry["hub"] and Hub(**entry["hub"])}) for entry in found["checkpoints"]
        )
        return tuple(networks), tuple(PackagedGenerator(**entry) for entry in found["generators"])
    except (OSError, ValueError, KeyError, TypeError) as problem:
        rule, got = f"{path} must be this package's list of checkpoints", f"something else ({problem})"
        raise error(rule, got=got, cure="install swag_jax again") from problem


def checkpoint(name: str) -> Checkpoint:
    """Return the checkpoint called `name`; a `UserError` with near names if there is none."""
    known = {entry.name: entry for entry in checkpoints()}
    return known[check_name(name, known, what="checkpoint")]


def default_checkpoint(backbone: str) -> Checkpoint | None:
    """Return what `imagenet` means for a network, or `None` if no ImageNet checkpoint of it is known."""
    return next((entry for entry in checkpoints() if entry.backbone == backbone and entry.default), None)


def embedded_checkpoint(backbone: str) -> Checkpoint | None:
    """Return the checkpoint of a network that comes with the package, or `None`."""
    return next((entry for entry in checkpoints() if entry.backbone == backbone and entry.kind == "embedded"), None)


def checkpoint_of_file(sha256: str) -> Checkpoint | None:
    """Return the checkpoint whose original file has this SHA-256, or `None` for an unknown file."""
    for entry in checkpoints():
        if sha256 == entry.sha256 or (entry.url_sha256_prefix and sha256.startswith(entry.url_sha256_prefix)):
            return entry
    return None
