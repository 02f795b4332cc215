"""The convolutions and pools that are fast on the CPU equal XLA's own, gradients included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax._checks import UserError
from swag_jax.backbones import Compute
from swag_jax.backbones._layers import ConvNorm

PLAIN, CPU = Compute(kernels="plain"), Compute(kernels="cpu")


def compare(function, *arguments, tolerance=2e-5):
    """Compare value and gradients of `function(operations, *arguments)` under both kinds of kernels."""
    results = []
    for compute in (PLAIN, CPU):
        value, pull = jax.vjp(lambda *xs, o=compute: function(o, *xs), *arguments)
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


@pytest.mark.parametrize("size", [(1, 7), (7, 1)])
def test_rectangular_convolution_keeps_the_size(size):
    layer = ConvNorm(3, 5, size=size, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 8, 9, 3))
    assert jax.eval_shape(lambda x: layer(x, CPU), x).shape == (2, 8, 9, 5)
    compare(lambda o, x: layer.frozen(o)(x, o), x)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(64, 64), (70, 64), (3, 5), (5, 3), (64, 3)])
def test_gradient_at_a_kernel_of_any_width(channels_in, channels_out):
    """By blocks of rows, the last of which is not full; of few channels in one product, or with sides exchanged."""
    x = jax.random.normal(jax.random.key(0), (1, 66, 70, channels_in))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels_in, channels_out))
    compare(lambda o, x, k: o.convolve(x, k, stride=1, padding=((1, 0), (0, 1))), x, kernel)


@pytest.mark.parametrize("shape", [(6, 8, 8), (5, 16, 16), (3, 30, 30)])
def test_gradient_at_a_kernel_over_several_images(shape):
    """Blocks of several whole images, and of one."""
    x = jax.random.normal(jax.random.key(0), (*shape, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 6))
    compare(lambda o, x, k: o.convolve(x, k, padding=((1, 1), (1, 1))), x, kernel)


@pytest.mark.parametrize("border", ["edge", "reflect"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (9, 1), (1, 1)])
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 7, 5)])
def test_borders(border, size, stride, shape):
    """Convolving with a border is convolving what `jnp.pad` makes of the map."""
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 5))
    half = size // 2
    edges = (half, half), (half, half)
    compare(lambda o, x, k: o.convolve(x, k, stride=stride, padding=edges, border=border), x, kernel)
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0)), mode=border)
    found = CPU.convolve(x, kernel, stride=stride, padding=edges, border=border)
    np.testing.assert_allclose(found, PLAIN.convolve(padded, kernel, stride=stride), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("border", ["edge", "reflect"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (2, 3, 1), (1, 2, 2)])
def test_borders_of_maps_hardly_larger_than_their_edges(border, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    compare(lambda o, x, k: o.convolve(x, k, padding=((1, 1), (1, 1)), border=border), x, kernel)


@pytest.mark.parametrize("channels", [3, 64, 128])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0), (7, 2, 3)]
)
def test_bfloat16_convolution_sums_in_float32(channels, size, stride, padding):
    # Small whole numbers: products and sums are exact in float32, so that only the last rounding remains.
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.randint(keys[0], (2, 9, 8, channels), -4, 5).astype(jnp.float32)
    kernel = jax.random.randint(keys[1], (size, size, channels, 130), -2, 3).astype(jnp.float32)
    edges = ((padding, padding), (padding, padding))
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        convolve = jax.jit(lambda x, k: jax.vjp(lambda x, k: CPU.convolve(x, k, stride=stride, padding=edges), x, k))
        value, pull = convolve(x.astype(dtype), kernel.astype(dtype))
        cotangent = jax.random.randint(keys[2], value.shape, -2, 3).astype(dtype)
        results.append([part.astype(jnp.bfloat16) for part in (value, *jax.jit(pull)(cotangent))])
    for single, half in zip(*results, strict=True):
        np.testing.assert_array_equal(half, single)


@pytest.mark.parametrize("size", [1, 3])
def test_float64_stays_float64(size):
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (1, 5, 5, 3), jnp.float64)
        kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 4), jnp.float64)
        compare(lambda o, x, k: o.convolve(x, k, padding=((size // 2,) * 2,) * 2), x, kernel, tolerance=1e-13)


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
    pooled = PLAIN.max_pool(x, size=size, stride=2, partial=True)
    assert pooled.shape[1:3] == expected
    np.testing.assert_array_equal(pooled, PLAIN.max_pool(padded, size=size, stride=2)[:, : expected[0], : expected[1]])
    compare(lambda o, x: o.max_pool(x, size=size, stride=2, partial=True), x, tolerance=1e-6)


def test_max_pool_worked_out_by_hand():
    x = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 9.0], [7.0, 0.0, 6.0]])[None, :, :, None]
    for compute in (PLAIN, CPU):
        assert compute.max_pool(x, size=2, stride=2)[0, ..., 0].tolist() == [[5]]
        assert compute.max_pool(x, size=3, stride=2, padding=1)[0, ..., 0].tolist() == [[5, 9], [7, 9]]
        assert compute.max_pool(x, size=2, stride=2, partial=True)[0, ..., 0].tolist() == [[5, 9], [7, 6]]
        gradient = jax.grad(lambda x, o=compute: o.max_pool(x, size=3, stride=2, padding=1).sum())(x)
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
        Compute(precision="float23")
    with pytest.raises(UserError, match="unknown kernels 'fast'"):
        Compute(kernels="fast")


def test_convolution_with_norm_folds():
    layer = ConvNorm(3, 4, size=3, rngs=nnx.Rngs(0))
    layer.norm.mean[...], layer.norm.variance[...] = jnp.arange(4.0), jnp.arange(1.0, 5.0)
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    evaluated = layer(x, Compute())
    np.testing.assert_allclose(evaluated, layer.frozen(Compute())(x, Compute()), rtol=1e-6)
    a, b = layer.norm.affine()
    plain = CPU.convolve(x, layer.kernel[...], padding=((1, 1), (1, 1)))
    np.testing.assert_allclose(evaluated, np.asarray(a) * np.asarray(plain) + np.asarray(b), rtol=1e-4, atol=1e-5)
