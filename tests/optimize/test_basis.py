"""The basis 1 / f^p: exact on waves, symmetric, inverted exactly, and no other minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax.images.resize import resample
from swag_jax.optimize import LBFGS
from swag_jax.optimize.basis import from_image, to_image
from swag_jax.optimize.solvers import run

IMAGE = jax.random.uniform(jax.random.key(0), (12, 15, 3))
DECAYS = [0.0, 0.5, 1.0]


def wave(cycles, *, axis, shape=(24, 24)):
    """A cosine with so many cycles along an axis, the same in all channels."""
    along = np.cos(2 * np.pi * cycles * np.arange(shape[axis]) / shape[axis])
    return jnp.asarray(np.broadcast_to(along[:, None] if axis == 0 else along[None], shape)[..., None].repeat(3, 2))


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("cycles", [1, 3, 12])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_is_divided_by_its_frequency_to_the_power(axis, cycles, decay):
    x = wave(cycles, axis=axis)
    np.testing.assert_allclose(to_image(x, decay=decay), np.asarray(x) / cycles**decay, atol=2e-6)


def test_frequencies_count_along_the_longer_side():
    x = wave(2, axis=0, shape=(12, 24))  # a period of 6 pixels: 4 cycles in 24
    np.testing.assert_allclose(to_image(x, decay=1.0), np.asarray(x) / 4, atol=2e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_constants_stay(decay):
    flat = jnp.full((5, 8, 3), 0.25)
    np.testing.assert_allclose(to_image(flat, decay=decay), flat, atol=1e-7)


def test_pixels_are_untouched():
    assert to_image(IMAGE, decay=0.0) is IMAGE
    assert from_image(IMAGE, decay=0.0) is IMAGE


@pytest.mark.parametrize("decay", DECAYS)
def test_inverse(decay):
    np.testing.assert_allclose(to_image(from_image(IMAGE, decay=decay), decay=decay), IMAGE, atol=2e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_it_carries_gradients_as_the_chain_rule_does(decay):
    weights = jax.random.normal(jax.random.key(1), IMAGE.shape)
    gradient = jax.grad(lambda z: (to_image(z, decay=decay) * weights).sum())(IMAGE)
    np.testing.assert_allclose(to_image(weights, decay=decay), gradient, atol=2e-5)


def quadratic(image):
    """Smallest at an image with one bright half; its gradient favors high frequencies."""
    goal = jnp.zeros_like(image).at[:, : image.shape[1] // 2].set(0.8)
    rough = image - goal
    loss = (rough**2).mean() + 10 * ((rough[1:] - rough[:-1]) ** 2).mean()
    return loss, {"rough": loss}


@pytest.mark.parametrize("decay", DECAYS)
def test_the_minimum_stays_where_it_is(decay):
    solver = LBFGS(spectral_decay=decay)
    state = solver.init(jnp.full((12, 16, 3), 0.5), ("rough",))
    state, history = jax.jit(lambda s: run(jax.value_and_grad(quadratic, has_aux=True), solver, s, steps=60))(state)
    assert float(history["total"][-1]) < 1e-6
    found = solver.image(state)
    assert np.abs(np.asarray(found)[:, :8] - 0.8).max() < 0.01
    assert float(found[:, 8:].max()) < 0.01


@pytest.mark.parametrize("decay", DECAYS)
def test_a_state_is_resized_as_its_image_is(decay):
    solver = LBFGS(spectral_decay=decay)
    state = solver.init(IMAGE, ("rough",))
    state, _ = run(jax.value_and_grad(quadratic, has_aux=True), solver, state, steps=4)
    larger = solver.resized(state, 24, 30)
    expected = jnp.clip(resample(to_image(state.image, decay=decay), 24, 30), 0, 1)
    np.testing.assert_allclose(solver.image(larger), expected, atol=1e-5)
    moved = np.abs(np.subtract(solver.image(state), IMAGE)).max()
    assert moved > 0.05
    # Pairs of differences: y of the finer image is B y_x, and its product with s is what it was, up to the resampling.
    old = jnp.einsum("khwc,khwc->k", state.pairs.steps, state.pairs.changes)
    new = jnp.einsum("khwc,khwc->k", larger.pairs.steps, larger.pairs.changes)
    kept = np.asarray(state.pairs.weights) != 0
    assert kept.any()
    np.testing.assert_allclose(np.asarray(new)[kept], np.asarray(old)[kept], rtol=0.5)
