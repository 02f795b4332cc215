"""The layers every network here is made of: convolutions, with or without batch norm.

Activations are `batch height width channels`, kernels `height width in out`.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import check_name
from swag_jax._types import Activations, Border, Kernel, Mask, Padding
from swag_jax.backbones import kernels
from swag_jax.backbones.kernels import KERNELS, NO_PADDING, Kernels, Prepared

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]

Draw: TypeAlias = Callable[[nnx.Rngs, tuple[int, int, int, int]], Kernel]
"""Draws a kernel of a shape."""

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")

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
        kernels: `xla` (XLA's own), `cpu` (forms that are faster on XLA's CPU backend) or `auto`: what the environment
            variable `SWAG_JAX_KERNELS` says, or else `cpu` on the CPU and `xla` on other devices.
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

    def region(self, rows: int, columns: int) -> Mask | None:
        """Return which positions of a map are the image's, to be counted in norms; `None`: all."""
        return None

    def prepare(self, kernel: Kernel | Prepared) -> Kernel | Prepared:
        """Return a kernel for `convolve` that will not change, with what its gradients need computed ahead."""
        return kernel if isinstance(kernel, Prepared) else kernels.prepare(kernel.astype(self.dtype), self.kernels)

    def convolve(
        self,
        x: Activations,
        kernel: Kernel | Prepared,
        *,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        border: Border = "zeros",
    ) -> Activations:
        """Cross-correlate `batch height width channels` as PyTorch does; on the CPU bfloat16 is summed in float32.

        A kernel with one channel in convolves each channel separately. Padding is rows (above, below) and columns
        (left, right) beyond the edges, and the border what they hold.
        """
        precision = _MATRIX_PRECISION[self.precision]
        options = {"stride": stride, "padding": padding, "border": border, "precision": precision}
        return kernels.convolve(x, kernel, **options, kernels=self.kernels)

    def max_pool(
        self, x: Activations, *, size: int, stride: int, padding: int = 0, partial: bool = False
    ) -> Activations:
        """Take the maximum over windows, as PyTorch does; the stride is at most the size, padding never the maximum.

        Rows and columns at the end that fill no window make one if `partial` (PyTorch's `ceil_mode`).
        """
        missing = [-(length + 2 * padding - size) % stride if partial else 0 for length in x.shape[1:3]]
        edges = (padding, padding + missing[0]), (padding, padding + missing[1])
        return kernels.max_pool(x, size=size, stride=stride, padding=edges, kernels=self.kernels)


@jax.custom_jvp
def relu(x: Activations) -> Activations:
    """Return max(x, 0); its gradient reads the result, so that x itself need not be kept, nor written to memory."""
    return jnp.maximum(x, 0)


@relu.defjvp
def _tangent_of_relu(primals, tangents):
    (x,), (of_x,) = primals, tangents
    y = relu(x)
    return y, jnp.where(y != 0, of_x, 0)


def kaiming_normal(rngs: nnx.Rngs, shape: tuple[int, int, int, int]) -> Kernel:
    """Draw a kernel from N(0, 2 / fan_out): torchvision's rule for VGG and ResNet convolutions."""
    fan_out = shape[0] * shape[1] * shape[3]
    return normal((2 / fan_out) ** 0.5)(rngs, shape)


def normal(deviation: float) -> Draw:
    """Return what draws a kernel from N(0, deviation^2)."""

    def draw(rngs: nnx.Rngs, shape: tuple[int, int, int, int]) -> Kernel:
        # A number depends on its place alone, so the first of more are those of `jax.random.normal(key, shape)`. Its
        # program is slow to compile: this way few sizes serve all kernels.
        many = 1 << (math.prod(shape) - 1).bit_length()
        return _scaled_first(jax.random.normal(rngs.params(), (many,), jnp.float32), deviation, shape=shape)

    return draw


@partial(jax.jit, static_argnames="shape")
def _scaled_first(
    numbers: Float[Array, " _"], deviation: Float[Array, ""] | float, *, shape: tuple[int, int, int, int]
) -> Kernel:
    return numbers[: math.prod(shape)].reshape(shape) * deviation


def half_padding(kernel: Kernel) -> Padding:
    """Return the padding with which an odd kernel keeps the size."""
    height, width = (side // 2 for side in kernel.shape[:2])
    return (height, height), (width, width)


class Convolution(nnx.Module):
    """A convolution with bias, whatever it computes them from."""

    stride: int
    padding: Padding

    @abc.abstractmethod
    def _folded(self) -> tuple[Kernel | Prepared, Float[Array, " channels"]]:
        """Return kernel and bias."""

    def __call__(
        self, x: Activations, compute: Compute, *, padding: Padding | None = None, border: Border = "zeros"
    ) -> Activations:
        kernel, bias = self._folded()
        padding = self.padding if padding is None else padding
        y = compute.convolve(x, kernel, stride=self.stride, padding=padding, border=border)
        return y + bias.astype(compute.dtype)[None, None, None]

    def frozen(self, compute: Compute) -> "FrozenConv":
        """Return a layer that computes the same with parameters that will not change."""
        kernel, bias = self._folded()
        prepared = compute.prepare(kernel)
        return FrozenConv(prepared, bias, stride=self.stride, padding=self.padding, compute=compute)


class FrozenConv(Convolution):
    """A convolution of a network that will not change: norm folded in, kernel prepared."""

    def __init__(self, kernel: Kernel | Prepared, bias: Array, *, stride: int, padding: Padding, compute: Compute):
        self.kernel = nnx.Param(kernel)
        self.bias = nnx.Param(bias.astype(compute.dtype))
        self.stride, self.padding = stride, padding

    def _folded(self) -> tuple[Kernel | Prepared, Float[Array, " channels"]]:
        return self.kernel.get_value(), self.bias[...]


class Conv(Convolution):
    """A square convolution with bias, which is zero at initialization."""

    def __init__(self, channels_in: int, channels_out: int, *, size: int, stride: int = 1, rngs: nnx.Rngs):
        kernel = kaiming_normal(rngs, (size, size, channels_in, channels_out))
        self.kernel, self.bias = nnx.Param(kernel), nnx.Param(jnp.zeros(channels_out, jnp.float32))
        self.stride, self.padding = stride, half_padding(kernel)

    def _folded(self) -> tuple[Kernel, Float[Array, " channels"]]:
        return self.kernel[...], self.bias[...]


class BatchNorm(nnx.Module):
    """Batch normalization's four vectors; at initialization the identity (scale 1, bias 0, mean 0, variance 1)."""

    def __init__(self, channels: int, *, epsilon: float = BATCH_NORM_EPSILON):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
        self.variance = nnx.BatchStat(jnp.ones(channels, jnp.float32))

    def affine(self) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Return a and b of evaluation mode, y = a x + b."""
        a = self.scale[...] * lax.rsqrt(self.variance[...] + self.epsilon)
        return a, self.bias[...] - a * self.mean[...]


class ConvNorm(Convolution):
    """A convolution without bias followed by batch norm with its stored statistics; its own padding keeps the size."""

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
        self.stride, self.padding = stride, half_padding(kernel) if padding is None else padding

    def _folded(self) -> tuple[Kernel, Float[Array, " channels"]]:
        # The norm's factor goes into the kernel: a map is passed over once.
        a, b = self.norm.affine()
        return self.kernel[...] * a[None, None, None], b
