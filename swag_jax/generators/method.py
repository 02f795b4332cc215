"""What a generator is to the rest of the package: the interface of its network, and the `Method` around it."""

import abc
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from swag_jax._types import Activations, Images, Key, Scalar
from swag_jax.backbones import Backbone, Compute
from swag_jax.features import LayerSpec
from swag_jax.generators._layers import BatchFeatures, BatchMask, KnownMoments, Size
from swag_jax.images.normalize import normalize
from swag_jax.params.layouts import Layout

Transferred: TypeAlias = tuple[Activations, ...]
"""What a decoder starts from: features in the style, and those of a skip."""

BatchLosses: TypeAlias = tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]
"""Total and weighted terms by name, of each image."""

ENCODER = "vgg19-normalized-adain"
"""The encoder that AdaIN, SANet and AdaAttN were published with, by its name in the store."""


@runtime_checkable
class Config(Protocol):
    """What a generator is made of: a frozen dataclass of numbers and names."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def taps(self) -> tuple[LayerSpec, ...]:
        """The layers that the generator reads, shallow to deep; empty if it reads images."""
        ...


@runtime_checkable
class TrainObjective(Protocol):
    """What is minimized in training: a frozen dataclass of layers, weights and a smoothing."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that the loss reads."""
        ...

    @property
    def smoothing(self) -> Any:
        """The `Smoothing` of activations before they are compared."""
        ...

    def for_backbone(self, name: str) -> Any:
        """Return it with the default layers of a backbone."""
        ...


class Generator(nnx.Module):
    """A network that makes images: it encodes a content, transfers what it read of a style, and decodes.

    A style is read once for many contents, and what is transferred from several can be mixed before it is decoded. It
    is a pytree: pass it to `jax.jit` as an argument. Its images are float32 and may leave [0, 1] a little; clip them
    last.
    """

    config: Any
    compute: Compute
    decoder: Callable[..., Images]

    unbiased: ClassVar[bool] = True
    """Which variance its norms over the content divide by."""
    reads_styles: ClassVar[bool] = True
    """Whether it takes style images; otherwise its one style is in its weights."""
    needs_own: ClassVar[bool] = True
    """Whether `unstyled` needs what was read of the content as its own style."""

    def __init__(self, config: Any, *, compute: Compute | None = None, rngs: nnx.Rngs | None = None):
        del rngs  # for the parameters of subclasses
        self.config = config
        self.compute = compute or Compute()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it reads of content and style images."""
        return tuple(tap.layer for tap in self.config.taps)

    @property
    def stride(self) -> int:
        """What height and width must be multiples of, so that all its sizes are whole."""
        return max(tap.stride for tap in self.config.taps)

    def __call__(
        self,
        content: BatchFeatures,
        style: BatchFeatures,
        *,
        size: Size,
        key: Key | None = None,
        strength: float | Scalar = 1.0,
    ) -> Images:
        r"""Return stylized images, decoded from :math:`\alpha t + (1 - \alpha) t_0`.

        Args:
            style: Activations of as many style images as contents.
            size: Height and width of the content images.
            key: Draws the style positions that are kept, the same for the whole batch; needed if there are too many.
            strength: :math:`\alpha`: 1 (as in training) is what is transferred, 0 the content `unstyled`.
        """
        transferred = self.transfer(content, self.read(style, key=key))
        if not isinstance(strength, float) or strength != 1:
            unstyled = self.unstyled(content, self.read(content, key=key) if self.needs_own else None)
            transferred = tuple(strength * t + (1 - strength) * u for t, u in zip(transferred, unstyled, strict=True))
        return self.decode(transferred, size=size)

    def stylize(self, encoder: Backbone | None, contents: Images, styles: Images | None, *, key: Key | None) -> Images:
        """Return contents in the styles of as many style images; without these if it reads no styles."""
        kept = None if styles is None else self.read(self.encode(encoder, styles), key=key)
        transferred = self.transfer(self.encode(encoder, contents), kept)
        return self.decode(transferred, size=(contents.shape[1], contents.shape[2]))

    def encode(self, encoder: Backbone | None, images: Images) -> Any:
        """Return what it takes of images: activations by layer, or the images themselves."""
        assert encoder is not None, "this generator reads an encoder"
        return encode(encoder, images, layers=self.layers)

    @abc.abstractmethod
    def read(self, style: Any, *, key: Key | None = None, region: BatchMask | None = None) -> Any:
        """Return what it keeps of encoded style images.

        Args:
            key: Draws the positions that are kept; needed if there are too many.
            region: The part of each style image to be used, at any size; one without any position restricts nothing.
        """

    @abc.abstractmethod
    def transfer(self, content: Any, kept: Any, *, known: KnownMoments | None = None) -> Transferred:
        """Return what is decoded of encoded content images.

        Args:
            kept: What `read` returned of as many style images; `None` if no styles are read.
            known: Moments of the content by the names that `normed` has; default: its own.
        """

    def unstyled(self, content: Any, own: Any, *, known: KnownMoments | None = None) -> Transferred:
        """Return what the unchanged content is decoded from: here, what is transferred from itself, `read` as `own`."""
        return self.transfer(content, own, known=known)

    def decode(self, transferred: Transferred, *, size: Size) -> Images:
        """Return images of a height and width from what `transfer` returned, or a mixture of several."""
        features, *skips = transferred
        return self.decoder(features, size=size, skip=skips[0] if skips else None)

    def normed(self, content: Any, known: KnownMoments) -> dict[str, Activations]:
        """Return what its norms over the content see by name: of those not `known`, the ones that known ones decide."""
        # Here one norm for each layer, none after another.
        return {layer: content[layer] for layer in self.layers if layer not in known}


def encode(encoder: Backbone, images: Images, *, layers: tuple[str, ...]) -> dict[str, Activations]:
    """Return activations of images in [0, 1] by layer, `batch rows columns channels`."""
    wanted = encoder.check_layers(layers)
    found = encoder(normalize(images, encoder.normalization), until=wanted[-1])
    return {layer: found[layer] for layer in wanted}


@dataclass(frozen=True)
class Published:
    """One kind of published checkpoint."""

    config: Config
    files: tuple[str, ...]  # that it comes in; their keys do not collide, so that one layout serves all of them
    layout: Layout
    reads: str | None = ENCODER  # its encoder in the manifest; `None` for a generator that reads images


@dataclass(frozen=True)
class Recipe:
    """One way to train a generator. If a paper and its public code differ, the code is followed and `source` says so.

    With another encoder's weights activations have other scales; `normalization="relative"` (our choice) keeps the
    losses' weights meaningful.

    Attributes:
        source: Where the numbers come from, and which of them are our choice.
        options: Other attributes of `swag_jax.train.TrainSettings`, by name.
        hardware: What it ran on, and for how long, as far as that is published.
        weights: The encoder's weights, by their name in the store or their kind.
    """

    config: Config
    objective: TrainObjective
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = "not published"
    # Of published ones: MS-COCO train2014 (82,783 images), and WikiArt (Kaggle's Painter by Numbers).
    contents: str = "COCO"
    styles: str = "WIKIART"
    weights: str = ENCODER


def small_recipe(config: Config, objective: TrainObjective, source: str, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe of small crops for one core of a CPU."""
    small = {"padding": "reflect", "init": "kaiming", "batch_size": 4, "size": 80, "crop": 64, "learning_rate": 3e-4}
    hardware = "one processor core with bfloat16 products: about an hour"
    options = {**options, **small, "precision": "bfloat16"}
    return Recipe(config, objective, source, options, hardware, "PHOTOS", "PAINTINGS", "embedded")


