"""Pools: by hand, and in both forms, gradients included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import CPU, XLA, compare
from jax import lax

from swag_jax.backbones.kernels import average_pool


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 2, 0)])
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 13, 18)])
def test_max_pool(size, stride, padding, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 4))
    compare(lambda o, x: o.max_pool(x, size=size, stride=stride, padding=padding), x, tolerance=1e-6)


@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_max_pool_gives_ties_to_the_first_maximum(size, stride, padding):
    # Few distinct values: nearly every window has a tie. Only the order of summation over windows may differ.
    x = jnp.round(2 * jax.random.uniform(jax.random.key(0), (1, 15, 17, 3)))
    compare(lambda o, x: o.max_pool(x, size=size, stride=stride, padding=padding), x, tolerance=1e-6)


@pytest.mark.parametrize(("size", "shape", "expected"), [(3, (8, 9), (4, 4)), (2, (8, 9), (4, 5))])
def test_max_pool_with_partial_windows(size, shape, expected):
    """As PyTorch's `ceil_mode`: what fills no window makes one of its own."""
    x = jax.random.normal(jax.random.key(0), (2, *shape, 4))
    whole = -(-shape[0] // 2) * 2 + 1, -(-shape[1] // 2) * 2 + 1
    padded = jnp.pad(x, ((0, 0), (0, whole[0] - shape[0]), (0, whole[1] - shape[1]), (0, 0)), constant_values=-9.0)
    pooled = XLA.max_pool(x, size=size, stride=2, partial=True)
    assert pooled.shape[1:3] == expected
    np.testing.assert_array_equal(pooled, XLA.max_pool(padded, size=size, stride=2)[:, : expected[0], : expected[1]])
    compare(lambda o, x: o.max_pool(x, size=size, stride=2, partial=True), x, tolerance=1e-6)


def test_max_pool_worked_out_by_hand():
    x = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 9.0], [7.0, 0.0, 6.0]])[None, :, :, None]
    for compute in (XLA, CPU):
        assert compute.max_pool(x, size=2, stride=2)[0, ..., 0].tolist() == [[5]]
        assert compute.max_pool(x, size=3, stride=2, padding=1)[0, ..., 0].tolist() == [[5, 9], [7, 9]]
        assert compute.max_pool(x, size=2, stride=2, partial=True)[0, ..., 0].tolist() == [[5, 9], [7, 6]]
        gradient = jax.grad(lambda x, o=compute: o.max_pool(x, size=3, stride=2, padding=1).sum())(x)
        assert gradient[0, ..., 0].tolist() == [[0, 1, 0], [0, 0, 2], [1, 0, 0]]


def test_nan_is_the_maximum():
    x = jnp.array([[1.0, jnp.nan, 2.0, 3.0]]).reshape(1, 2, 2, 1)
    assert all(
        bool(jnp.isnan(compute.max_pool(x[:, order], size=2, stride=2)).all())
        for compute in (XLA, CPU)
        for order in (slice(None), slice(None, None, -1))
    )


@pytest.mark.parametrize("counts_padding", [True, False])
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (3, 2, 0)])
def test_average_pool(size, stride, padding, counts_padding):
    x = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    sums = functools.partial(
        lax.reduce_window,
        init_value=0.0,
        computation=lax.add,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=edges,
    )
    count = size**2 if counts_padding else sums(jnp.ones_like(x))
    found = average_pool(x, size=size, stride=stride, padding=padding, counts_padding=counts_padding)
    np.testing.assert_allclose(found, sums(x) / count, rtol=1e-5, atol=1e-6)
