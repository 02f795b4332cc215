"""The layers every network here is made of: convolution, batch norm in evaluation mode, pooling.

Activations are `batch height width channels`, kernels `height width in out`. Convolutions and pools go through
one frozen `Operations` value, which says in which precision and with which kernels they are computed.

Three operations have a slow path in XLA on the CPU, measured in `benchmarks/README.md`; `kernels="cpu"` avoids
all three and gives the same values and gradients:

* the gradient of a convolution at its input, inside `lax.scan`: 5 to 46 times slower than outside
  (jax-ml/jax#12868). Here the gradient is written as an ordinary convolution with the flipped kernel.
* a convolution without padding, on jaxlib 0.10: 4 to 34 times slower. Here one zero is padded and cropped.
* the gradient of `lax.reduce_window`: select-and-scatter, 20 times slower. Here a pool is a maximum of strided
  slices, first along the width and then along the height, whose gradient goes to the first maximum.
"""

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import check_name

Activations: TypeAlias = Float[Array, "batch _ _ _"]
Kernel: TypeAlias = Float[Array, "_ _ _ _"]
Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
Kernels: TypeAlias = Literal["auto", "plain", "cpu"]

PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")
KERNELS: tuple[Kernels, ...] = ("auto", "plain", "cpu")

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_MATRIX_PRECISION = {
    "float32": lax.Precision.HIGHEST,
    "tf32": lax.Precision.HIGH,  # TF32 on NVIDIA, three bfloat16 passes on TPU
    "bfloat16": lax.Precision.DEFAULT,
}

BATCH_NORM_EPSILON = 1e-5
"""torch.nn.BatchNorm2d's default, used by every torchvision ResNet."""


@dataclass(frozen=True)
class Operations:
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
            return _convolve(x, kernel, stride, padding, precision)
        padded = any(map(any, padding))
        if kernel.shape[:2] == (1, 1) and not padded:
            return _convolve_points(x[:, ::stride, ::stride], kernel, precision)
        turned = turn(kernel) if turned is None else turned.astype(x.dtype)
        if padded:
            return _cpu_convolve(x, kernel, turned, stride, padding, precision)
        width = (x.shape[2] - kernel.shape[1]) // stride + 1
        wider: Activations = _cpu_convolve(x, kernel, turned, stride, ((0, 0), (0, stride)), precision)
        return wider[:, :, :width]

    def max_pool(self, x: Activations, *, size: int, stride: int, padding: int = 0) -> Activations:
        """Take the maximum over windows; rows and columns that fill no window are dropped, as in PyTorch."""
        if self.turns_kernels:
            for axis in (2, 1):
                x = _cpu_max_pool(x, axis, size, stride, padding)
            return x
        edge = (padding, padding)
        return lax.reduce_window(
            x,
            -jnp.inf,
            lax.max,
            (1, size, size, 1),
            (1, stride, stride, 1),
            ((0, 0), edge, edge, (0, 0)),
        )


def _convolve(x, kernel, stride, padding, precision, *, input_dilation=1) -> Activations:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        lhs_dilation=(input_dilation, input_dilation),
        dimension_numbers=_DIMENSIONS,
        precision=precision,
    )


def _convolve_points(x: Activations, kernel: Kernel, precision: lax.Precision) -> Activations:
    """Convolve with a 1x1 kernel: a matrix product over channels, which XLA's CPU backend runs faster as such."""
    points = x.reshape(-1, x.shape[-1])
    return jnp.matmul(points, kernel[0, 0], precision=precision).reshape(*x.shape[:-1], kernel.shape[-1])