def _no_layers(objective: Any) -> tuple[str, ...]:
    """Return none: the generator reads images."""
    return ()


def _unchanged(config: Any, objective: Any) -> Any:
    """Return the configuration as it is."""
    return config


def _no_targets(encoder: Backbone, image: Any, *, objective: Any) -> None:
    """Return nothing: the loss sees style images."""


@dataclass(frozen=True)
class Method:
    """All that differs between kinds of generators.

    Attributes:
        name: As commands and checkpoints have it.
        config: The class of its configurations.
        network: The class of its generators: `network(config, compute=, rngs=)`.
        objective: The class of what it is trained by.
        loss: `loss(generator, encoder, contents, styles, objective=, key=)` of a batch of images; with what
            `style_targets` returned as styles, if the network reads none.
        recipes: Ways to train it; the default has the method's name.
        published: Checkpoints that others published, by the name that `swag-jax weights convert` has for them.
        read_layers: The layers that its generators read under an objective, shallow to deep; none if they read images.
        fit: A configuration as an objective wants it.
        style_targets: `style_targets(encoder, image, objective=)`: what the loss needs of the one style that a network
            learns if it reads none.
    """

    name: str
    config: type
    network: type[Generator]
    objective: type
    loss: Callable[..., BatchLosses]
    recipes: Mapping[str, Recipe]
    published: Mapping[str, Published] = field(default_factory=dict)
    read_layers: Callable[[Any], tuple[str, ...]] = _no_layers
    fit: Callable[[Any, Any], Any] = _unchanged
    style_targets: Callable[..., Any] = _no_targets


def of_pairs(evaluate: Callable[..., Any]) -> Callable[..., BatchLosses]:
    """Return a `Method`'s loss from one image's: `evaluate(output, content, style, objective=, key=)` of features."""

    def loss(
        generator: Generator, encoder: Backbone, contents: Images, styles: Images, *, objective: Any, key: Key
    ) -> BatchLosses:
        layers = tuple(dict.fromkeys((*objective.layers, *generator.layers)))
        # Both pass the encoder as one batch.
        both = encode(encoder, jnp.concatenate([contents, styles]), layers=layers)
        content, style = ({layer: jnp.split(x, 2)[i] for layer, x in both.items()} for i in range(2))
        stylized = generator(content, style, size=(contents.shape[1], contents.shape[2]), key=key)
        output = encode(encoder, stylized, layers=objective.layers)
        return jax.vmap(functools.partial(evaluate, objective=objective, key=key))(output, content, style)

    return loss
