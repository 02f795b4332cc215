import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax.measure.identity import identity_distance, rms_difference

IMAGE = jax.random.uniform(jax.random.key(0), (5, 4, 3))


def test_a_method_that_gives_the_image_back():
    assert float(identity_distance(lambda content, style: content, IMAGE)) == 0
    assert float(identity_distance(lambda content, style: style, IMAGE)) == 0


def test_a_method_that_does_not():
    assert float(identity_distance(lambda content, style: content + 0.25, IMAGE)) == pytest.approx(0.25, rel=1e-5)
    negative = identity_distance(lambda content, style: 1 - content, IMAGE)
    assert float(negative) == pytest.approx(float(jnp.sqrt(((1 - 2 * IMAGE) ** 2).mean())), rel=1e-5)


def test_difference_by_hand():
    """One of twelve numbers is off by 0.6."""
    image = jnp.zeros((2, 2, 3)).at[0, 1, 2].set(0.6)
    assert float(rms_difference(image, jnp.zeros((2, 2, 3)))) == pytest.approx(0.6 / 12**0.5, rel=1e-6)


def test_difference_equals_numpy_in_float64():
    first, second = np.random.default_rng(0).random((2, 9, 7, 3), np.float32)
    expected = np.sqrt(np.mean((first.astype(np.float64) - second) ** 2))
    assert float(rms_difference(jnp.asarray(first), jnp.asarray(second))) == pytest.approx(expected, rel=1e-6)
