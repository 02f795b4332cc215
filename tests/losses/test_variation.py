from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from swag_jax.losses import total_variation

GOLDEN = dict(np.load(Path(__file__).parents[1] / "reference" / "losses.npz"))

IMAGE = jax.random.uniform(jax.random.key(0), (7, 9, 3))


def test_zero_with_zero_gradient_where_the_image_is_flat():
    value, gradient = jax.value_and_grad(total_variation)(jnp.full((5, 6, 3), 0.25))
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, np.zeros((5, 6, 3)))


def test_checkerboard_by_hand():
    """Every neighbor differs by one, down and across."""
    board = jnp.indices((4, 6)).sum(0) % 2
    assert float(total_variation(jnp.repeat(board[..., None], 3, axis=2).astype(jnp.float32))) == 2


def test_one_step_in_one_channel_by_hand():
    """One of the 3 x 3 x 3 differences across is 0.5, and one of those down, 2 x 4 x 3, is, too."""
    image = jnp.zeros((3, 4, 3)).at[0, 0, 1].set(0.5)
    assert float(total_variation(image)) == pytest.approx(0.25 / 27 + 0.25 / 24, rel=1e-6)


def test_ramp_does_not_depend_on_the_resolution():
    """A slope of 1/64 per pixel, at two sizes."""
    for height, width in ((8, 8), (16, 32)):
        ramp = jnp.broadcast_to(jnp.arange(float(width))[None, :, None] / 64, (height, width, 3))
        assert float(total_variation(ramp)) == pytest.approx(1 / 64**2, rel=1e-6)


def test_value_and_gradient_match_pytorch():
    value, gradient = jax.value_and_grad(total_variation)(jnp.asarray(GOLDEN["image"]))
    np.testing.assert_allclose(value, GOLDEN["variation_squared_mean"], rtol=1e-6)
    np.testing.assert_allclose(gradient, GOLDEN["gradient_variation_squared_mean"], rtol=1e-5, atol=1e-7)


def test_gradient_matches_finite_differences():
    with jax.enable_x64(True):
        image = jnp.asarray(np.asarray(IMAGE, np.float64))
        check_grads(lambda x: total_variation(jnp.asarray(x)), (image,), order=1, atol=1e-9, rtol=1e-8, eps=1e-4)


def test_unchanged_by_a_constant_a_mirror_and_a_transposition():
    expected = float(total_variation(IMAGE))
    for image in (IMAGE + 1, IMAGE[::-1], IMAGE[:, ::-1], IMAGE.swapaxes(0, 1), IMAGE[..., ::-1]):
        assert float(total_variation(image)) == pytest.approx(expected, rel=1e-5)


def test_vmap_equals_loop():
    batch = jax.random.uniform(jax.random.key(1), (3, 5, 6, 3))
    np.testing.assert_allclose(jax.vmap(total_variation)(batch), [total_variation(x) for x in batch], rtol=1e-5)
