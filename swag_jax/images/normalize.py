"""The input statistics of pretrained networks: from images to what a network was trained on, and back.

An image holds RGB values in [0, 1] on its last axis; a normalized image is whatever the network expects,
roughly centered at zero. Every function takes any leading dimensions and keeps the dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._checks import check_name


@dataclass(frozen=True)
class Normalization:
    """The statistics of one family of networks: normalized = (scale · channels - mean) / std.

    Attributes:
        mean: Mean by channel, in the network's channel order and scale.
        std: Standard deviation by channel.
        scale: White in the network's unit, 1 or 255.
        is_bgr: Whether the network expects blue first.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1.0
    is_bgr: bool = False


NORMALIZATIONS: Mapping[str, Normalization] = {
    # https://docs.pytorch.org/vision/stable/models.html: the statistics of every torchvision ImageNet model
    "imagenet": Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    # https://github.com/jcjohnson/neural-style, neural_style.lua, `preprocess`: the means of the Caffe VGG
    "caffe": Normalization(mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), scale=255.0, is_bgr=True),
    # torchvision's GoogLeNet and Inception v3, ported from TensorFlow: what their `transform_input` makes of the above,
    # (x std + mean - 0.5) / 0.5, is [0, 1] mapped to [-1, 1]; pytorch-fid's Inception has the same input
    "inception": Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    # networks that read images as they are, such as the VGG of the AdaIN, SANet and AdaAttN releases
    "none": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}
"""Every known normalization by name."""


def normalize(image: Float[Array, "*batch 3"], normalization: str) -> Float[Array, "*batch 3"]:
    """Map images to the input of a network.

    Args:
        image: RGB values in [0, 1] on the last axis.
        normalization: One of `NORMALIZATIONS`.

    Returns:
        The normalized image, of the same shape and dtype.

    Raises:
        UserError: If the name is unknown.

    Example:
        >>> normalize(jnp.ones((1, 1, 3)), "caffe").shape
        (1, 1, 3)
    """
    known = _named(normalization)
    channels = known.scale * _ordered(_wide(image), known)
    normalized = (channels - _spread(known.mean, channels)) / _spread(known.std, channels)
    return normalized.astype(image.dtype)


def denormalize(image: Float[Array, "*batch 3"], normalization: str) -> Float[Array, "*batch 3"]:
    """Map the input of a network back to images: the inverse of `normalize`.

    Args:
        image: Normalized values, channels on the last axis.
        normalization: One of `NORMALIZATIONS`.

    Returns:
        RGB values, in [0, 1] if the input came from an image; same shape and dtype.

    Raises:
        UserError: If the name is unknown.

    Example:
        >>> denormalize(jnp.zeros((1, 1, 3)), "none").shape
        (1, 1, 3)
    """
    known = _named(normalization)
    wide = _wide(image)
    channels = (wide * _spread(known.std, wide) + _spread(known.mean, wide)) / known.scale
    return _ordered(channels, known).astype(image.dtype)


def _named(normalization: str) -> Normalization:
    return NORMALIZATIONS[check_name(normalization, NORMALIZATIONS, what="normalization")]


def _wide(image: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Compute in float32 at least: in bfloat16 the means of the Caffe networks would lose their fraction."""
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def _ordered(image: Float[Array, "*batch 3"], known: Normalization) -> Float[Array, "*batch 3"]:
    """Exchange red and blue where the network expects it."""
    return image[..., ::-1] if known.is_bgr else image


def _spread(statistic: tuple[float, float, float], like: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    return jnp.broadcast_to(jnp.asarray(statistic, like.dtype), like.shape)
