"""The layers every network here is made of: convolution, batch norm, pooling.

Activations are `batch height width channels`, kernels `height width in out`. Convolutions and pools go through
one frozen `Operations` value, which says in which precision and with which kernels they are computed, and by which
statistics batch norms normalize.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import check_name
from swag_jax._types import Activations, Kernel, Padding
from swag_jax.backbones import _cpu

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
Kernels: TypeAlias = Literal["auto", "plain", "cpu"]
Norms: TypeAlias = Literal["stored", "batch"]

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
KERNELS: tuple[Kernels, ...] = ("auto", "plain", "cpu")
NORMS: tuple[Norms, ...] = ("stored", "batch")

_MATRIX_PRECISION = {
    "float32": lax.Precision.HIGHEST,
    "tf32": lax.Precision.HIGH,  # TF32 on NVIDIA, three bfloat16 passes on TPU
    "bfloat16": lax.Precision.DEFAULT,
}

BATCH_NORM_EPSILON = 1e-5
"""torch.nn.BatchNorm2d's default, used by every torchvision ResNet."""

BATCH_NORM_MOMENTUM = 0.1
"""Weight of a batch in the stored statistics: torch.nn.BatchNorm2d's default."""


@dataclass(frozen=True)
class Operations:
    """How convolutions, pools and batch norms are computed.

    Attributes:
        precision: `float32` (full), `tf32` (float32 storage, TF32 products where the hardware has them) or
            `bfloat16` (activations and kernels in bfloat16; statistics and losses stay float32).
        kernels: `plain` (XLA's own), `cpu` (the forms that are fast on XLA's CPU backend) or `auto`: `cpu` on
            the CPU, `plain` elsewhere, where neither has been measured yet.
        norms: Batch norms by their `stored` statistics (evaluation), or by the `batch`'s own, which then also
            move the stored ones (training).
    """

    precision: Precision = "float32"
    kernels: Kernels = "auto"
    norms: Norms = "stored"

    def __post_init__(self):
        check_name(self.precision, PRECISIONS, what="precision")
        check_name(self.kernels, KERNELS, what="kernels")
        check_name(self.norms, NORMS, what="norms")

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
        padding: Padding = ((0, 0), (0, 0)),
    ) -> Activations:
        """Cross-correlate as PyTorch does.

        Args:
            x: `batch height width channels_in`.
            kernel: `height width channels_in channels_out`.
            turned: `turn(kernel)`, where it has been computed before.
            stride: Step in both directions.
            padding: Zeros (above, below), (left, right).
        """
        kernel = kernel.astype(x.dtype)
        precision = _MATRIX_PRECISION[self.precision]
        if not self.turns_kernels:
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

    def max_pool(self, x: Activations, *, size: int, stride: int, padding: int = 0) -> Activations:
        """Take the maximum over windows; rows and columns that fill no window are dropped, as in PyTorch."""
        if self.turns_kernels:
            return _cpu.max_pool(x, size=size, stride=stride, padding=padding)
        edge = (padding, padding)
        return lax.reduce_window(
            x,
            -jnp.inf,
            lax.max,
            (1, size, size, 1),
            (1, stride, stride, 1),
            ((0, 0), edge, edge, (0, 0)),
        )


def kaiming_normal(rngs: nnx.Rngs, shape: tuple[int, int, int, int]) -> Kernel:
    """Draw a kernel from N(0, 2 / fan_out): torchvision's rule for VGG and ResNet convolutions."""
    fan_out = shape[0] * shape[1] * shape[3]
    return jax.random.normal(rngs.params(), shape) * (2 / fan_out) ** 0.5


def half_padding(kernel: Kernel) -> Padding:
    """Return the zeros on each side with which an odd, square kernel keeps the size."""
    half = kernel.shape[0] // 2
    return (half, half), (half, half)


