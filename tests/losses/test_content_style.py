"""Laws that every content and style loss keeps."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from swag_jax.losses import content, style
from swag_jax.smoothing import KINDS, Smoothing, smooth
from swag_jax.statistics import gram

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "losses.npz"))

LOSSES = {
    "content_paper": content.paper,
    "content_released": content.released,
    "content_relative": content.relative,
    "style_paper": style.paper,
    "style_released": style.released,
    "style_relative": style.relative,
}

SMOOTHINGS = {
    name + suffix: (Smoothing(name.replace("_", "-")), temperature)
    for name in ("softmax", "channel_softmax", "spatial_softmax")
    for suffix, temperature in (("", 1.0), ("_temperature", float(GOLDEN["temperature"])))
} | {"none": (Smoothing("none"), 1.0), "scale": (Smoothing("scale", scale=float(GOLDEN["scale"])), 1.0)}

FEATURES = 1.5 * jax.random.normal(jax.random.key(0), (5, 6, 4))
TARGET = 1.5 * jax.random.normal(jax.random.key(1), (5, 6, 4))


@pytest.fixture(params=LOSSES)
def loss(request):
    return request.param


@pytest.fixture(params=KINDS)
def smoothing(request):
    return Smoothing(request.param, scale=0.5)


def measure(loss, features, target, smoothing=Smoothing(), temperature=1.3):  # noqa: B008 (a frozen value)
    """The loss between two images' features, through smoothing and, for style, the Gram matrix."""
    features, target = (smooth(x, smoothing, temperature=temperature) for x in (features, target))
    if loss.startswith("style"):
        features, target = gram(features), gram(target)
    return LOSSES[loss](features, target)


def test_positive_but_zero_with_zero_gradient_at_the_target(loss, smoothing):
    there, here = (jax.value_and_grad(lambda x: measure(loss, x, TARGET, smoothing))(x) for x in (FEATURES, TARGET))
    assert float(there[0]) > 0
    assert 0 <= float(here[0]) < 1e-10 * float(there[0])
    assert np.abs(here[1]).max() < 1e-5 * np.abs(there[1]).max()


@pytest.mark.parametrize("constant", [0.0, 3.0])
def test_finite_where_the_target_is_constant(loss, constant):
    target = jnp.full_like(TARGET, constant)
    for features in (target, target + 1e-3):
        value, gradient = jax.value_and_grad(lambda x: measure(loss, x, target))(features)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_gradient_matches_finite_differences(loss, smoothing):
    with jax.enable_x64(True):
        features, target = (jnp.asarray(np.asarray(x[:3, :4], np.float64)) for x in (FEATURES, TARGET))

        def distance(x):
            return measure(loss, jnp.asarray(x), target, smoothing)

        assert distance(features).dtype == jnp.float64
        check_grads(distance, (features,), order=1, modes=["rev"], atol=1e-9, rtol=1e-7, eps=1e-4)


def rescaling(loss, smoothing, layer) -> float:
    """What the loss grows by because the library's softmax has mean one where PyTorch's has sum one."""
    if smoothing.axes is None or loss.endswith("relative"):
        return 1.0
    size = np.prod([GOLDEN[f"image_{layer}"].shape[axis] for axis in smoothing.axes], dtype=float)
    return size**2 if loss.startswith("content") else size**4


