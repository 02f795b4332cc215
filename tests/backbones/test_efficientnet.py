"""What EfficientNet-Lite0 has beyond the laws of all networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.efficientnet import _same

IMAGES = jax.random.uniform(jax.random.key(0), (1, 34, 46, 3))


@pytest.mark.parametrize(
    ("length", "size", "stride", "expected"),
    [
        (8, 3, 1, (1, 1)),
        (8, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (8, 5, 2, (1, 2)),
        (7, 5, 2, (2, 2)),
        (1, 5, 1, (2, 2)),
        (1, 3, 2, (1, 1)),
        (8, 1, 1, (0, 0)),
    ],
)
def test_padding_is_more_at_the_end(length, size, stride, expected):
    """TensorFlow's guide: out = ceil(length / stride); missing = (out - 1) stride + size - length, half of it first."""
    assert _same(jnp.zeros((1, length, 8, 1)), size, stride)[0] == expected
    assert _same(jnp.zeros((1, 8, length, 1)), size, stride)[1] == expected


def test_blocks_pass_on_signed_values_and_add_what_they_are_given():
    network = backbones.create("efficientnet-lite0", until="block2")
    found = network(IMAGES)
    assert network.layers[-4:] == ("block1", "block2_expand", "block2_depthwise", "block2")
    for layer, x in found.items():
        assert (float(x.min()) < 0) == (layer in ("block0", "block1", "block2")), layer
    inner = network.block2(found["block2_depthwise"], network.compute)
    np.testing.assert_allclose(found["block2"], found["block1"] + inner, rtol=1e-5, atol=1e-5)
    assert found["block0"].shape[-1] != found["stem"].shape[-1]  # nothing to add to


def test_the_activation_ends_at_six_unless_asked_for_otherwise():
    bright = 30 * IMAGES
    clipped, free = (
        backbones.create("efficientnet-lite0", until="stem", activation=each)(bright)["stem"]
        for each in ("relu6", "relu")
    )
    assert float(clipped.max()) == 6 < float(free.max())
    np.testing.assert_array_equal(clipped, np.minimum(free, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu7"}, "unknown activation 'relu7': did you mean relu or relu6"),
        ({"residual": False}, "unknown option of efficientnet-lite0 'residual': "),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_options_are_explained(options, message):
    with pytest.raises(UserError) as caught:
        backbones.create("efficientnet-lite0", **options)
    assert str(caught.value).startswith(message)
