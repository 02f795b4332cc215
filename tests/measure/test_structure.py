"""SSIM, content distance and CFSD: equal to independent implementations, and the laws they keep."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from swag_jax import UserError, measure, sample
from swag_jax.losses import content

GOLDEN = np.load(Path(__file__).parents[1] / "reference" / "measure.npz")

RANDOM = np.random.default_rng(0).random((2, 48, 48, 3), dtype=np.float32)
FLAT = 0.9 + 1e-3 * RANDOM
COFFEE, SWIRLS, ASTRONAUT = (sample(name, size=64)[:48, :48] for name in ("coffee", "swirls", "astronaut"))

ssim, cfsd, content_distance, noise = map(
    jax.jit, (measure.ssim, measure.cfsd, measure.content_distance, measure.noise)
)

FEATURES = jax.random.normal(jax.random.key(0), (3, 5, 7, 4))


@pytest.mark.parametrize(
    "pair",
    [RANDOM, FLAT, (COFFEE, SWIRLS), (COFFEE, ASTRONAUT), (COFFEE, COFFEE), (COFFEE, 1 - COFFEE), RANDOM[:, :11, :12]],
    ids=["noise", "flat", "styles", "contents", "equal", "negative", "one window"],
)
def test_ssim_equals_scikit_image(pair):
    image, reference = pair
    expected = structural_similarity(
        *(x.astype(np.float64) for x in pair), gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        channel_axis=-1, data_range=1,
    )  # fmt: skip
    assert float(ssim(jnp.asarray(image), jnp.asarray(reference))) == pytest.approx(expected, abs=1e-5)


def test_ssim_laws():
    x, y = jnp.asarray(COFFEE), jnp.asarray(ASTRONAUT)
    assert float(ssim(x, x)) == pytest.approx(1, abs=1e-6)
    assert float(ssim(x, y)) == pytest.approx(float(ssim(y, x)), abs=1e-6)
    noise = np.random.default_rng(1).standard_normal(COFFEE.shape).astype(np.float32)
    noisy = jnp.stack([jnp.clip(x + strength * noise, 0, 1) for strength in (0.0, 0.05, 0.1, 0.2, 0.4)])
    values = jax.jit(jax.vmap(ssim, in_axes=(0, None)))(noisy, x)
    assert bool((jnp.diff(values) < 0).all())
    np.testing.assert_allclose(values, [ssim(image, x) for image in noisy], rtol=1e-5)


def test_ssim_needs_a_window():
    with pytest.raises(UserError, match="both sides must be at least 11 px for SSIM, got 10 x 40"):
        measure.ssim(jnp.ones((10, 40, 3)), jnp.ones((10, 40, 3)))


@pytest.mark.parametrize("deviation", [0.01, 0.05])
def test_noise_is_the_deviation_of_white_noise(deviation):
    """Added to a content that is flat on the left and rough on the right, alike in all colors; edges add nothing."""
    rng = np.random.default_rng(0)
    content = np.full((128, 128, 3), 0.5, np.float32)
    content[:, 64:] += 0.2 * rng.standard_normal((128, 64, 1)).astype(np.float32)
    white = deviation * rng.standard_normal((128, 128, 1)).astype(np.float32)
    white[:, 64:] *= 10  # what is added to the rough half plays no part
    noisy = content + white
    assert float(noise(jnp.asarray(noisy), jnp.asarray(content))) == pytest.approx(deviation, rel=0.03)
    noisy[:, 20:] += 0.3  # an edge
    assert float(noise(jnp.asarray(noisy), jnp.asarray(content))) == pytest.approx(deviation, rel=0.03)
    assert float(noise(jnp.asarray(content), jnp.asarray(content))) == 0


def test_noise_needs_a_window():
    with pytest.raises(UserError, match="both sides must be at least 11 px for the noise, got 10 x 40"):
        measure.noise(jnp.ones((10, 40, 3)), jnp.ones((10, 40, 3)))


@pytest.mark.parametrize(("shape", "scale"), [((5, 7, 4), 1), ((1, 9, 32), 1e-12), ((8, 3, 2), 1e15)])
def test_content_distance_equals_numpy_in_float64(shape, scale):
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, shape[-1]))
    features, target = (scale * rng.normal(means, np.abs(deviations), (2, *shape))).astype(np.float32)
    wide, wide_target = features.astype(np.float64), target.astype(np.float64)
    expected = np.sum((wide - wide_target) ** 2) / np.sum((wide_target - wide_target.mean()) ** 2)
    assert float(content_distance(*map(jnp.asarray, (features, target)))) == pytest.approx(expected, rel=1e-5)


def test_content_distance_is_the_relative_loss():
    features, target = FEATURES[0], FEATURES[1]
    assert float(content_distance(features, target)) == pytest.approx(float(content.relative(features, target)))
    assert float(content_distance(target, target)) == 0
    assert float(content_distance(jnp.full_like(target, target.mean()), target)) == pytest.approx(1, rel=1e-5)


def test_cfsd_equals_pytorch():
    assert float(cfsd(jnp.asarray(GOLDEN["features"]), jnp.asarray(GOLDEN["target"]))) == pytest.approx(
        float(GOLDEN["cfsd"]), rel=1e-5
    )


def test_cfsd_in_float64_by_its_definition():
    """Also where the two are so near that a difference of float32 logarithms would be noise."""
    features = np.random.default_rng(2).random((2, 6, 7, 16))
    features[0] = features[1] + 0.1 * features[0]

    def probabilities(x):
        rows = x.reshape(-1, 16) / 16
        exponentials = np.exp(rows @ rows.T)
        return exponentials / exponentials.sum(1, keepdims=True)

    q, p = map(probabilities, features)
    expected = np.sum(p * np.log(p / q))
    assert 1e-6 < expected < 1e-5
    found = float(cfsd(*jnp.asarray(features, jnp.float32)))
    assert found == pytest.approx(expected, rel=5e-3)
    with jax.enable_x64(True):
        assert float(measure.cfsd(*jnp.asarray(features))) == pytest.approx(expected, rel=1e-9)


def test_cfsd_laws():
    target = jnp.abs(FEATURES[0])
    assert float(cfsd(target, target)) == 0
    # Likeness of places: blind to what turns all features at once.
    turned, _ = jnp.linalg.qr(FEATURES[1, :4, 0, :])
    assert float(cfsd(jnp.matmul(target, turned, precision="highest"), target)) == pytest.approx(0, abs=1e-5)
    noisy = jnp.stack([target + strength * FEATURES[1] for strength in (0.1, 0.2, 0.4, 0.8)])
    values = jax.jit(jax.vmap(cfsd, in_axes=(0, None)))(noisy, target)
    assert bool((jnp.diff(values) > 0).all())
    np.testing.assert_allclose(values, [cfsd(x, target) for x in noisy], rtol=1e-5)
