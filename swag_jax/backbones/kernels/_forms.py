"""Forms of a convolution and of its gradient at the kernel, each with the values of XLA's own."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from swag_jax._numerics import widen
from swag_jax._types import Activations, Kernel, Padding
from swag_jax.backbones.kernels._blocks import Blocks

BLOCK = 1024
"""Positions of a block, measured from 512 to 4,096 at 16 to 128 px."""

NARROW = 128
"""Columns of a kernel's row times channels below which all its rows share one product of a block."""


class Window(NamedTuple):
    """How a kernel moves over a map; `dilation` is the distance of the map's pixels, with zeros between them."""

    stride: int
    padding: Padding
    precision: lax.Precision
    dilation: int = 1

    def output(self, x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what a kernel of a shape makes of a map that is not dilated."""
        height, width = (
            (x.shape[1 + axis] + sum(self.padding[axis]) - shape[axis]) // self.stride + 1 for axis in range(2)
        )
        return len(x), height, width, shape[3]


def flip(kernel: Kernel) -> Kernel:
    """Turn a kernel by 180 degrees and exchange its channels: the kernel of the convolution's gradient."""
    if kernel.shape[:2] == (1, 1):  # a transposition that XLA folds into a product
        return _matrix(kernel).T.reshape(1, 1, *kernel.shape[:1:-1])
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def slices(x, axis: int, size: int, stride: int, edge: tuple[int, int], *, fill: float) -> list[Activations]:
    """Return the k-th entry of every window along an axis, for each k; `fill` lies beyond the ends."""
    windows = (x.shape[axis] + sum(edge) - size) // stride + 1
    if any(edge):
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (*edge, 0)
        x = lax.pad(x, jnp.array(fill, x.dtype), edges)
    return [lax.slice_in_dim(x, k, k + (windows - 1) * stride + 1, stride, axis=axis) for k in range(size)]


# --- XLA's own


def xla(x, kernel, window: Window, *, kernel_dilation: int = 1) -> Activations:
    return lax.conv_general_dilated(
        x,
        kernel,
        (window.stride,) * 2,
        window.padding,
        (window.dilation,) * 2,
        (kernel_dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
        precision=window.precision,
    )


def _xla_padded(x, kernel, window: Window, *, kernel_dilation: int = 1) -> Activations:
    # On jaxlib 0.10 a map without padding is slow on the CPU: pad zeros, and crop.
    if any(map(any, window.padding)):
        return xla(x, kernel, window, kernel_dilation=kernel_dilation)
    padded = window._replace(padding=((0, 0), (0, window.stride)))
    return xla(x, kernel, padded, kernel_dilation=kernel_dilation)[:, :, :-1]


def xla_cpu(x, kernel, window: Window) -> Activations:
    # In float32 bfloat16 is as fast on the CPU, and more exact.
    return _xla_padded(widen(x), widen(kernel), window).astype(x.dtype)


def xla_kernel_gradient(x, gradient, shape, window: Window) -> Kernel:
    """dL/dK: correlate the map with the gradient, batch and channels exchanged."""
    edges = []
    for axis, (before, _) in enumerate(window.padding):
        covered = (gradient.shape[1 + axis] - 1) * window.stride + 1
        edges.append((before, shape[axis] - 1 + covered - x.shape[1 + axis] - before))
    exchanged = Window(1, (edges[0], edges[1]), window.precision)
    across, narrow = widen(x).transpose(3, 1, 2, 0), widen(gradient).transpose(1, 2, 0, 3)
    dk = _xla_padded(across, narrow, exchanged, kernel_dilation=window.stride)
    return dk.transpose(1, 2, 0, 3).astype(x.dtype)


# --- One product, for a 1x1 kernel


def matrix(x, kernel, window: Window) -> Activations:
    """Y = X K; what lies between and beyond the map's pixels stays zero."""
    seen = x[:, :: window.stride, :: window.stride]
    y = _product(seen.reshape(-1, seen.shape[-1]), _matrix(kernel), window.precision).astype(x.dtype)
    return _spread(y.reshape(*seen.shape[:-1], -1), window)


def matrix_kernel_gradient(x, gradient, shape, window: Window) -> Kernel:
    """dL/dK = X^T G."""
    seen = x[:, :: window.stride, :: window.stride].reshape(-1, shape[2])
    return _product(seen.T, gradient.reshape(-1, shape[3]), window.precision).astype(x.dtype).reshape(shape)


def _matrix(kernel):
    return kernel.reshape(kernel.shape[2:])


# --- One product for each row of the kernel


def rows(x, kernel, window: Window) -> Activations:
    """Y = sum over the kernel's rows i of X_i K_i, where X_i holds what lies under row i, side by side."""
    height, width, channels_in, channels_out = kernel.shape
    seen = _seen_by_rows(x, (height, width), window)
    matrices = kernel.reshape(height, width * channels_in, channels_out)
    products = [_product(row.reshape(-1, row.shape[-1]), matrix) for row, matrix in zip(seen, matrices, strict=True)]
    return functools.reduce(jnp.add, products).astype(x.dtype).reshape(*seen[0].shape[:-1], channels_out)


def rows_kernel_gradient(x, gradient, shape, window: Window) -> Kernel:
    """dL/dK_i = X_i^T G."""
    flat = gradient.reshape(-1, shape[3])
    seen = _seen_by_rows(x, shape[:2], window)
    return jnp.stack([_product(row.reshape(-1, row.shape[-1]).T, flat) for row in seen]).reshape(shape).astype(x.dtype)


def _product(a, b, precision: lax.Precision | None = None):
    # With float32 sums at least: bfloat16 ones, XLA's default, are slow.
    return jnp.matmul(a, b, precision=precision, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _seen_by_rows(x, size, window: Window) -> list[Activations]:
    """For each row of a kernel of `size`: the pixels under it at every position, `batch rows columns width*in`."""
    across = jnp.concatenate(slices(_spread(x, window), 2, size[1], window.stride, (0, 0), fill=0.0), -1)
    return slices(across, 1, size[0], window.stride, (0, 0), fill=0.0)


def _spread(x, window: Window) -> Activations:
    """Put zeros between and around the map's pixels."""
    edges = [(0, 0, 0), *((*edge, window.dilation - 1) for edge in window.padding), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), edges)


# --- Products of blocks that stay in the processor's cache


def blocks_kernel_gradient(x, gradient, shape, window: Window) -> Kernel:
    """dL/dK_i^T = sum over blocks of G^T X_i, where X_i holds what lies under row i of the kernel, side by side."""
    height, width, channels_in, channels_out = shape
    if channels_out < channels_in:  # the same with sides exchanged, where taps run the other way
        edges = [(n - 1 - low, n - 1 - high) for n, (low, high) in zip(shape[:2], window.padding, strict=True)]
        back = window._replace(padding=(edges[0], edges[1]))
        return flip(blocks_kernel_gradient(gradient, x, (height, width, channels_out, channels_in), back))
    columns, row = gradient.shape[2], width * channels_in
    blocks, halo = Blocks.of(*gradient.shape[:3], most=BLOCK), (height - 1, width - 1)
    x, gradient = blocks.padded(x, window.padding, halo), blocks.padded(gradient, ((0, 0), (0, 0)))

    def products(place):
        seen = blocks.taken(x, place, halo)
        under = jnp.concatenate([seen[:, :, j : j + columns] for j in range(width)], -1)
        lines = [under[:, i : i + blocks.rows].reshape(-1, row) for i in range(height)]
        across = blocks.taken(gradient, place).reshape(-1, channels_out).T
        if row < NARROW:
            lines = [jnp.concatenate(lines, -1)]
        return [jnp.matmul(across, line, precision=window.precision) for line in lines]

    total = jnp.concatenate(blocks.sum(products), -1)
    return total.reshape(channels_out, height, width, channels_in).transpose(1, 2, 3, 0)
