"""Normalizations: from RGB images in [0, 1] to the input that a pretrained network expects, and back.

Channels are on the last axis; functions take any leading dimensions and keep the dtype.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._checks import check_name
from swag_jax._numerics import widen


@dataclass(frozen=True)
class Normalization:
    """The statistics of one family of networks: normalized = (scale · channels - mean) / std.

    Mean and deviation are by channel, in the network's order (blue first if `is_bgr`) and scale (white, 1 or 255).
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
    # tensorflow/tpu, efficientnet/lite/efficientnet_lite_builder.py: MEAN_RGB and STDDEV_RGB
    "lite": Normalization(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), scale=255.0),
    # networks that read plain images, such as the VGG of the AdaIN, SANet and AdaAttN releases
    "none": Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}


def normalize(image: Float[Array, "*batch 3"], normalization: str) -> Float[Array, "*batch 3"]:
    """Map RGB images in [0, 1] to the input of a network, one of `NORMALIZATIONS`."""
    known = NORMALIZATIONS[check_name(normalization, NORMALIZATIONS, what="normalization")]
    channels = known.scale * _ordered(widen(image), known)
    normalized = (channels - _like(known.mean, channels)) / _like(known.std, channels)
    return normalized.astype(image.dtype)


def denormalize(image: Float[Array, "*batch 3"], normalization: str) -> Float[Array, "*batch 3"]:
    """Map the input of a network back to images: the inverse of `normalize`."""
    known = NORMALIZATIONS[check_name(normalization, NORMALIZATIONS, what="normalization")]
    wide = widen(image)
    channels = (wide * _like(known.std, wide) + _like(known.mean, wide)) / known.scale
    return _ordered(channels, known).astype(image.dtype)


def _ordered(image: Float[Array, "*batch 3"], known: Normalization) -> Float[Array, "*batch 3"]:
    return image[..., ::-1] if known.is_bgr else image


def _like(statistic: tuple[float, float, float], like: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    return jnp.broadcast_to(jnp.asarray(statistic, like.dtype), like.shape)
