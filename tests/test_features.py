"""What generators know of a network's layers."""

import jax
import pytest
from skeletons import skeleton

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones import zoo
from swag_jax.features import LayerSpec, taps


def test_taps_of_vgg19_and_resnet50():
    vgg, resnet = map(skeleton, ("vgg19", "resnet50"))
    assert taps(vgg, layers=["relu4_1", "relu1_1"]) == (LayerSpec("relu1_1", 64, 1), LayerSpec("relu4_1", 512, 8))
    layers = zoo.entry("resnet50").style_layers
    assert [(tap.channels, tap.stride) for tap in taps(resnet, layers=layers)] == [
        (64, 2),
        (256, 4),
        (512, 8),
        (1024, 16),
        (2048, 32),
    ]


@pytest.mark.parametrize("name", backbones.NAMES)
def test_the_default_layers_of_every_network_are_taps(name):
    entry = zoo.entry(name)
    network = skeleton(name)
    found = taps(network, layers=entry.style_layers)
    assert tuple(tap.layer for tap in found) == entry.style_layers
    images = jax.ShapeDtypeStruct((1, 96, 128, 3), jax.numpy.float32)
    shapes = jax.eval_shape(lambda n, x: n(x), network, images)
    assert [tap.channels for tap in found] == [shapes[tap.layer].shape[-1] for tap in found]


def test_bad_taps():
    with pytest.raises(UserError, match="unknown layer 'relu41': did you mean relu4_1"):
        taps(skeleton("vgg19"), layers=["relu41"])
    with pytest.raises(UserError, match="the stride of x must be a power of two, got 12"):
        LayerSpec("x", 3, 12)
    with pytest.raises(UserError, match="channels must be at least 1, got 0"):
        LayerSpec("x", 0, 1)
