"""Convolutions and pools in forms that are fast on XLA's CPU backend, with the values and gradients of XLA's own.

What is slow there, measured in `benchmarks/README.md`, and what stands here instead:

* the gradient of a convolution at its input, inside `lax.scan`: 5 to 46 times slower than outside
  (jax-ml/jax#12868). Here the gradient is written as an ordinary convolution with the flipped kernel.
* a convolution without padding, on jaxlib 0.10: 4 to 34 times slower. Here one zero is padded and cropped.
* the gradient of `lax.reduce_window`: select-and-scatter, 20 times slower. Here a pool is a maximum of strided
  slices, first along the width and then along the height, whose gradient goes to the first maximum.
* a convolution in bfloat16: as slow as in float32, while a matrix product in bfloat16 with float32 sums is 3 to 7
  times faster where the processor has AMX. Here wide convolutions are one product for each row of the kernel.
* a product over the first axis of both sides (every weight gradient): 3 to 5 times slower than over the last axis
  of one. Here the narrower side is transposed first, by a product with the identity, which is exact.
* the gradient of a convolution at its kernel, as a convolution whose channels are the batch: up to 4 times slower
  than products of what lies under the kernel's taps. Here these are taken row by row of the kernel, over blocks that
  stay in the processor's cache; where one side has fewer channels, it is the one whose taps are laid side by side.
* a 3x3 convolution of many channels, by its definition: up to 2 times slower, its gradients too, than in Winograd's
  form (`_winograd.py`), which XLA does not choose on its own.
* a map that is copied to be reflected beyond its edges, and the gradient of that: as long again as its convolution at
  128 px. Here a map is convolved with zeros beyond its edges, and the four edges get what is missing.
"""

import functools
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swag_jax._types import Activations, Kernel, Padding
from swag_jax.backbones import _winograd
from swag_jax.backbones._blocks import Blocks
from swag_jax.backbones._multilinear import Bilinear

Points: TypeAlias = Float[Array, "_ _"]
"""Values of some positions: `points channels`."""

Matrix: TypeAlias = Float[Array, "_ _"]
"""A 1x1 kernel: `channels_in channels_out`."""

Shape: TypeAlias = tuple[int, ...]

Mirror: TypeAlias = Literal["edge", "reflect"]
"""What lies beyond the edges of a map where it is not zeros."""

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

ROW_CHANNELS = 128
"""Channels from which a bfloat16 convolution by rows is faster than one in float32, measured at 8 to 32 px."""

WINOGRAD_CHANNELS = (128, 256)
"""Channels on the narrower and on the wider side from which Winograd's form is faster in float32."""

WINOGRAD_SIZE = 2**27
"""Positions of the batch times channels in times channels out from which it is taken, measured at 64 to 65,536
positions. It is faster from a quarter of this on, but its fifty kernels take 0.4 seconds to compile, where XLA's one
takes 0.03: from here on a hundred calls repay that."""

BLOCK = 1024
"""Positions of a block for the gradient at other kernels in float32, measured from 512 to 4,096 at 16 to 128 px."""

NARROW = 128
"""Columns of a kernel's row times channels below which all its rows share one product of a block."""

TAP_CHANNELS = 64
"""Channels on both sides from which the gradient at a strided kernel in float32 is faster tap by tap, measured at 16 to
128 px."""


