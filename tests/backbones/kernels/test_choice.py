"""The CPU's forms of convolution equal XLA's own, gradients included, and are taken as the table says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import CPU, XLA, compare

from swag_jax._checks import UserError
from swag_jax.backbones import Compute
from swag_jax.backbones.kernels import Prepared, _choice

NONE, AROUND = ((0, 0), (0, 0)), ((1, 1), (1, 1))


@pytest.mark.parametrize(
    ("size", "padding", "stride", "shape"),
    [
        (*window, stride, shapes[(i + stride) % 2])
        for shapes in [((1, 16, 16), (2, 13, 18))]
        for i, window in enumerate([(1, 0), (3, 0), (3, 1), (7, 0), (7, 1), (7, 3)])
        for stride in (1, 2)
    ],
)
def test_convolution(size, padding, stride, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 5))
    edge = (padding, padding)
    compare(lambda o, x, k: o.convolve(x, k, stride=stride, padding=(edge, edge)), x, kernel)


@pytest.mark.parametrize("padding", [NONE, AROUND, ((1, 2), (0, 1))])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 1)])
def test_depthwise_convolution(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 13, 18, 6))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 1, 6))
    compare(lambda o, x, k: o.convolve(x, k, stride=stride, padding=padding), x, kernel)
    assert CPU.prepare(kernel) is kernel or not isinstance(CPU.prepare(kernel), Prepared)


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
    compare(lambda o, x, k: o.convolve(x, k, padding=AROUND), x, kernel)


@pytest.mark.parametrize(
    ("border", "shape"),
    [("edge", (1, 16, 16)), ("reflect", (2, 7, 5))],
)
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (9, 1), (1, 1)])
def test_borders(border, size, stride, shape):
    """Convolving with a border is convolving what `jnp.pad` makes of the map."""
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 5))
    half = size // 2
    edges = (half, half), (half, half)
    compare(lambda o, x, k: o.convolve(x, k, stride=stride, padding=edges, border=border), x, kernel)
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0)), mode=border)
    found = CPU.convolve(x, kernel, stride=stride, padding=edges, border=border)
    np.testing.assert_allclose(found, XLA.convolve(padded, kernel, stride=stride), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("border", ["edge", "reflect"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (2, 3, 1), (1, 2, 2)])
def test_borders_of_maps_hardly_larger_than_their_edges(border, shape):
    x = jax.random.normal(jax.random.key(0), (*shape, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    compare(lambda o, x, k: o.convolve(x, k, padding=AROUND, border=border), x, kernel)


@pytest.mark.parametrize(
    ("size", "stride", "padding", "channels"),
    [
        (*window, channels)
        for *window, few in [(1, 1, 0, 3), (1, 2, 0, 64), (3, 1, 1, 3), (3, 2, 1, 64), (3, 1, 0, 64), (7, 2, 3, 3)]
        for channels in (few, 128)
    ],
)
def test_bfloat16_convolution_sums_in_float32(size, stride, padding, channels):
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


def test_scan_over_gradients_equals_python_loop():
    kernel = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, 3, 3))

    def step(x, _):
        energy = jax.grad(lambda x: (CPU.convolve(x, kernel, padding=AROUND) ** 2).sum())
        return x - 0.1 * energy(x), None

    x = start = jax.random.normal(jax.random.key(0), (1, 12, 12, 3))
    for _ in range(3):
        x, _ = step(x, None)
    np.testing.assert_allclose(jax.lax.scan(step, start, None, length=3)[0], x, rtol=1e-5, atol=1e-6)


# --- The choice


@pytest.fixture
def taken(monkeypatch):
    """The names of the forms that are traced, in order."""
    names = []

    def recorded(form, prefix=""):
        return form._replace(compute=lambda *a: names.append(prefix + form.name) or form.compute(*a))

    monkeypatch.setattr(_choice, "WINOGRAD_WORK", 256 * 128 * 256)
    monkeypatch.setattr(_choice, "FORMS", tuple(map(recorded, _choice.FORMS)))
    monkeypatch.setattr(_choice, "KERNEL_GRADIENTS", tuple(recorded(f, "d ") for f in _choice.KERNEL_GRADIENTS))
    return names


@pytest.mark.parametrize(
    ("x", "kernel", "options", "expected"),
    [
        ((1, 16, 16, 128), (3, 3, 128, 256), {}, ["d winograd", "winograd", "winograd"]),
        ((1, 16, 16, 256), (3, 3, 256, 128), {}, ["d winograd", "winograd", "winograd"]),
        ((1, 16, 16, 128), (3, 3, 128, 128), {}, ["d blocks", "xla", "xla"]),
        ((1, 16, 16, 128), (3, 3, 128, 256), {"stride": 2}, ["d xla", "xla", "xla"]),
        ((1, 15, 15, 128), (3, 3, 128, 256), {}, ["d blocks", "xla", "xla"]),
        ((1, 8, 8, 4), (1, 1, 4, 8), {"padding": NONE, "stride": 2}, ["d matrix", "matrix", "matrix"]),
    ],
)
def test_the_form_follows_from_the_shape(taken, x, kernel, options, expected):
    def total(x, kernel):
        return CPU.convolve(x, kernel, **{"padding": AROUND, **options}).sum()

    jax.jit(jax.value_and_grad(total, (0, 1))).lower(jnp.zeros(x), jnp.zeros(kernel))
    assert sorted(taken) == expected


def test_bfloat16_takes_products_from_128_channels_on(taken):
    for channels in (64, 128):
        kernel = jnp.zeros((3, 3, channels, 64), jnp.bfloat16)
        jax.jit(CPU.convolve).lower(jnp.zeros((1, 8, 8, channels), jnp.bfloat16), kernel)
    assert taken == ["xla", "rows"]


def test_mapped_images_are_one_batch(taken):
    """Images too small for Winograd's form take it together under `jax.vmap`, with the same values and gradients."""
    x = jax.random.normal(jax.random.key(0), (8, 1, 6, 6, 128))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 128, 256)) / 30

    def total(x):
        return jnp.sin(CPU.convolve(x, kernel, padding=AROUND)).sum()

    alone = jnp.stack([jax.grad(total)(image) for image in x])
    assert set(taken) == {"xla"}
    taken.clear()
    together = jax.vmap(jax.grad(total))(x)
    assert taken == ["winograd", "winograd"]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4 * float(jnp.abs(alone).max()))


