import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax.images.color import luminance, match_color, transfer_luminance

YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def image(seed: int, *, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = (16, 24)) -> jnp.ndarray:
    random = np.random.default_rng(seed)
    return jnp.asarray(random.uniform(low, high, (*shape, 3)).astype(np.float32))


def tinted(seed: int, *, shape: tuple[int, ...] = (16, 24)) -> jnp.ndarray:
    """Colors that are correlated across channels and far from black and white."""
    mixing = np.float32([[0.06, 0.03, 0.0], [0.0, 0.04, 0.02], [0.03, 0.0, 0.05]])
    noise = np.random.default_rng(seed).uniform(-1, 1, (*shape, 3)).astype(np.float32)
    return jnp.asarray(noise @ mixing + np.float32([0.6, 0.5, 0.4]) - np.float32(0.05 * seed))


def constant(*color: float) -> jnp.ndarray:
    return jnp.broadcast_to(jnp.asarray([[color]], jnp.float32), (8, 8, 3))


def statistics(image) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.asarray(image, np.float64).reshape(-1, 3)
    return pixels.mean(axis=0), np.cov(pixels.T, bias=True)


@pytest.mark.parametrize(
    ("color", "expected"),
    [((1, 0, 0), 0.299), ((0, 1, 0), 0.587), ((0, 0, 1), 0.114), ((1, 1, 1), 1), ((0.5, 0.5, 0.5), 0.5)],
)
def test_luminance(color, expected):
    np.testing.assert_allclose(luminance(constant(*color)), expected, rtol=1e-6)


def test_luminance_is_transferred_even_where_the_color_does_not_fit():
    result = transfer_luminance(image(0), image(1))
    np.testing.assert_allclose(luminance(result), luminance(image(1)), atol=1e-6)
    assert result.min() >= 0
    assert result.max() <= 1


def test_chroma_is_kept_where_it_fits():
    """The published rule: Y of the stylized image, I and Q of the content."""
    content, stylized = image(0, low=0.4, high=0.6), image(1, low=0.4, high=0.6)
    yiq = np.einsum("hwc,dc->hwd", content, YIQ)
    yiq[..., 0] = np.einsum("hwc,dc->hwd", stylized, YIQ)[..., 0]
    expected = np.einsum("hwc,dc->hwd", yiq, np.linalg.inv(YIQ))
    np.testing.assert_allclose(transfer_luminance(content, stylized), expected, atol=1e-3)


def test_hue_is_kept_where_the_color_does_not_fit():
    """Pure red at the luminance 0.65: as far toward red as [0, 1] allows, green and blue alike."""
    result = transfer_luminance(constant(1, 0, 0), constant(0.65, 0.65, 0.65))
    low = 0.65 - 0.299 * 0.35 / 0.701
    np.testing.assert_allclose(result[0, 0], [1, low, low], atol=1e-6)


def test_luminance_of_black_and_white():
    for value in (0.0, 1.0):
        result = transfer_luminance(image(0, shape=(8, 8)), constant(value, value, value))
        np.testing.assert_allclose(result, value, atol=1e-6)


def test_gray_content_gives_gray():
    result = transfer_luminance(constant(0.3, 0.3, 0.3), image(1, shape=(8, 8)))
    expected = np.repeat(luminance(image(1, shape=(8, 8)))[..., None], 3, axis=-1)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("function", [transfer_luminance, match_color])
@pytest.mark.parametrize("image", [image(0), tinted(1), constant(0.2, 0.4, 0.6)], ids=["any", "tinted", "constant"])
def test_identity_when_equal(function, image):
    np.testing.assert_allclose(function(image, image), image, atol=1e-5)


def test_mean_and_covariance_are_matched():
    image, reference = tinted(1), tinted(2, shape=(40, 10))
    mean, covariance = statistics(match_color(image, reference))
    wanted_mean, wanted_covariance = statistics(reference)
    np.testing.assert_allclose(mean, wanted_mean, atol=1e-6)
    np.testing.assert_allclose(covariance, wanted_covariance, atol=1e-7)


def test_match_color_scales_a_single_channel():
    """By hand: red 0.4 and 0.6 become 0.5 and 0.9, channels that do not vary take the reference's mean."""
    image = jnp.asarray([[[0.4, 0.1, 0.1], [0.6, 0.1, 0.1]]])
    reference = jnp.asarray([[[0.5, 0.3, 0.7], [0.9, 0.3, 0.7]]])
    np.testing.assert_allclose(match_color(image, reference), reference, atol=1e-6)


def test_match_color_stays_in_range():
    result = match_color(tinted(1), image(2, low=-3.0, high=3.0))
    assert result.min() == 0
    assert result.max() == 1


@pytest.mark.parametrize("image", [constant(0.2, 0.4, 0.6), constant(0, 0, 0), tinted(1, shape=(8, 8))])
@pytest.mark.parametrize("reference", [constant(0.7, 0.1, 0.3), constant(1, 1, 1)])
def test_a_constant_reference_gives_its_color(image, reference):
    np.testing.assert_allclose(match_color(image, reference), reference, atol=1e-6)


def test_a_constant_image_takes_the_mean():
    result = match_color(constant(0.2, 0.4, 0.6), tinted(1))
    np.testing.assert_allclose(result, np.broadcast_to(statistics(tinted(1))[0], (8, 8, 3)), atol=1e-6)


def test_rounding_is_not_amplified():
    """Gray in 8 bits, with one last bit of blue flipped here and there, gains no color noise."""
    gray = jnp.repeat(jnp.round(image(0)[..., :1] * 255), 3, axis=-1)
    noisy = gray.at[::4, ::4, 2].add(1) / 255
    np.testing.assert_allclose(match_color(noisy, tinted(1)), match_color(gray / 255, tinted(1)), atol=2 / 255)


@pytest.mark.parametrize("function", [transfer_luminance, match_color])
def test_jit_and_vmap_agree_with_singles(function):
    first = jnp.stack([image(0), tinted(1), image(2)])
    second = jnp.stack([image(3), tinted(4), tinted(5)])
    singles = jnp.stack([function(one, other) for one, other in zip(first, second, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(first, second), singles, atol=2e-5)


@pytest.mark.parametrize("function", [transfer_luminance, match_color])
def test_keeps_the_dtype(function):
    result = function(image(0).astype(jnp.bfloat16), image(1).astype(jnp.bfloat16))
    assert result.dtype == jnp.bfloat16
    assert np.isfinite(result).all()