def convolve(
    x: Activations,
    kernel: Kernel,
    turned: Kernel,
    *,
    stride: int,
    padding: Padding,
    precision: lax.Precision,
) -> Activations:
    """Cross-correlate; in bfloat16 products are summed in float32.

    Args:
        x: `batch height width channels_in`.
        kernel: `height width channels_in channels_out`, of the type of `x`.
        turned: `turn(kernel)`.
        stride: Step in both directions.
        padding: Zeros (above, below), (left, right).
        precision: Of the products of float32 values.
    """
    if kernel.shape[:2] == (1, 1) and not any(map(any, padding)):
        points = x[:, ::stride, ::stride]
        flat, matrix = points.reshape(-1, points.shape[-1]), kernel[0, 0]
        product = _multiplied(flat, matrix, shape=(len(flat), matrix.shape[1]), precision=precision)
        return product.reshape(*points.shape[:-1], kernel.shape[-1])

    def correlated(padding: Padding) -> Activations:
        height, width = ((x.shape[1 + d] + sum(padding[d]) - kernel.shape[d]) // stride + 1 for d in range(2))
        shape = (len(x), height, width, kernel.shape[3])
        return _correlated(x, kernel, turned, shape=shape, stride=stride, padding=padding, precision=precision)

    if any(map(any, padding)) or x.dtype == jnp.bfloat16:
        return correlated(padding)
    return correlated(((0, 0), (0, stride)))[:, :, :-1]


def convolve_beyond(
    x: Activations, kernel: Kernel, turned: Kernel, *, border: Mirror, precision: lax.Precision
) -> Activations:
    """Cross-correlate with a 3x3 kernel, keeping the size, where something else than zeros lies beyond the edges.

    Convolution is linear: to that of the map with zeros around it, the four edges get what lies beyond them, seen by
    the outermost row or column of the kernel.

    Args:
        x: `batch height width channels_in`.
        kernel: `3 3 channels_in channels_out`, of the type of `x`.
        turned: `turn(kernel)`.
        border: What lies beyond the edges.
        precision: Of the products of float32 values.
    """

    def seen(beyond: Activations, part: Kernel, padding: Padding) -> Activations:
        return convolve(beyond, part, turn(part), stride=1, padding=padding, precision=precision)

    (above, below), (left, right) = _beyond(x, 1, border), _beyond(x, 2, border)
    corners = ((0, 0), (0, 0), (1, 1), (0, 0))
    above, below = (jnp.pad(row, corners, mode=border) for row in (above, below))
    y = convolve(x, kernel, turned, stride=1, padding=((1, 1), (1, 1)), precision=precision)
    y = y.at[:, :1].add(seen(above, kernel[:1], ((0, 0), (0, 0))))
    y = y.at[:, -1:].add(seen(below, kernel[-1:], ((0, 0), (0, 0))))
    y = y.at[:, :, :1].add(seen(left, kernel[:, :1], ((1, 1), (0, 0))))
    return y.at[:, :, -1:].add(seen(right, kernel[:, -1:], ((1, 1), (0, 0))))


def _beyond(x: Activations, axis: int, border: Mirror) -> tuple[Activations, Activations]:
    """Return the lines just beyond the two ends of an axis."""
    last = x.shape[axis] - 1
    inside = min(last, int(border == "reflect"))
    first, second = (lax.slice_in_dim(x, at, at + 1, axis=axis) for at in (inside, last - inside))
    return first, second


def turn(kernel: Kernel) -> Kernel:
    """Turn a kernel by 180 degrees and exchange its channels: the kernel of the convolution's gradient."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


# --- Matrix products


def _multiply(x: Points, matrix: Matrix, *, shape: Shape, precision: lax.Precision) -> Points:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return jnp.matmul(x, matrix, precision=precision, preferred_element_type=wide).astype(x.dtype)


def _multiply_transposed(gradient: Points, matrix: Matrix, *, shape: Shape, precision: lax.Precision) -> Points:
    return _multiply(gradient, matrix.T, shape=shape, precision=precision)


def _matrix_gradient(x: Points, gradient: Points, *, shape: Shape, precision: lax.Precision) -> Matrix:
    return _multiply_first_axes(x, gradient, precision).astype(x.dtype)


def _multiply_first_axes(a, b, precision) -> Float[Array, "columns_a columns_b"]:
    """Return a^T b, in float32 at least."""
    if a.dtype != jnp.bfloat16:
        return jnp.matmul(a.T, b, precision=precision)
    if a.shape[1] > b.shape[1]:
        return _after(_multiply_first_axes(b, a, precision)).T
    return jnp.matmul(_transposed(a), b, preferred_element_type=jnp.float32)


def _transposed(x, precision=None):
    """Return x^T as I x^T: exact, since every sum has one term that is not zero."""
    identity = jnp.eye(x.shape[1], dtype=x.dtype)
    last = (((1,), (1,)), ((), ()))
    return lax.dot_general(identity, x, last, precision=precision, preferred_element_type=jnp.float32).astype(x.dtype)


def _after(product):
    """Keep XLA from moving a transposition of `product` into it, where the fast form is lost."""
    return lax.optimization_barrier(product)


_multiplied = Bilinear("cpu_multiply", product=_multiply, left=_multiply_transposed, right=_matrix_gradient)


# --- Convolution


def _input_gradient(gradient, kernel, turned, *, shape, stride, padding, precision) -> Activations:
    """dL/dx: correlate the gradient, dilated by the stride, with the turned kernel."""
    covered = [(gradient.shape[1 + d] - 1) * stride + 1 for d in range(2)]
    before = [kernel.shape[d] - 1 - padding[d][0] for d in range(2)]
    after = [shape[1 + d] - covered[d] - before[d] + kernel.shape[d] - 1 for d in range(2)]
    edges = tuple(zip(before, after, strict=True))
    return _in_chosen_form(gradient, turned, stride=1, padding=edges, precision=precision, dilation=stride)


def _kernel_gradient(x, gradient, *, shape, stride, padding, precision) -> Kernel:
    if x.dtype == jnp.bfloat16 and shape[2] >= ROW_CHANNELS:
        return _row_kernel_gradient(x, gradient, shape, stride, padding).astype(x.dtype)
    if _suits_winograd(x, shape, stride):
        return _winograd.kernel_gradient(x, gradient, shape, padding, precision)
    if x.dtype == jnp.float32 and stride == 1:
        return _block_kernel_gradient(x, gradient, shape, padding, precision)
    if x.dtype == jnp.float32 and min(shape[2:]) >= TAP_CHANNELS:
        return _tap_kernel_gradient(x, gradient, shape, stride, padding, precision)
    return _exchanged_kernel_gradient(x, gradient, shape, stride, padding, precision)


def _exchanged_kernel_gradient(x, gradient, shape, stride, padding, precision) -> Kernel:
    """dL/dk: correlate the input with the gradient, batch and channels exchanged."""
    kind, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    x, gradient = x.astype(wide), gradient.astype(wide)
    covered = [(gradient.shape[1 + d] - 1) * stride + 1 for d in range(2)]
    end = [shape[d] - 1 + covered[d] - x.shape[1 + d] - padding[d][0] for d in range(2)]
    dk = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        [(padding[d][0], end[d]) for d in range(2)],
        rhs_dilation=(stride, stride),
        dimension_numbers=DIMENSIONS,
        precision=precision,
    )
    return dk.transpose(1, 2, 0, 3).astype(kind)


def _correlate(x, kernel, turned, *, shape, stride, padding, precision) -> Activations:
    return _in_chosen_form(x, kernel, stride=stride, padding=padding, precision=precision, dilation=1)


_correlated = Bilinear(
    "cpu_correlate",
    product=_correlate,
    left=_input_gradient,
    right=_kernel_gradient,
    prepare=lambda kernel: (turn(kernel),),
)


def _in_chosen_form(x, kernel, *, stride, padding, precision, dilation) -> Activations:
    if dilation == 1 and _suits_winograd(x, kernel.shape, stride):
        return _winograd.correlate(x, kernel, padding, precision)
    if x.dtype != jnp.bfloat16:
        return _xla_correlate(x, kernel, stride, padding, precision, dilation)
    if kernel.shape[2] >= ROW_CHANNELS:
        return _row_correlate(x, kernel, stride, padding, dilation)
    wide = _xla_correlate(x.astype(jnp.float32), kernel.astype(jnp.float32), stride, padding, precision, dilation)
    return wide.astype(x.dtype)


def _suits_winograd(x: Activations, shape: tuple[int, ...], stride: int) -> bool:
    few, many = sorted(shape[2:])
    wide = few >= WINOGRAD_CHANNELS[0] and many >= WINOGRAD_CHANNELS[1]
    large = x.size // x.shape[-1] * few * many >= WINOGRAD_SIZE
    return x.dtype == jnp.float32 and shape[:2] == (3, 3) and stride == 1 and wide and large


def _xla_correlate(x, kernel, stride, padding, precision, dilation):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        lhs_dilation=(dilation, dilation),
        dimension_numbers=DIMENSIONS,
        precision=precision,
    )


def _row_correlate(x, kernel, stride, padding, dilation) -> Activations:
    """Y = sum over the kernel's rows i of X_i K_i, where X_i holds what lies under row i, side by side."""
    height, width, channels_in, channels_out = kernel.shape
    rows = _rows(x, (height, width), stride, padding, dilation)
    matrices = kernel.reshape(height, width * channels_in, channels_out)
    total = jnp.zeros((), jnp.float32)
    for row, matrix in zip(rows, matrices, strict=True):
        total += jnp.matmul(row.reshape(-1, row.shape[-1]), matrix, preferred_element_type=jnp.float32)
    return total.astype(x.dtype).reshape(*rows[0].shape[:-1], channels_out)


def _row_kernel_gradient(x, gradient, shape, stride, padding) -> Kernel:
    rows = _rows(x, shape[:2], stride, padding, 1)
    flat = gradient.reshape(-1, shape[3])
    if flat.shape[1] > rows[0].shape[-1]:
        return jnp.stack([_multiply_first_axes(r.reshape(-1, r.shape[-1]), flat, None) for r in rows]).reshape(shape)
    across = _transposed(flat)
    products = [jnp.matmul(across, r.reshape(-1, r.shape[-1]), preferred_element_type=jnp.float32) for r in rows]
    return jnp.stack([_after(p).T for p in products]).reshape(shape)


def _tap_kernel_gradient(x, gradient, shape, stride, padding, precision) -> Kernel:
    """dL/dK_ij = X_ij^T G, where X_ij holds what lies under tap i, j of the kernel at every position."""
    height, width, channels_in, channels_out = shape
    rows, columns = ((n - 1) * stride + 1 for n in gradient.shape[1:3])
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*edge, 0) for edge in padding), (0, 0, 0)])
    across = _after(_transposed(gradient.reshape(-1, channels_out), precision))
    products = [
        _after(
            jnp.matmul(
                across,
                x[:, i : i + rows : stride, j : j + columns : stride].reshape(-1, channels_in),
                precision=precision,
            )
        )
        for i in range(height)
        for j in range(width)
    ]
    return jnp.stack([product.T for product in products]).reshape(shape)


