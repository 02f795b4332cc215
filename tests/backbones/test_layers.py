"""The convolutions and pools that are fast on the CPU equal XLA's own, gradients included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.backbones import Operations

PLAIN, CPU = Operations(kernels="plain"), Operations(kernels="cpu")


def compare(function, *arguments, tolerance=2e-5):
    """Compare value and gradients of `function(operations, *arguments)` under both kinds of kernels."""
    results = []
    for operations in (PLAIN, CPU):
        value, pull = jax.vjp(lambda *xs, o=operations: function(o, *xs), *arguments)
        cotangent = jax.random.normal(jax.random.key(9), value.shape)
        results.append((value, *pull(cotangent)))
    for plain, cpu in zip(*results, strict=True):
        np.testing.assert_allclose(cpu, plain, rtol=tolerance, atol=tolerance * float(jnp.abs(plain).max()))


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [(k, s, p) for k, s, p in itertools.product((1, 3, 7), (1, 2), (0, 1, 3)) if p <= k // 2 or p == 0],
)
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 13, 18)])
def test_convolution(size, stride, padding, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 5))
    edge = (padding, padding)
    compare(lambda o, x, k: o.convolve(x, k, stride=stride, padding=(edge, edge)), x, kernel)


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


def test_max_pool_worked_out_by_hand():
    x = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 9.0], [7.0, 0.0, 6.0]])[None, :, :, None]
    for operations in (PLAIN, CPU):
        assert operations.max_pool(x, size=2, stride=2)[0, ..., 0].tolist() == [[5]]
        assert operations.max_pool(x, size=3, stride=2, padding=1)[0, ..., 0].tolist() == [[5, 9], [7, 9]]
        gradient = jax.grad(lambda x, o=operations: o.max_pool(x, size=3, stride=2, padding=1).sum())(x)
        assert gradient[0, ..., 0].tolist() == [[0, 1, 0], [0, 0, 2], [1, 0, 0]]


def test_scan_over_gradients_equals_python_loop():
    kernel = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, 3, 3))

    def step(x, _):
        energy = jax.grad(lambda x: (CPU.convolve(x, kernel, padding=((1, 1), (1, 1))) ** 2).sum())
        return x - 0.1 * energy(x), None

    x = start = jax.random.normal(jax.random.key(0), (1, 12, 12, 3))
    for _ in range(3):
        x, _ = step(x, None)
    np.testing.assert_allclose(jax.lax.scan(step, start, None, length=3)[0], x, rtol=1e-5, atol=1e-6)


def test_names_are_checked(unchecked):
    with pytest.raises(UserError, match="unknown precision 'float23': did you mean float32"):
        Operations(precision="float23")
    with pytest.raises(UserError, match="unknown kernels 'fast'"):
        Operations(kernels="fast")
