"""Pools of VGG19 that keep an odd last row or column, as AdaIN's encoder does."""

import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import backbones
from swag_jax.backbones.vgg import AVERAGE_POOL_SCALE

X = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 9.0], [7.0, 0.0, 6.0]])[None, :, :, None]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("max", [[5.0, 9.0], [7.0, 6.0]]), ("average", [[3.25, 5.5], [3.5, 6.0]])],
)
def test_an_odd_edge_is_a_window_of_its_own(pooling, expected):
    scale = AVERAGE_POOL_SCALE if pooling == "average" else 1.0
    for keep_odd in (True, False):
        network = backbones.create("vgg19", until="conv1_1", pooling=pooling, keep_odd=keep_odd)
        kept = slice(None) if keep_odd else slice(1)
        found = network._apply("pool1", X)[0, ..., 0]
        np.testing.assert_allclose(found, scale * np.array(expected)[kept, kept])
