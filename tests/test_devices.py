"""Programs on eight devices do what one would do with all the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import devices
from swag_jax._checks import UserError


def test_eight_simulated_devices():
    assert devices.count() == 8


def test_shares_keep_the_order():
    batch = np.arange(24).reshape(24, 1)
    shares = devices.shares(batch)
    assert shares.shape == (8, 3, 1)
    np.testing.assert_array_equal(shares.reshape(24, 1), batch)


def test_a_batch_must_divide():
    with pytest.raises(UserError, match="multiple of the number of devices, got a batch of 12 on 8 devices"):
        devices.shares(np.zeros(12))


def test_a_parallel_step_of_descent_equals_one_on_the_whole_batch():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    y = x @ np.float32([1, -2, 3]) + 1

    def loss(weights, x, y):
        return jnp.mean((x @ weights["slope"] + weights["offset"] - y) ** 2)

    def step(weights, rate, x, y):
        value, gradient = devices.mean(jax.value_and_grad(loss)(weights, x, y))
        return jax.tree.map(lambda w, g: w - rate * g, weights, gradient), value

    weights = {"slope": jnp.zeros(3), "offset": jnp.zeros(())}
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, weights, jax.grad(loss)(weights, x, y))
    mapped = devices.parallel(step, split=(2, 3), arguments=4)
    found, value = mapped(weights, 0.1, devices.shares(x), devices.shares(y))
    np.testing.assert_allclose(value, loss(weights, x, y), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)


def test_every_device_knows_its_number():
    gather = devices.parallel(
        lambda share: jax.lax.all_gather(share[0] + devices.index(), devices.AXIS), split=(0,), arguments=1
    )
    np.testing.assert_array_equal(gather(devices.shares(np.arange(0, 80, 10))), 11 * np.arange(8))
