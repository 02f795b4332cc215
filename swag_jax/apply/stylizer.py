"""A trained generator with the network that it reads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from swag_jax import backbones, params
from swag_jax._checks import error
from swag_jax._pytree import pytree_dataclass
from swag_jax.attention import Similarity
from swag_jax.backbones import Backbone, Compute, Precision
from swag_jax.backbones.zoo import padding_option
from swag_jax.features import taps
from swag_jax.generators import Generator, load_generator
from swag_jax.generators.checkpoint import find_generator
from swag_jax.generators.registry import method_of, with_parameters
from swag_jax.params.safetensors_file import read_metadata
from swag_jax.params.store import stored
from swag_jax.params.tree import flat_parameters


@pytree_dataclass
@dataclass(frozen=True)
class Stylizer:
    """A generator ready for use; a pytree, to be passed to `jax.jit` as an argument.

    Attributes:
        encoder: The network that the generator reads; `None` for one that reads images.
    """

    encoder: Backbone | None
    generator: Generator

    @property
    def reads_styles(self) -> bool:
        """Whether it takes style images; Johnson's network has its style in its weights."""
        return self.generator.reads_styles

    @property
    def needs_own(self) -> bool:
        """Whether the content must be `read` as its own style to be mixed with what is painted."""
        return self.generator.needs_own

    @property
    def stride(self) -> int:
        """What height and width of a content image must be multiples of, so that all its sizes are whole."""
        if self.encoder is None:
            return self.generator.stride
        return max(self.generator.stride, *self.encoder.strides)

    def extended(self, height: int, width: int) -> tuple[int, int]:
        """Return the next multiples of the stride, of which both sides have two at least.

        Images are reflected beyond their end up to there, and results are cut: our choice.
        """
        # Otherwise layers of different sizes would be compared at displaced samples.
        high, wide = (max(-(-side // self.stride), 2) * self.stride for side in (height, width))
        return high, wide


def load_stylizer(
    path: Path | str,
    *,
    backbone: str | None = None,
    weights: str | None = None,
    similarity: Similarity | None = None,
    precision: Precision = "float32",
) -> Stylizer:
    """Open a generator's checkpoint, with the encoder that it was trained with.

    Args:
        path: A checkpoint that `save_generator` or `swag-jax weights convert` wrote, a training run's folder, or the
            name of a generator that comes with the package (`swag-jax weights list`).
        backbone: The encoder's network; default: the one that the checkpoint names.
        weights: The encoder's weights, as `swag_jax.backbones.load` takes them; default: those that the checkpoint
            names, which must be at hand and of the same hash.
        similarity: How an AdaAttN generator compares positions: softmax or cosine; default: as it was trained.
        precision: `float32`, `tf32` or `bfloat16`.

    Returns:
        The generator and its encoder.

    Raises:
        UserError: If the checkpoint cannot be read, or its encoder's weights are not here.
    """
    path = find_generator(path)
    generator = load_generator(path, compute=Compute(precision=precision))
    if similarity is not None:
        generator = _compared_by(generator, similarity)
    if not generator.layers:
        return Stylizer(None, generator)
    notes = read_metadata(path)
    name = backbone or notes.get("encoder_backbone")
    if name is None:
        raise error(f"{path} must say which encoder it was trained with", cure="pass its backbone and its weights")
    padding = padding_option(name, notes.get("encoder_padding", "auto"))
    encoder, source = backbones.load(
        name,
        weights=weights or _recorded_weights(notes, path),
        layers=generator.layers,
        seed=_recorded_seed(notes, path),
        precision=precision,
        **padding,
    )
    wanted = notes.get("encoder_sha256")
    if weights is None and wanted and source.sha256 != wanted:
        rule = f"{path} was trained with {notes.get('encoder')} of sha256 {wanted}"
        raise error(rule, got=source.sha256, cure="fetch or convert those again, or pass other weights yourself")
    _check_layers(generator, encoder)
    return Stylizer(encoder, generator)


def _compared_by(generator: Generator, similarity: Similarity) -> Generator:
    if not hasattr(generator.config, "similarity"):
        rule = "only an AdaAttN generator compares positions by a similarity of choice"
        raise error(rule, got=f"one of kind {method_of(generator.config).name}", cure="leave the similarity out")
    config = replace(generator.config, similarity=similarity)
    return with_parameters(config, flat_parameters(generator), compute=generator.compute)


def _recorded_weights(notes: Mapping[str, str], path: Path) -> str:
    kind, name = notes.get("encoder_kind"), notes.get("encoder", "")
    if kind == "random":
        return kind
    kinds = {entry.name: entry.kind for entry in params.checkpoints()}
    if kinds.get(name) == "embedded" or name in stored():
        return name
    convert = f"run `swag-jax weights convert FILE --backbone {notes.get('encoder_backbone')}`, or pass --weights FILE"
    cure = f"run `swag-jax weights fetch {name}`" if kinds.get(name) == "imagenet" else convert
    raise error(f"{path} needs the encoder that it was trained with", got=f"no {name} in the local store", cure=cure)


def _recorded_seed(notes: Mapping[str, str], path: Path) -> int:
    seed = notes.get("encoder_seed") or "0"
    if not re.fullmatch(r"-?[0-9]{1,18}", seed):
        raise error(f"{path} must say its encoder's seed as a number", got=repr(seed[:20]), cure="get it again")
    return int(seed)


def _check_layers(generator: Generator, encoder: Backbone) -> None:
    found, wanted = taps(encoder, layers=generator.layers), generator.config.taps
    if found != wanted:
        got, described = (
            ", ".join(f"{tap.layer} ({tap.channels} channels, stride {tap.stride})" for tap in each)
            for each in (found, wanted)
        )
        rule = f"the encoder must have the layers that the generator reads, {described}"
        raise error(rule, got=got, cure="pass the encoder that it was trained with")