class FrozenConv(nnx.Module):
    """A convolution of a network that will not change: norm folded in, gradient's kernel computed ahead.

    Attributes:
        kernel: `size size channels_in channels_out`.
        bias: `channels_out`.
        turned: `turn(kernel)` where the operations need it.
    """

    def __init__(self, kernel: Kernel, bias: Array, *, stride: int, operations: Operations):
        kernel = kernel.astype(operations.dtype)
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias.astype(operations.dtype))
        self.turned = nnx.Param(_cpu.turn(kernel)) if operations.turns_kernels and kernel.shape[0] > 1 else None
        self.stride = stride

    def __call__(self, x: Activations, operations: Operations, *, padding: Padding | None = None) -> Activations:
        """Convolve, with half-kernel zero padding by default, and add the bias."""
        y = operations.convolve(
            x,
            self.kernel[...],
            turned=None if self.turned is None else self.turned[...],
            stride=self.stride,
            padding=half_padding(self.kernel[...]) if padding is None else padding,
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
        self.bias = nnx.Param(jnp.zeros(channels_out))
        self.stride = stride

    def frozen(self, operations: Operations) -> FrozenConv:
        """Return what computes the same with parameters that will not change."""
        return FrozenConv(self.kernel[...], self.bias[...], stride=self.stride, operations=operations)

    def __call__(self, x: Activations, operations: Operations, *, padding: Padding | None = None) -> Activations:
        """Convolve, with half-kernel zero padding by default, and add the bias."""
        return self.frozen(operations)(x, operations, padding=padding)


class BatchNorm(nnx.Module):
    """Batch normalization's four vectors; at initialization the identity (scale 1, bias 0, mean 0, variance 1)."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def affine(self) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Return (a, b) such that evaluation mode is y = a x + b."""
        return self._affine(self.mean[...], self.variance[...])

    def by_batch(self, x: Activations) -> Activations:
        """Normalize by the statistics of `x` itself, and move the stored ones toward them, in place.

        The statistics are float32 whatever the type of `x`; the stored variance is the unbiased one, as in PyTorch.
        """
        wide = x.astype(jnp.float32)
        mean = wide.mean((0, 1, 2))
        variance = jnp.square(wide - mean[None, None, None]).mean((0, 1, 2))
        count = x.size // x.shape[-1]
        self._move(self.mean, mean)
        self._move(self.variance, variance * (count / max(count - 1, 1)))
        a, b = self._affine(mean, variance)
        return (a[None, None, None] * wide + b[None, None, None]).astype(x.dtype)

    def _affine(self, mean, variance):
        a = self.scale[...] * lax.rsqrt(variance + BATCH_NORM_EPSILON)
        return a, self.bias[...] - a * mean

    @staticmethod
    def _move(stored: nnx.BatchStat, value: Float[Array, " channels"]) -> None:
        stored[...] += BATCH_NORM_MOMENTUM * (lax.stop_gradient(value) - stored[...])


class ConvNorm(nnx.Module):
    """A square convolution without bias followed by batch norm.

    In evaluation mode the norm's factor goes into the kernel, so that an activation map is passed over once.
    """

    def __init__(self, channels_in: int, channels_out: int, *, size: int, stride: int = 1, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kaiming_normal(rngs, (size, size, channels_in, channels_out)))
        self.norm = BatchNorm(channels_out)
        self.stride = stride

    def frozen(self, operations: Operations) -> FrozenConv:
        """Return what computes the same with parameters and statistics that will not change."""
        a, b = self.norm.affine()
        kernel = self.kernel[...] * a[None, None, None]
        return FrozenConv(kernel, b, stride=self.stride, operations=operations)

    def __call__(self, x: Activations, operations: Operations, *, padding: Padding | None = None) -> Activations:
        """Convolve, with half-kernel zero padding by default, and normalize."""
        if operations.norms == "stored":
            return self.frozen(operations)(x, operations, padding=padding)
        padding = half_padding(self.kernel[...]) if padding is None else padding
        y = operations.convolve(x, self.kernel[...], stride=self.stride, padding=padding)
        return self.norm.by_batch(y)
