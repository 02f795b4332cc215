"""What generators are made of: reflecting convolutions and enlarging.

Activations are `batch rows columns channels`, kernels `height width in out`. Parameters are float32; convolutions are
computed as `Compute` says.
"""

import functools
from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from swag_jax._checks import error
from swag_jax._types import Activations
from swag_jax.backbones import Compute
from swag_jax.features import LayerSpec
from swag_jax.images.resize import nearest
from swag_jax.statistics import instance_norm

BatchFeatures: TypeAlias = Mapping[str, Activations]
"""Activations of a batch of images by layer."""

BatchMoments: TypeAlias = tuple[Float[Array, "batch channels"], Float[Array, "batch channels"]]
"""Mean and standard deviation of each channel for each image of a batch."""

BatchMask: TypeAlias = Bool[Array, "batch _ _"]
"""A region of each image of a batch, at any size."""

KnownMoments: TypeAlias = Mapping[str, BatchMoments]
"""Moments of the content images by the name of the norm, if the images are parts of larger ones."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

VGG_TAPS = (
    LayerSpec("relu1_1", 64, 1),
    LayerSpec("relu2_1", 128, 2),
    LayerSpec("relu3_1", 256, 4),
    LayerSpec("relu4_1", 512, 8),
    LayerSpec("relu5_1", 512, 16),
)
"""What AdaIN, SANet and AdaAttN read of VGG19."""


class Conv(nnx.Module):
    """A square convolution of odd `size` with bias that sees a reflection beyond the edge.

    Args:
        deviation: Of the normal distribution that kernels are drawn from, biases being 0. `None`: uniform within
            1 / sqrt(fan-in), biases too, which is PyTorch's default (`torch.nn.Conv2d.reset_parameters`).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: int = 3,
        stride: int = 1,
        deviation: float | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, channels_in, channels_out)
        if deviation is None:
            bound = (size * size * channels_in) ** -0.5
            draw = functools.partial(jax.random.uniform, dtype=jnp.float32, minval=-bound, maxval=bound)
            self.kernel = nnx.Param(draw(rngs.params(), shape))
            self.bias = nnx.Param(draw(rngs.params(), (channels_out,)))
        else:
            self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape, jnp.float32))
            self.bias = nnx.Param(jnp.zeros(channels_out, jnp.float32))
        self.stride = stride

    def __call__(self, x: Activations, compute: Compute) -> Activations:
        """Reflect, convolve, and add the bias."""
        kernel = self.kernel[...]
        half = kernel.shape[0] // 2
        around = (half, half), (half, half)
        y = compute.convolve(x.astype(compute.dtype), kernel, stride=self.stride, padding=around, border="reflect")
        return y + self.bias[...].astype(y.dtype)[None, None, None]


def enlarge(x: Activations, ratio: int, *, rows: int, columns: int) -> Activations:
    """Repeat every position `ratio` times on both axes, then cut, or repeat the edge, to `rows` and `columns`."""
    # If sizes are multiples, this is the nearest up-sampling of all published decoders. If not, position i still covers
    # the pixels from i times its stride on, so that nothing is displaced.
    x = jnp.repeat(jnp.repeat(x, ratio, 1), ratio, 2)[:, :rows, :columns]
    short = rows - x.shape[1], columns - x.shape[2]
    # A pad by nothing copies the map on the CPU, and so does its gradient.
    return jnp.pad(x, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)), mode="edge") if any(short) else x


def normalized(x: Activations, *, known: BatchMoments | None = None) -> Activations:
    """Apply `instance_norm` to each image of a batch."""
    return jax.vmap(lambda x, known: instance_norm(x, known=known))(x, known)


def fitted(mask: BatchMask | None, features: Activations) -> BatchMask | None:
    """Resample masks, if there are any, to a layer's positions, as `user_specify_demo.py` of Huage001/AdaAttN does."""
    if mask is None:
        return None
    floats = mask.astype(jnp.float32)[..., None]
    return jax.vmap(lambda m: nearest(m, *features.shape[1:3]))(floats)[..., 0] > 0


def check_taps(taps: tuple[LayerSpec, ...], count: int, *, or_more: bool = False) -> None:
    """Raise unless there are `count` taps, or more, shallow to deep."""
    if len(taps) < count or (len(taps) > count and not or_more):
        wanted = f"{count} layers or more" if or_more else f"{count} layers"
        raise error(f"the generator must read {wanted}", got=len(taps), cure="pass their taps, shallow to deep")
    strides = [tap.stride for tap in taps]
    if strides != sorted(strides):
        raise error("taps must be ordered shallow to deep", got=", ".join(tap.layer for tap in taps))
