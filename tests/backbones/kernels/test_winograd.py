"""Winograd's form of a 3x3 convolution is the convolution, and its kernel's gradient the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from swag_jax.backbones.kernels import _winograd
from swag_jax.backbones.kernels._forms import Window

HIGHEST = lax.Precision.HIGHEST


def product(matrix, middle):
    """Return M X M^T."""
    return np.asarray(matrix) @ middle @ np.asarray(matrix).T


def drawn(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def definition(x, kernel, padding):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_one_tile_by_matrices():
    """A^T [G k G^T * B^T d B] A is a correlation: its every output is a sum over nine products."""
    rng = np.random.default_rng(0)
    d, k = rng.integers(-9, 9, (4, 4)), rng.integers(-9, 9, (3, 3))
    y = product(_winograd.A_TRANSPOSED, product(_winograd.G, k) * product(_winograd.B_TRANSPOSED, d))
    expected = [[(d[i : i + 3, j : j + 3] * k).sum() for j in range(2)] for i in range(2)]
    np.testing.assert_array_equal(y, expected)


def test_whole_numbers_come_out_exact():
    """Halves and small whole numbers are exact in float32, whatever the order of the sums."""
    x = jnp.round(4 * drawn(0, 2, 6, 6, 3))
    kernel = jnp.round(4 * drawn(1, 3, 3, 3, 5))
    y = _winograd.correlate(x, kernel, Window(1, ((1, 1), (1, 1)), HIGHEST))
    np.testing.assert_array_equal(y, definition(x, kernel, ((1, 1), (1, 1))))


PADDINGS = ((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 0), (1, 2))


@pytest.mark.parametrize(("i", "shape"), list(enumerate([(1, 8, 8), (3, 5, 9), (4, 3, 3), (6, 12, 4)])))
@pytest.mark.parametrize(("j", "block"), list(enumerate([2**20, 40, 1])))
def test_equals_the_definition(i, shape, j, block, monkeypatch):
    """For even and odd sizes, in one block, in blocks of whole images, of rows, and of one row each.

    Of shapes, blocks and paddings every pair is tried.
    """
    padding = PADDINGS[(i + j) % 3]
    monkeypatch.setattr(_winograd, "BLOCK", block)
    x, kernel = drawn(0, *shape, 4), drawn(1, 3, 3, 4, 2)
    expected, pull = jax.vjp(lambda k: definition(x, k, padding), kernel)
    gradient = drawn(2, *expected.shape)
    window = Window(1, padding, HIGHEST)
    y = _winograd.correlate(x, kernel, window)
    dk = _winograd.kernel_gradient(x, gradient, kernel.shape, window)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(dk, pull(gradient)[0], rtol=1e-5, atol=1e-4)
