"""A VGG rescaled so that every filter has the same mean activation (Gatys et al., CVPR 2016)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from swag_jax._checks import error
from swag_jax._numerics import widen
from swag_jax._types import Images
from swag_jax.backbones._layers import Conv
from swag_jax.backbones._network import Backbone
from swag_jax.backbones.vgg import VGG
from swag_jax.params.rescale import divided

# Least mean activation of a rescaled channel, as a share of its layer's: float32 rounds a layer's activations to about
# 1e-7 of their size, which then stays below 0.01 % of every rescaled channel. Our choice; the paper rescales all.
_LIVE = 1e-3


def unit_mean(network: Backbone, images: Images) -> VGG:
    """Return a VGG with each filter's mean activation over `images` and positions scaled to one.

    Every activation is what it was, divided by its channel's mean after the ReLU (`mean_activations`); formulas in
    `swag_jax.params.rescale.divided`. A last convolution without its ReLU keeps its scale. Pure: works under `jax.jit`.

    Args:
        network: A VGG, not frozen.
        images: Normalized images, `batch height width 3`, such as the network will see.

    References:
        Gatys, Ecker and Bethge, CVPR 2016, section 2; Huang and Belongie (AdaIN), ICCV 2017, whose encoder is such a
        network.
    """
    divisors = mean_activations(network, images)
    rescaled: Any = nnx.merge(*nnx.split(network))
    layers = {name: getattr(rescaled, name) for name in rescaled.layers if name.startswith("conv")}
    tensors = {f"{name}.kernel": layer.kernel[...] for name, layer in layers.items()}
    tensors |= {f"{name}.bias": layer.bias[...] for name, layer in layers.items()}
    tensors = divided(tensors, divisors)
    for name, layer in layers.items():
        # New parameters, since merging leaves the old ones shared with the network given.
        layer.kernel, layer.bias = nnx.Param(tensors[f"{name}.kernel"]), nnx.Param(tensors[f"{name}.bias"])
    return rescaled


def mean_activations(network: Backbone, images: Images) -> dict[str, Float[Array, " _"]]:
    """Return what a VGG's activations are divided by to have a mean of one: by convolution, a number per channel.

    It is the mean over images and positions after the ReLU. A channel whose mean is at most 1e-3 of its layer's gets 1,
    and so keeps its scale.
    """
    means = _divisors(_check(network, images), images)
    return {name.replace("relu", "conv"): mean for name, mean in means.items()}


def _check(network: Backbone, images: Images) -> VGG:
    if not isinstance(network, VGG):
        raise error("only a VGG can be rescaled", got=type(network).__name__, cure="pass a vgg19 or vgg16")
    layer = getattr(network, network.layers[0])
    if not isinstance(layer, Conv):
        raise error("only a VGG that is not frozen can be rescaled", cure="rescale it before `frozen()`")
    smallest = network.minimum_size(network.layers)
    if len(images) == 0 or min(images.shape[1:3]) < smallest:
        raise error(f"images must be at least one of {smallest} x {smallest} pixels", got=f"shape {images.shape}")
    return network


@jax.jit
def _divisors(network: Backbone, images: Images) -> dict[str, Float[Array, " _"]]:
    """Return what each ReLU's channels are to be divided by; compiled, so that no activation is kept for long."""
    means = {name: widen(x).mean((0, 1, 2)) for name, x in network(images).items() if name.startswith("relu")}
    return {name: jnp.where(mean > _LIVE * mean.mean(), mean, 1.0) for name, mean in means.items()}
