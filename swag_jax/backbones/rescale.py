"""VGG19 rescaled so that every filter has the same mean activation (Gatys et al., CVPR 2016)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from swag_jax._checks import error
from swag_jax._numerics import widen
from swag_jax._types import Images
from swag_jax.backbones._layers import Conv, ConvNorm
from swag_jax.backbones._network import Backbone
from swag_jax.backbones.vgg import VGG19

_LIVE = 1e-3
"""Least mean activation of a rescaled channel, as a share of its layer's: float32 rounds a layer's activations to about
1e-7 of their size, which then stays below 0.01 % of every rescaled channel. Our choice; the paper rescales all."""


def unit_mean(network: Backbone, images: Images) -> VGG19:
    r"""Return VGG19 with each filter's mean activation over `images` and positions scaled to one.

    With m_j the mean over pictures and positions of channel j after a convolution's ReLU, and m_i that of channel i
    of its input (1 for colors), the convolution becomes

    .. math:: K'_{ij} = \frac{m_i}{m_j} K_{ij}, \quad b'_j = \frac{b_j}{m_j}.

    ReLU, max pools, average pools and paddings carry positive factors through, channel by channel, so every
    activation is what it was, divided by its channel's m. A channel whose mean is at most 1e-3 of its layer's keeps
    its scale (m = 1), and so does a last convolution without its ReLU. Pure: works under `jax.jit`.

    Args:
        network: A VGG19 without batch norms, not frozen.
        images: Normalized pictures, `batch height width 3`, such as the network will see.

    Returns:
        A new network of equal set-up.

    Raises:
        UserError: If the network is another one, or `images` is empty or too small for the deepest layer.

    References:
        Gatys, Ecker and Bethge, CVPR 2016, section 2.

    Example:
        >>> from swag_jax import backbones
        >>> images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
        >>> network = unit_mean(backbones.create("vgg19", until="relu1_2"), images)
        >>> bool(jnp.allclose(network(images)["relu1_2"].mean((0, 1, 2)), 1.0, atol=1e-4))
        True
    """
    rescaled = nnx.merge(*nnx.split(_check(network, images)))
    divisors = _divisors(network, images)
    before = jnp.ones(3)
    for name in rescaled.layers:
        if name.startswith("conv"):
            layer = getattr(rescaled, name)
            after = divisors.get(name.replace("conv", "relu"), jnp.ones_like(layer.bias[...]))
            # New parameters, since merging leaves the old ones shared with the network given.
            layer.kernel = nnx.Param(layer.kernel[...] * (before[:, None] / after[None])[None, None])
            layer.bias = nnx.Param(layer.bias[...] / after)
            before = after
    return rescaled


def _check(network: Backbone, images: Images) -> VGG19:
    """Return the network if it can be rescaled on these images."""
    if not isinstance(network, VGG19):
        raise error("only VGG19 can be rescaled", got=type(network).__name__, cure="pass a vgg19")
    layer = getattr(network, network.layers[0])
    if isinstance(layer, ConvNorm):
        raise error("only a VGG19 without batch norms can be rescaled", cure="fold them into kernels and biases first")
    if not isinstance(layer, Conv):
        raise error("only a VGG19 that is not frozen can be rescaled", cure="rescale it before `frozen()`")
    smallest = network.minimum_size(network.layers)
    if len(images) == 0 or min(images.shape[1:3]) < smallest:
        raise error(f"images must be at least one of {smallest} x {smallest} pixels", got=f"shape {images.shape}")
    return network


@jax.jit
def _divisors(network: Backbone, images: Images) -> dict[str, Float[Array, " _"]]:
    """Return what each ReLU's channels are to be divided by; compiled, so that no activation is kept for long."""
    return {name: _divisor(widen(x).mean((0, 1, 2))) for name, x in network(images).items() if name.startswith("relu")}


def _divisor(mean: Float[Array, " channels"]) -> Float[Array, " channels"]:
    return jnp.where(mean > _LIVE * mean.mean(), mean, 1.0)
