"""From an image to its activations: normalize, then one pass of the network for all losses."""

from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from swag_jax._checks import check_range, error
from swag_jax._types import AnyFeatures, Image
from swag_jax.backbones import Backbone
from swag_jax.images.normalize import normalize


@dataclass(frozen=True)
class LayerSpec:
    """A layer of a network, as generators must know it; its stride, in pixels, is a power of two."""

    layer: str
    channels: int
    stride: int

    def __post_init__(self):
        check_range(self.channels, what="channels", low=1)
        check_range(self.stride, what="stride", low=1)
        if self.stride & (self.stride - 1):
            raise error(
                f"the stride of {self.layer} must be a power of two", got=self.stride, cure="read another layer"
            )


def taps(network: Backbone, *, layers: Iterable[str]) -> tuple[LayerSpec, ...]:
    """Return the channels and strides of a network's layers, shallow to deep, without computing any activation."""
    wanted = network.check_layers(layers)
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)  # of any size; only channels are read
    found = jax.eval_shape(lambda n, x: n(x, until=wanted[-1]), network, images)
    strides = dict(zip(network.layers, network.strides, strict=True))
    return tuple(LayerSpec(layer, found[layer].shape[-1], strides[layer]) for layer in wanted)


def extract(network: Backbone, image: Image, *, layers: Iterable[str]) -> dict[str, AnyFeatures]:
    """Return the activations of one image at `layers`, computing nothing deeper than the deepest.

    Args:
        image: `height width 3` in [0, 1].

    Returns:
        `height width channels` activations by layer name, shallow to deep, in the network's precision.

    Example:
        >>> from swag_jax import backbones
        >>> network = backbones.create("vgg19", until="relu2_1")
        >>> extract(network, jnp.zeros((32, 48, 3)), layers=["relu2_1"])["relu2_1"].shape
        (16, 24, 128)
    """
    wanted = network.check_layers(layers)
    images = normalize(image, network.normalization)[None]
    activations = network(images, until=wanted[-1])
    return {layer: activations[layer][0] for layer in wanted}
