"""The layers every network here is made of: convolution, batch norm, pooling.

Activations are `batch height width channels`, kernels `height width in out`. Convolutions and pools go through
one frozen `Compute` value, which says in which precision and with which kernels they are computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import check_name
from swag_jax._modes import say_where_they_lie
from swag_jax._types import Activations, Border, Kernel, Padding
from swag_jax.backbones import _cpu

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
Kernels: TypeAlias = Literal["auto", "plain", "cpu"]

NONE: Padding = ((0, 0), (0, 0))
"""No rows or columns beyond the edges."""

Draw: TypeAlias = Callable[[nnx.Rngs, tuple[int, int, int, int]], Kernel]
"""What draws a kernel of a shape."""

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
KERNELS: tuple[Kernels, ...] = ("auto", "plain", "cpu")

_MATRIX_PRECISION = {
    "float32": lax.Precision.HIGHEST,
    "tf32": lax.Precision.HIGH,  # TF32 on NVIDIA, three bfloat16 passes on TPU
    "bfloat16": lax.Precision.DEFAULT,
}

BATCH_NORM_EPSILON = 1e-5
"""torch.nn.BatchNorm2d's default, used by every torchvision ResNet."""


@dataclass(frozen=True)
class Compute:
    """How convolutions and pools are computed.

    Attributes:
        precision: `float32` (full), `tf32` (float32 storage, TF32 products where the hardware has them) or
            `bfloat16` (activations and kernels in bfloat16; statistics and losses stay float32).
        kernels: `plain` (XLA's own), `cpu` (the forms that are fast on XLA's CPU backend) or `auto`: `cpu` on
            the CPU, `plain` elsewhere, where neither has been measured yet.
    """

    precision: Precision = "float32"
    kernels: Kernels = "auto"

    def __post_init__(self):
        check_name(self.precision, PRECISIONS, what="precision")
        check_name(self.kernels, KERNELS, what="kernels")

    @property
    def dtype(self) -> jnp.dtype:
        """The type of activations inside the network."""
        return jnp.dtype(jnp.bfloat16 if self.precision == "bfloat16" else jnp.float32)

    @property
    def turns_kernels(self) -> bool:
        """Whether the CPU's forms are used, whose gradient needs turned kernels."""
        return self.kernels == "cpu" or (self.kernels == "auto" and jax.default_backend() == "cpu")

    def convolve(
        self,
        x: Activations,
        kernel: Kernel,
        *,
        turned: Kernel | None = None,
        stride: int = 1,
        padding: Padding = NONE,
        border: Border = "zeros",
    ) -> Activations:
        """Cross-correlate as PyTorch does.

        Args:
            x: `batch height width channels_in`.
            kernel: `height width channels_in channels_out`.
            turned: `turn(kernel)`, where it has been computed before.
            stride: Step in both directions.
            padding: Rows (above, below) and columns (left, right) beyond the edges.
            border: What they hold.
        """
        kernel = kernel.astype(x.dtype)
        precision = _MATRIX_PRECISION[self.precision]
        fast = self.turns_kernels and not say_where_they_lie(x, kernel)
        if border != "zeros" and padding != NONE:
            same = kernel.shape[:2] == (3, 3) and stride == 1 and padding == ((1, 1), (1, 1))
            # Four parts of the kernel are cut out and turned there, so that the map should be larger than the kernel.
            large = x.dtype != jnp.bfloat16 and x.size >= kernel.size
            if fast and same and large:
                turned = _cpu.turn(kernel) if turned is None else turned
                return _cpu.convolve_beyond(x, kernel, turned, border=border, precision=precision)
            x, padding = jnp.pad(x, ((0, 0), *padding, (0, 0)), mode=border), NONE
        if not fast:
            return lax.conv_general_dilated(
                x,
                kernel,
                (stride, stride),
                padding,
                dimension_numbers=_cpu.DIMENSIONS,
                precision=precision,
            )
        turned = _cpu.turn(kernel) if turned is None else turned.astype(x.dtype)
        return _cpu.convolve(x, kernel, turned, stride=stride, padding=padding, precision=precision)

    def max_pool(
        self, x: Activations, *, size: int, stride: int, padding: int = 0, partial: bool = False
    ) -> Activations:
        """Take the maximum over windows, as PyTorch does.

        Args:
            x: `batch height width channels`.
            size: Rows and columns of a window.
            stride: Step in both directions, at most `size`.
            padding: Rows and columns beyond each edge, which never are the maximum.
            partial: Whether rows and columns at the end that fill no window make one (PyTorch's `ceil_mode`); else
                they are dropped.
        """
        missing = [-(length + 2 * padding - size) % stride if partial else 0 for length in x.shape[1:3]]
        edges = (padding, padding + missing[0]), (padding, padding + missing[1])
        if self.turns_kernels and not say_where_they_lie(x):
            return _cpu.max_pool(x, size=size, stride=stride, padding=edges)
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), ((0, 0), *edges, (0, 0))
        )


