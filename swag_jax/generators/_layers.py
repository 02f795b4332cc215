"""What every generator is made of: reflecting convolutions, enlarging, and the class that they share.

Activations are `batch rows columns channels`, kernels `height width in out`. Parameters are float32; convolutions are
computed as `Operations` say.
"""

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from swag_jax._checks import error
from swag_jax._types import Activations
from swag_jax.backbones import Operations
from swag_jax.features import Tap
from swag_jax.statistics import instance_norm

BatchFeatures: TypeAlias = Mapping[str, Activations]
"""Activations of a batch of pictures by layer."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

VGG_TAPS = (
    Tap("relu1_1", 64, 1),
    Tap("relu2_1", 128, 2),
    Tap("relu3_1", 256, 4),
    Tap("relu4_1", 512, 8),
    Tap("relu5_1", 512, 16),
)
"""What AdaIN, SANet and AdaAttN read of VGG19."""


class Generator(nnx.Module):
    """A network that makes pictures.

    It is a pytree: pass it to `jax.jit` as an argument. Pictures that it returns are float32 and may leave [0, 1]
    a little; clip them last.

    Attributes:
        config: What it is made of.
        operations: Precision and kernels of its convolutions.
    """

    config: Any
    operations: Operations

    def __init__(self, config: Any, *, operations: Operations | None = None):
        self.config = config
        self.operations = operations or Operations()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it reads of the content and the style picture; empty if it reads pictures."""
        return tuple(tap.layer for tap in self.config.taps)


class Conv(nnx.Module):
    """A square convolution with bias that sees a reflection beyond the edge, as all published ones here do.

    Args:
        channels_in: Of its input.
        channels_out: Of its output.
        size: Side of the kernel, odd.
        stride: Step in both directions.
        deviation: Of the normal distribution that kernels are drawn from, biases being 0. `None`: uniform within
            1 / sqrt(fan-in), biases too, which is PyTorch's default (`torch.nn.Conv2d.reset_parameters`).
        rngs: Randomness for the initialization.
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
            draw = functools.partial(jax.random.uniform, minval=-bound, maxval=bound)
            self.kernel = nnx.Param(draw(rngs.params(), shape))
            self.bias = nnx.Param(draw(rngs.params(), (channels_out,)))
        else:
            self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
            self.bias = nnx.Param(jnp.zeros(channels_out))
        self.stride = stride

    def __call__(self, x: Activations, operations: Operations) -> Activations:
        """Reflect, convolve, and add the bias."""
        kernel = self.kernel[...]
        half = kernel.shape[0] // 2
        x = x.astype(operations.dtype)
        if half:
            x = jnp.pad(x, ((0, 0), (half, half), (half, half), (0, 0)), mode="reflect")
        y = operations.convolve(x, kernel, stride=self.stride)
        return y + self.bias[...].astype(y.dtype)[None, None, None]


def enlarge(x: Activations, ratio: int, *, rows: int, columns: int) -> Activations:
    """Repeat every position `ratio` times on both axes, then cut, or repeat the edge, to `rows` and `columns`.

    Where sizes are multiples this is the nearest up-sampling of all published decoders. Elsewhere position i still
    covers the pixels from i times its stride on, so that nothing is displaced.
    """
    x = jnp.repeat(jnp.repeat(x, ratio, 1), ratio, 2)[:, :rows, :columns]
    short = ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2]), (0, 0))
    return jnp.pad(x, short, mode="edge")


def normalized(x: Activations) -> Activations:
    """Apply `instance_norm` to each picture of a batch."""
    return jax.vmap(instance_norm)(x)


def check_taps(taps: tuple[Tap, ...], count: int, *, or_more: bool = False) -> None:
    """Raise unless there are `count` taps, or more, shallow to deep."""
    if len(taps) < count or (len(taps) > count and not or_more):
        wanted = f"{count} layers or more" if or_more else f"{count} layers"
        raise error(f"the generator must read {wanted}", got=len(taps), cure="pass their taps, shallow to deep")
    strides = [tap.stride for tap in taps]
    if strides != sorted(strides):
        raise error("taps must be ordered shallow to deep", got=", ".join(tap.layer for tap in taps))