def _block_kernel_gradient(x, gradient, shape, padding, precision) -> Kernel:
    """dL/dK_i^T = sum over blocks of G^T X_i, where X_i holds what lies under row i of the kernel, side by side."""
    height, width, channels_in, channels_out = shape
    if channels_out < channels_in:  # the same with sides exchanged, where taps run the other way
        edges = tuple((n - 1 - low, n - 1 - high) for n, (low, high) in zip(shape[:2], padding, strict=True))
        swapped = (height, width, channels_out, channels_in)
        return turn(_block_kernel_gradient(gradient, x, swapped, edges, precision))
    columns, row = gradient.shape[2], width * channels_in
    blocks, halo = Blocks.of(*gradient.shape[:3], most=BLOCK), (height - 1, width - 1)
    x, gradient = blocks.padded(x, padding, halo), blocks.padded(gradient, ((0, 0), (0, 0)))

    def products(place):
        seen = blocks.taken(x, place, halo)
        under = jnp.concatenate([seen[:, :, j : j + columns] for j in range(width)], -1)
        lines = [under[:, i : i + blocks.rows].reshape(-1, row) for i in range(height)]
        across = blocks.taken(gradient, place).reshape(-1, channels_out).T
        if row < NARROW:
            return [jnp.matmul(across, jnp.concatenate(lines, -1), precision=precision)]
        return [jnp.matmul(across, line, precision=precision) for line in lines]

    rows = jnp.concatenate(blocks.sum(products), -1)
    return rows.reshape(channels_out, height, width, channels_in).transpose(1, 2, 3, 0)


