"""3x3 convolutions in Winograd's form F(2x2, 3x3): 16 products for four outputs, where the definition takes 36.

Lavin and Gray, CVPR 2016. A tile d of 4x4 inputs gives 2x2 outputs

    Y = A^T [U * V] A,    U = G k G^T,    V = B^T d B,

where * goes entry by entry: summed over channels, entry ij of U * V is a matrix product of all tiles' V_ij with U_ij.
The gradient at the kernel is the adjoint, dk = G^T dU G with dU_ij = V_ij^T dM_ij and dM = A dY A^T. In float32 both
differ from the definition by about 1e-6 of their largest value.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

from swag_jax._types import Activations, Kernel
from swag_jax.backbones.kernels._blocks import Block, Blocks
from swag_jax.backbones.kernels._forms import Window

Matrix: TypeAlias = Sequence[Sequence[float]]

Grid: TypeAlias = Sequence[Sequence[Array]]
"""A small matrix whose every entry is an array: one number for each tile and channel, say."""

B_TRANSPOSED: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
G: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
A_TRANSPOSED: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))

BLOCK = 2**20
"""Tiles times channels of a block, measured from 2^18 to 2^21 for maps of 16 to 128 px. A block takes 128 MiB."""

HALO = (2, 2)


def correlate(x: Activations, kernel: Kernel, window: Window) -> Activations:
    """Cross-correlate with a 3x3 kernel of the type of `x` and a stride of one."""
    _, height, width, _ = window.output(x, kernel.shape)
    blocks = _blocks(len(x), height, width, kernel.shape)
    x = blocks.padded(x, window.padding, HALO)
    u = _sandwich(G, [list(row) for row in kernel])  # once for all blocks

    def outputs(place) -> Block:
        v = _inputs(blocks.taken(x, place, HALO))
        m = _entry_by_entry(lambda v, u: jnp.matmul(v, u, precision=window.precision), v, u)
        y = _sandwich(A_TRANSPOSED, m)
        pairs = jnp.stack([jnp.stack(row, 3) for row in y], 2)  # images rows 2 columns 2 channels
        return pairs.reshape(len(pairs), 2 * blocks.rows, 2 * blocks.columns, -1)

    return blocks.map(outputs)[:, :height, :width]


def kernel_gradient(x: Activations, gradient: Activations, shape: tuple[int, ...], window: Window) -> Kernel:
    """Return the gradient of `correlate` at a kernel of a shape, from that at its output."""
    images, height, width, _ = gradient.shape
    blocks = _blocks(images, height, width, shape)
    x, gradient = blocks.padded(x, window.padding, HALO), blocks.padded(gradient, ((0, 0), (0, 0)))

    def over_tiles(v: Array, dm: Array) -> Array:
        return jnp.matmul(v.reshape(-1, v.shape[-1]).T, dm.reshape(-1, dm.shape[-1]), precision=window.precision)

    def products(place) -> Grid:
        v, dy = _inputs(blocks.taken(x, place, HALO)), blocks.taken(gradient, place)
        dm = _sandwich(_transposed(A_TRANSPOSED), [[dy[:, i::2, j::2] for j in range(2)] for i in range(2)])
        return _entry_by_entry(over_tiles, v, dm)

    dk = _sandwich(_transposed(G), blocks.sum(products))
    return jnp.stack([jnp.stack(row) for row in dk])


def _blocks(images: int, height: int, width: int, shape: tuple[int, ...]) -> Blocks:
    return Blocks.of(images, height, width, most=BLOCK // max(shape[2:]), side=2)


def _inputs(x: Block) -> Grid:
    """Return V: `images rows columns channels` of tiles that lie two apart in x and overlap by two."""
    rows, columns = (n - 2 for n in x.shape[1:3])
    return _sandwich(B_TRANSPOSED, [[x[:, i : i + rows : 2, j : j + columns : 2] for j in range(4)] for i in range(4)])


def _entry_by_entry(product: Callable[[Array, Array], Array], a: Grid, b: Grid) -> Grid:
    return [[product(*pair) for pair in zip(*rows, strict=True)] for rows in zip(a, b, strict=True)]


def _sandwich(matrix: Matrix, grid: Grid) -> Grid:
    """Return M X M^T."""
    rows = [[_combined(weights, column) for column in zip(*grid, strict=True)] for weights in matrix]
    return [[_combined(weights, row) for weights in matrix] for row in rows]


def _combined(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    """Return the weighted sum of arrays, leaving out what has no weight."""
    parts = [term if weight == 1 else weight * term for weight, term in zip(weights, terms, strict=True) if weight]
    return functools.reduce(jnp.add, parts)


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))