@pytest.mark.parametrize("axes", [(None, 0), (0, 0)])
def test_mapped_kernels(axes):
    """Kernels that differ are convolved with one by one."""
    x = jax.random.normal(jax.random.key(0), (2, 1, 6, 6, 3))
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 3, 4))
    run = lambda x, kernel: CPU.convolve(x, kernel, padding=AROUND)  # noqa: E731
    found = jax.vmap(run, axes)(x if axes[0] == 0 else x[0], kernels)
    expected = [run(x[i if axes[0] == 0 else 0], kernels[i]) for i in range(2)]
    np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-5, atol=1e-5)


def test_a_prepared_kernel_computes_the_same():
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))
    prepared = CPU.prepare(kernel)
    assert isinstance(prepared, Prepared)
    assert isinstance(XLA.prepare(kernel), jax.Array)
    for compute in (XLA, CPU):
        total = lambda x, kernel: jnp.sin(compute.convolve(x, kernel, padding=AROUND)).sum()  # noqa: B023, E731
        np.testing.assert_allclose(jax.grad(total)(x, prepared), jax.grad(total)(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_the_environment_turns_all_forms_off(taken, monkeypatch):
    lower = lambda: jax.jit(Compute().convolve).lower(jnp.zeros((1, 8, 8, 3)), jnp.zeros((3, 3, 3, 4)))  # noqa: E731
    lower()
    assert taken == ["xla"]
    monkeypatch.setenv("SWAG_JAX_KERNELS", "xla")
    lower()
    assert taken == ["xla"]
    monkeypatch.setenv("SWAG_JAX_KERNELS", "cup")
    with pytest.raises(UserError, match="unknown kernels in \\$SWAG_JAX_KERNELS 'cup': did you mean cpu"):
        lower()