def _rows(x, size, stride, padding, dilation) -> list[Activations]:
    """For each row i of a kernel of `size`: the pixels under it at every position, `batch rows columns width*in`."""
    edges = [(0, 0, 0), *((*edge, dilation - 1) for edge in padding), (0, 0, 0)]
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    count = [(x.shape[1 + d] - size[d]) // stride + 1 for d in range(2)]

    def taken(x, axis: int, first: int):
        return lax.slice_in_dim(x, first, first + (count[axis - 1] - 1) * stride + 1, stride, axis=axis)

    across = jnp.concatenate([taken(x, 2, j) for j in range(size[1])], -1)
    return [taken(across, 1, i) for i in range(size[0])]


# --- Max pooling


def max_pool(x: Activations, *, size: int, stride: int, padding: Padding) -> Activations:
    """Take the maximum over windows; rows and columns that fill no window are dropped."""
    for axis in (2, 1):
        x = _line_max_pool(x, axis, size, stride, padding[axis - 1])
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def _line_max_pool(x, axis, size, stride, edge) -> Activations:
    return functools.reduce(jnp.maximum, _window_slices(x, axis, size, stride, edge))


@_line_max_pool.defjvp
def _(axis, size, stride, edge, primals, tangents):
    """The tangent of a maximum is that of the first entry that has its value; of NaN, nothing."""
    (x,), (of_x,) = primals, tangents
    y = _line_max_pool(x, axis, size, stride, edge)
    first = jnp.full(y.shape, size, jnp.uint8)
    for k, entry in reversed(list(enumerate(_window_slices(x, axis, size, stride, edge)))):
        first = jnp.where(entry == y, jnp.uint8(k), first)
    return y, _chosen(of_x, first, shape=y.shape, axis=axis, size=size, stride=stride, edge=edge)


def _choose(x, which, *, shape, axis, size, stride, edge) -> Activations:
    """Take entry `which` of every window; zero where there is none."""
    total = jnp.zeros(shape, x.dtype)
    for k, entry in enumerate(_window_slices(x, axis, size, stride, edge)):
        total = jnp.where(which == k, entry, total)
    return total


def _put_back(gradient, which, *, shape, axis, size, stride, edge) -> Activations:
    """Give every window's gradient to its entry `which`."""
    shares = [jnp.where(which == k, gradient, jnp.zeros((), gradient.dtype)) for k in range(size)]
    return _interleaved(shares, axis, stride, edge[0], shape[axis])


_chosen = Bilinear("cpu_choose", product=_choose, left=_put_back)


def _window_slices(x, axis: int, size: int, stride: int, edge: tuple[int, int]) -> list[Activations]:
    """The k-th entry of every window along `axis`, for each k."""
    windows = (x.shape[axis] + sum(edge) - size) // stride + 1
    if any(edge):
        edges = [(0, 0, 0)] * x.ndim
        edges[axis] = (*edge, 0)
        x = lax.pad(x, jnp.array(jnp.finfo(x.dtype).min, x.dtype), edges)
    return [lax.slice_in_dim(x, k, k + (windows - 1) * stride + 1, stride, axis=axis) for k in range(size)]


def _interleaved(shares: list[Activations], axis: int, stride: int, before: int, length: int) -> Activations:
    """Add up entry i of `shares[k]` at position k + i * stride - before of a line of `length`.

    Positions with equal remainder by the stride are summed as one line each; the lines are then interleaved.
    """
    cells = -(-(length + before) // stride)
    lines = [_sum_shifted(shares[k::stride], axis, cells) for k in range(min(stride, len(shares)))]
    lines += [jnp.zeros_like(lines[0])] * (stride - len(lines))
    joined = jnp.stack(lines, axis + 1)
    shape = (*joined.shape[:axis], cells * stride, *joined.shape[axis + 2 :])
    return lax.slice_in_dim(joined.reshape(shape), before, before + length, axis=axis)


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