def kaiming_normal(rngs: nnx.Rngs, shape: tuple[int, int, int, int]) -> Kernel:
    """Draw a kernel from N(0, 2 / fan_out): torchvision's rule for VGG and ResNet convolutions."""
    fan_out = shape[0] * shape[1] * shape[3]
    return jax.random.normal(rngs.params(), shape, jnp.float32) * (2 / fan_out) ** 0.5


def normal(deviation: float) -> Draw:
    """Return what draws a kernel from N(0, deviation^2)."""
    return lambda rngs, shape: jax.random.normal(rngs.params(), shape, jnp.float32) * deviation


def half_padding(kernel: Kernel) -> Padding:
    """Return the zeros on each side with which an odd kernel keeps the size."""
    height, width = (side // 2 for side in kernel.shape[:2])
    return (height, height), (width, width)


class FrozenConv(nnx.Module):
    """A convolution of a network that will not change: norm folded in, gradient's kernel computed ahead.

    Attributes:
        kernel: `height width channels_in channels_out`.
        bias: `channels_out`.
        turned: `turn(kernel)` where the kernels need it.
    """

    def __init__(self, kernel: Kernel, bias: Array, *, stride: int, padding: Padding, compute: Compute):
        kernel = kernel.astype(compute.dtype)
        turns = compute.turns_kernels and kernel.shape[:2] != (1, 1)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias.astype(compute.dtype))
        self.turned = nnx.Param(_cpu.turn(kernel)) if turns else None
        self.stride, self.padding = stride, padding

    def __call__(
        self, x: Activations, compute: Compute, *, padding: Padding | None = None, border: Border = "zeros"
    ) -> Activations:
        """Convolve, with the layer's own padding by default, and add the bias."""
        y = compute.convolve(
            x,
            self.kernel[...],
            turned=None if self.turned is None else self.turned[...],
            stride=self.stride,
            padding=self.padding if padding is None else padding,
            border=border,
        )
        return y + self.bias[...][None, None, None]


class Conv(nnx.Module):
    """A square convolution with bias.

    Attributes:
        kernel: `size size channels_in channels_out`.
        bias: `channels_out`, zero at initialization.
    """

    def __init__(self, channels_in: int, channels_out: int, *, size: int, stride: int = 1, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kaiming_normal(rngs, (size, size, channels_in, channels_out)))
        self.bias = nnx.Param(jnp.zeros(channels_out, jnp.float32))
        self.stride = stride

    def frozen(self, compute: Compute) -> FrozenConv:
        """Return what computes the same with parameters that will not change."""
        kernel = self.kernel[...]
        return FrozenConv(kernel, self.bias[...], stride=self.stride, padding=half_padding(kernel), compute=compute)

    def __call__(
        self, x: Activations, compute: Compute, *, padding: Padding | None = None, border: Border = "zeros"
    ) -> Activations:
        """Convolve, with half-kernel padding by default, and add the bias."""
        return self.frozen(compute)(x, compute, padding=padding, border=border)


class BatchNorm(nnx.Module):
    """Batch normalization's four vectors; at initialization the identity (scale 1, bias 0, mean 0, variance 1)."""

    def __init__(self, channels: int, *, epsilon: float = BATCH_NORM_EPSILON):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
        self.variance = nnx.BatchStat(jnp.ones(channels, jnp.float32))

    def affine(self) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Return (a, b) such that evaluation mode is y = a x + b."""
        a = self.scale[...] * lax.rsqrt(self.variance[...] + self.epsilon)
        return a, self.bias[...] - a * self.mean[...]


class ConvNorm(nnx.Module):
    """A convolution without bias followed by batch norm.

    The norm goes by its stored statistics, and its factor into the kernel, so that a map is passed over once.

    Args:
        channels_in: Channels of what it is given.
        channels_out: Channels of what it returns.
        size: Height and width of the kernel.
        stride: Step in both directions.
        padding: Zeros (above, below), (left, right); default: half a kernel, which keeps the size.
        epsilon: What the norm adds to the variance.
        draw: How the kernel is initialized.
        rngs: Randomness for that.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: int | tuple[int, int],
        stride: int = 1,
        padding: Padding | None = None,
        epsilon: float = BATCH_NORM_EPSILON,
        draw: Draw = kaiming_normal,
        rngs: nnx.Rngs,
    ):
        height, width = (size, size) if isinstance(size, int) else size
        kernel = draw(rngs, (height, width, channels_in, channels_out))
        self.kernel = nnx.Param(kernel)
        self.norm = BatchNorm(channels_out, epsilon=epsilon)
        self.stride = stride
        self.padding = half_padding(kernel) if padding is None else padding

    def frozen(self, compute: Compute) -> FrozenConv:
        """Return what computes the same with parameters and statistics that will not change."""
        a, b = self.norm.affine()
        kernel = self.kernel[...] * a[None, None, None]
        return FrozenConv(kernel, b, stride=self.stride, padding=self.padding, compute=compute)

    def __call__(
        self, x: Activations, compute: Compute, *, padding: Padding | None = None, border: Border = "zeros"
    ) -> Activations:
        """Convolve, with the layer's own padding by default, and normalize."""
        return self.frozen(compute)(x, compute, padding=padding, border=border)