def turn(kernel: Kernel) -> Kernel:
    """Turn a kernel by 180 degrees and exchange its channels: the kernel of the convolution's gradient."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _cpu_convolve(x, kernel, turned, stride, padding, precision) -> Activations:
    return _convolve(x, kernel, stride, padding, precision)


def _cpu_convolve_forward(x, kernel, turned, stride, padding, precision):
    return _convolve(x, kernel, stride, padding, precision), (x, kernel, turned)


def _cpu_convolve_backward(stride, padding, precision, saved, gradient):
    x, kernel, turned = saved
    covered = [(gradient.shape[1 + d] - 1) * stride + 1 for d in range(2)]
    # dL/dx: correlate the gradient, dilated by the stride, with the turned kernel.
    before = [kernel.shape[d] - 1 - padding[d][0] for d in range(2)]
    after = [x.shape[1 + d] - covered[d] - before[d] + kernel.shape[d] - 1 for d in range(2)]
    edges = tuple(zip(before, after, strict=True))
    dx = _convolve(gradient, turned, 1, edges, precision, input_dilation=stride)
    # dL/dk: correlate the input with the gradient, batch and channels exchanged.
    end = [kernel.shape[d] - 1 + covered[d] - x.shape[1 + d] - padding[d][0] for d in range(2)]
    dk = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        [(padding[d][0], end[d]) for d in range(2)],
        rhs_dilation=(stride, stride),
        dimension_numbers=_DIMENSIONS,
        precision=precision,
    ).transpose(1, 2, 0, 3)
    return dx, dk, None


_cpu_convolve.defvjp(_cpu_convolve_forward, _cpu_convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _cpu_max_pool(x, axis, size, stride, padding) -> Activations:
    return functools.reduce(jnp.maximum, _window_slices(x, axis, size, stride, padding))


def _window_slices(x, axis: int, size: int, stride: int, padding: int) -> list[Activations]:
    """The k-th entry of every window along `axis`, for each k."""
    windows = (x.shape[axis] + 2 * padding - size) // stride + 1
    if padding:
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (padding, padding, 0)
        x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
    return [lax.slice_in_dim(x, k, k + (windows - 1) * stride + 1, stride, axis=axis) for k in range(size)]


def _cpu_max_pool_forward(x, axis, size, stride, padding):
    y = _cpu_max_pool(x, axis, size, stride, padding)
    return y, (x, y)


def _cpu_max_pool_backward(axis, size, stride, padding, saved, gradient):
    x, y = saved
    free = jnp.ones(y.shape, bool)
    shares = []
    for entry in _window_slices(x, axis, size, stride, padding):
        first = (entry == y) & free
        free &= ~first
        shares.append(jnp.where(first, gradient, jnp.zeros((), gradient.dtype)))
    return (_interleaved(shares, axis, stride, padding, x.shape[axis]),)


def _interleaved(shares: list[Activations], axis: int, stride: int, padding: int, length: int) -> Activations:
    """Add up entry i of `shares[k]` at position k + i * stride - padding of a line of `length`.

    Positions with equal remainder by the stride are summed as one line each; the lines are then interleaved.
    """
    cells = -(-(length + padding) // stride)
    lines = [_sum_shifted(shares[k::stride], axis, cells) for k in range(min(stride, len(shares)))]
    lines += [jnp.zeros_like(lines[0])] * (stride - len(lines))
    joined = jnp.stack(lines, axis + 1)
    shape = (*joined.shape[:axis], cells * stride, *joined.shape[axis + 2 :])
    return lax.slice_in_dim(joined.reshape(shape), padding, padding + length, axis=axis)


def _sum_shifted(shares: list[Activations], axis: int, length: int) -> Activations:
    """Add up `shares[j]` shifted by j along `axis`, cut or filled with zeros to `length`."""
    total = None
    for shift, share in enumerate(shares):
        edges = [(0, 0, 0)] * share.ndim
        edges[axis] = (shift, length - share.shape[axis] - shift, 0)
        moved = lax.pad(share, jnp.zeros((), share.dtype), edges)
        total = moved if total is None else total + moved
    assert total is not None  # there is at least one share
    return total


_cpu_max_pool.defvjp(_cpu_max_pool_forward, _cpu_max_pool_backward)


def kaiming_normal(rngs: nnx.Rngs, shape: tuple[int, int, int, int]) -> Kernel:
    """Draw a kernel from N(0, 2 / fan_out): torchvision's rule for VGG and ResNet convolutions."""
    fan_out = shape[0] * shape[1] * shape[3]
    return jax.random.normal(rngs.params(), shape) * (2 / fan_out) ** 0.5


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
        self.turned = nnx.Param(turn(kernel)) if operations.turns_kernels and kernel.shape[0] > 1 else None
        self.stride = stride

    def __call__(self, x: Activations, operations: Operations, *, padding: Padding | None = None) -> Activations:
        """Convolve, with half-kernel zero padding by default, and add the bias."""
        half = self.kernel.shape[0] // 2
        y = operations.convolve(
            x,
            self.kernel[...],
            turned=None if self.turned is None else self.turned[...],
            stride=self.stride,
            padding=((half, half), (half, half)) if padding is None else padding,
        )
        return y + self.bias[...][None, None, None]


class Conv(nnx.Module):
    """A square convolution with bias.

    Attributes:
        kernel: `size size channels_in channels_out`.
        bias: `channels_out`, zero at initialization.
    """

    def __init__(self, channels_in: int, channels_out: int, *, size: int, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kaiming_normal(rngs, (size, size, channels_in, channels_out)))
        self.bias = nnx.Param(jnp.zeros(channels_out))

    def frozen(self, operations: Operations) -> FrozenConv:
        """Return what computes the same with parameters that will not change."""
        return FrozenConv(self.kernel[...], self.bias[...], stride=1, operations=operations)

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
        a = self.scale[...] * lax.rsqrt(self.variance[...] + BATCH_NORM_EPSILON)
        return a, self.bias[...] - a * self.mean[...]


class ConvNorm(nnx.Module):
    """A square convolution without bias followed by batch norm in evaluation mode.

    The norm's factor goes into the kernel, so that an activation map is passed over once.
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

    def __call__(self, x: Activations, operations: Operations) -> Activations:
        """Convolve with half-kernel zero padding and normalize."""
        return self.frozen(operations)(x, operations)
