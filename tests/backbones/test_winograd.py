"""Winograd's form of a 3x3 convolution is the convolution, and its kernel's gradient the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from swag_jax.backbones import Compute, _cpu, _winograd

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
    y = _winograd.correlate(x, kernel, ((1, 1), (1, 1)), HIGHEST)
    np.testing.assert_array_equal(y, definition(x, kernel, ((1, 1), (1, 1))))


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 0), (1, 2))])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9), (4, 3, 3), (6, 12, 4)])
@pytest.mark.parametrize("block", [2**20, 40, 1])
def test_equals_the_definition(shape, padding, block, monkeypatch):
    """For even and odd sizes, in one block, in blocks of whole images, of rows, and of one row each."""
    monkeypatch.setattr(_winograd, "BLOCK", block)
    x, kernel = drawn(0, *shape, 4), drawn(1, 3, 3, 4, 2)
    expected, pull = jax.vjp(lambda k: definition(x, k, padding), kernel)
    gradient = drawn(2, *expected.shape)
    y = _winograd.correlate(x, kernel, padding, HIGHEST)
    dk = _winograd.kernel_gradient(x, gradient, kernel.shape, padding, HIGHEST)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(dk, pull(gradient)[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(128, 256), (256, 128)])
def test_wide_convolutions_on_the_cpu_take_it(channels_in, channels_out, monkeypatch):
    """Forward, and for both gradients; a narrow convolution, a strided one and one of few positions do not."""
    monkeypatch.setattr(_cpu, "WINOGRAD_SIZE", 256 * 128 * 256)
    calls = []
    for name in ("correlate", "kernel_gradient"):
        real = getattr(_winograd, name)
        monkeypatch.setattr(_winograd, name, lambda *a, name=name, real=real: calls.append(name) or real(*a))

    def run(size, *channels, stride=1):
        calls.clear()
        x, kernel = jnp.zeros((1, size, size, channels[0])), jnp.zeros((3, 3, *channels))
        compute = Compute(kernels="cpu")
        around = ((1, 1), (1, 1))
        total = lambda x, k: compute.convolve(x, k, stride=stride, padding=around).sum()  # noqa: E731
        jax.jit(jax.value_and_grad(total, (0, 1))).lower(x, kernel)
        return sorted(calls)

    assert run(16, channels_in, channels_out) == ["correlate", "correlate", "kernel_gradient"]
    assert run(16, 128, 128) == []
    assert run(16, channels_in, channels_out, stride=2) == []
    assert run(15, channels_in, channels_out) == []


def test_mapped_images_are_one_batch(monkeypatch):
    """Images too small for it take it together under `jax.vmap`, with the same values and gradients."""
    compute, around = Compute(kernels="cpu"), ((1, 1), (1, 1))
    x, kernel = drawn(0, 4, 1, 6, 6, 128), drawn(1, 3, 3, 128, 256) / 30
    seen = []
    real = _winograd.correlate
    monkeypatch.setattr(_winograd, "correlate", lambda x, *rest: seen.append(x.shape) or real(x, *rest))

    def total(x):
        return jnp.sin(compute.convolve(x, kernel, padding=around)).sum()

    alone = jnp.stack([jax.grad(total)(image) for image in x])
    assert seen == []
    monkeypatch.setattr(_cpu, "WINOGRAD_SIZE", 4 * 36 * 128 * 256)
    together = jax.vmap(jax.grad(total))(x)
    assert seen == [(4, 6, 6, 128), (4, 6, 6, 256)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4 * float(jnp.abs(alone).max()))


@pytest.mark.parametrize("axes", [(None, 0), (0, 0)])
def test_mapped_kernels(axes):
    """Kernels that differ are convolved with one by one."""
    compute, around = Compute(kernels="cpu"), ((1, 1), (1, 1))
    x, kernels = drawn(0, 2, 1, 6, 6, 3), drawn(1, 2, 3, 3, 3, 4)
    run = lambda x, kernel: compute.convolve(x, kernel, padding=around)  # noqa: E731
    found = jax.vmap(run, axes)(x if axes[0] == 0 else x[0], kernels)
    expected = [run(x[i if axes[0] == 0 else 0], kernels[i]) for i in range(2)]
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-5, atol=1e-5)