@pytest.mark.parametrize("name", SMOOTHINGS)
def test_value_and_gradient_match_pytorch(loss, name):
    (smoothing, temperature), role = SMOOTHINGS[name], loss.split("_")[0]
    total = 0.0
    for layer in ("shallow", "deep"):
        features, target = jnp.asarray(GOLDEN[f"image_{layer}"]), jnp.asarray(GOLDEN[f"{role}_{layer}"])
        value, gradient = jax.value_and_grad(lambda x, t=target: measure(loss, x, t, smoothing, temperature))(features)
        weight = float(GOLDEN[f"weight_{layer}"]) / rescaling(loss, smoothing, layer)
        total += weight * float(value)
        expected = GOLDEN[f"gradient_{loss}_{name}_{layer}"].astype(np.float64)
        found = weight * np.asarray(gradient, np.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(total, GOLDEN[f"loss_{loss}_{name}"], rtol=1e-5)


def test_content_by_hand():
    features, target = jnp.array([[[1.0, 2.0], [3.0, 0.0]]]), jnp.array([[[0.0, 0.0], [1.0, 1.0]]])
    # Differences 1, 2, 2, -1 with squares that add up to 10; the target is 1/2 off its mean everywhere.
    assert float(content.paper(features, target)) == 5
    assert float(content.released(features, target)) == 2.5
    assert float(content.relative(features, target)) == 10


def test_style_by_hand():
    # F F^T = [[4, 2], [2, 5]] and [[0, 0], [0, 8]] over M = 2 positions: differences 4, 2, 2, -3, squares 33.
    features, target = jnp.array([[[2.0, 1.0], [0.0, 2.0]]]), jnp.array([[[0.0, 2.0], [0.0, -2.0]]])
    assert float(style.paper(gram(features), gram(target))) == 33 / (4 * 2**2 * 2**2)
    assert float(style.released(gram(features), gram(target))) == pytest.approx(33 / 2**2 / (2 * 2) ** 2)
    # The target's matrix is [[0, 0], [0, 4]], 12 off its mean 1 in squares; the difference's squares are 33 / 4.
    assert float(style.relative(gram(features), gram(target))) == 33 / 4 / 12


def test_released_style_is_the_paper_times_four_over_channels_squared():
    """D = 4 channels in `FEATURES`, 7 here."""
    for channels in (4, 7):
        a, b = (gram(jax.random.normal(jax.random.key(i), (5, 6, channels))) for i in range(2))
        expected = 4 / channels**2 * float(style.paper(a, b))
        assert float(style.released(a, b)) == pytest.approx(expected, rel=1e-6)


def test_released_content_is_the_mean_of_what_the_paper_halves_and_sums():
    expected = 2 / FEATURES.size * float(content.paper(FEATURES, TARGET))
    assert float(content.released(FEATURES, TARGET)) == pytest.approx(expected, rel=1e-6)


def test_style_compares_images_of_different_sizes():
    tiled = jnp.tile(TARGET, (2, 3, 1))
    for loss in ("style_paper", "style_released", "style_relative"):
        assert float(measure(loss, tiled, TARGET)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_relative_is_unchanged_by_scaling_both(factor):
    for loss in ("content_relative", "style_relative"):
        expected = float(measure(loss, FEATURES, TARGET))
        assert float(measure(loss, factor * FEATURES, factor * TARGET)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("power", [-50, -40, 40, 50])
def test_relative_holds_where_squares_of_float32_do_not(power):
    """Powers of two round nothing: equal bits, with gradients that are the factor's share."""
    factor = 2.0**power
    for loss in ("content_relative", "style_relative"):
        value, gradient = jax.value_and_grad(lambda x, t, loss=loss: measure(loss, x, t))(FEATURES, TARGET)
        scaled = jax.value_and_grad(lambda x, t, loss=loss: measure(loss, x, t))(factor * FEATURES, factor * TARGET)
        assert float(scaled[0]) == float(value)
        np.testing.assert_array_equal(np.asarray(scaled[1]) * factor, gradient)


def test_relative_content_is_unchanged_by_adding_a_constant_to_both():
    expected = float(content.relative(FEATURES, TARGET))
    assert float(content.relative(FEATURES + 8, TARGET + 8)) == pytest.approx(expected, rel=1e-5)


def test_relative_does_not_depend_on_the_resolution(smoothing):
    features, target = (jnp.tile(x, (2, 2, 1)) for x in (FEATURES, TARGET))
    for loss in ("content_relative", "style_relative"):
        expected = float(measure(loss, FEATURES, TARGET, smoothing))
        assert float(measure(loss, features, target, smoothing)) == pytest.approx(expected, rel=1e-5)


def test_relative_is_one_for_a_image_without_structure():
    flat = jnp.full_like(TARGET, TARGET.mean())
    assert float(content.relative(flat, TARGET)) == pytest.approx(1, rel=1e-6)
    target = gram(TARGET)
    assert float(style.relative(jnp.full_like(target, target.mean()), target)) == pytest.approx(1, rel=1e-6)


def test_bfloat16_is_summed_in_float32(loss):
    low = [x.astype(jnp.bfloat16) for x in (FEATURES, TARGET)]
    found = measure(loss, *low)
    assert found.dtype == jnp.float32
    expected = float(measure(loss, *(x.astype(jnp.float32) for x in low)))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_vmap_equals_loop(loss):
    smoothing, batch = Smoothing("softmax"), jax.random.normal(jax.random.key(2), (3, 5, 6, 4))
    found = jax.vmap(lambda x: measure(loss, x, TARGET, smoothing))(batch)
    np.testing.assert_allclose(found, [measure(loss, x, TARGET, smoothing) for x in batch], rtol=1e-5)
