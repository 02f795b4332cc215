import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.images.normalize import NORMALIZATIONS, denormalize, normalize


def noise(*leading: int) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).random((*leading, 3), np.float32))


@pytest.mark.parametrize(
    ("normalization", "color", "expected"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0, 0, 0)),
        ("imagenet", (0.485 + 0.229, 0.456 - 0.224, 0.406 + 0.45), (1, -1, 2)),
        ("imagenet", (0, 0, 0), (-2.117904, -2.035714, -1.804444)),
        ("caffe", (0, 0, 0), (-103.939, -116.779, -123.68)),
        ("caffe", (1, 0, 0), (-103.939, -116.779, 255 - 123.68)),
        ("caffe", (123.68 / 255, 116.779 / 255, 103.939 / 255), (0, 0, 0)),
        ("inception", (0, 0.5, 1), (-1, 0, 1)),
        ("lite", (0, 127 / 255, 1), (-127 / 128, 0, 1)),
        ("none", (0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
    ],
)
def test_known_colors(normalization, color, expected):
    normalized = normalize(jnp.full((2, 2, 3), jnp.asarray([[color]], jnp.float32)), normalization)
    np.testing.assert_allclose(normalized, np.broadcast_to(expected, (2, 2, 3)), atol=2e-5)


def test_inception_is_what_transform_input_makes_of_imagenet():
    """torchvision/models/googlenet.py and inception.py, `_transform_input`, written as there."""
    x = np.asarray(normalize(noise(4, 5), "imagenet"))
    std, mean = np.float32([0.229, 0.224, 0.225]), np.float32([0.485, 0.456, 0.406])
    np.testing.assert_allclose(normalize(noise(4, 5), "inception"), x * (std / 0.5) + (mean - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("leading", [(), (5,), (4, 5), (2, 4, 5), (2, 1, 4, 5)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_there_and_back(normalization, leading):
    image = noise(*leading)
    there = jax.jit(normalize, static_argnums=1)(image, normalization)
    back = jax.jit(denormalize, static_argnums=1)(there, normalization)
    np.testing.assert_allclose(back, image, atol=1e-6)


@pytest.mark.parametrize("function", [normalize, denormalize])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_keeps_the_dtype(function, normalization, dtype):
    assert function(noise(4, 5).astype(dtype), normalization).dtype == dtype


def test_low_precision_is_rounded_only_once():
    image = noise(4, 5).astype(jnp.bfloat16)
    expected = normalize(image.astype(jnp.float32), "caffe").astype(jnp.bfloat16)
    np.testing.assert_array_equal(normalize(image, "caffe"), expected)


def test_none_changes_nothing():
    np.testing.assert_array_equal(normalize(noise(4, 5), "none"), noise(4, 5))
    np.testing.assert_array_equal(denormalize(noise(4, 5), "none"), noise(4, 5))


def test_batch_equals_singles():
    images = noise(3, 4, 5)
    singles = jnp.stack([normalize(image, "caffe") for image in images])
    np.testing.assert_array_equal(normalize(images, "caffe"), singles)


@pytest.mark.parametrize("function", [normalize, denormalize])
def test_unknown_name(function):
    with pytest.raises(UserError, match="unknown normalization 'imagnet': did you mean imagenet"):
        function(noise(4, 5), "imagnet")
