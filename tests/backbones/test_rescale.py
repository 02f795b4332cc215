import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones import unit_mean
from swag_jax.backbones.vgg import PADDINGS, POOLINGS
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.params.tree import flat_parameters, shapes_of, with_parameters

IMAGES = jax.random.normal(jax.random.key(0), (2, 24, 20, 3))


@functools.cache
def drawn():
    """Random biases, and random kernels that sum to zero per output channel, so that only a few never fire."""
    rng = np.random.default_rng(0)
    shapes = parameter_shapes("vgg19", until="conv3_2")
    arrays = {flat: rng.normal(0, 0.06, shape) for flat, shape in shapes.items()}
    return {flat: x - x.mean((0, 1, 2)) if x.ndim == 4 else x for flat, x in arrays.items()}


def create(until="relu3_1", **options):
    skeleton = nnx.eval_shape(lambda: backbones.create("vgg19", until=until, **options))
    return with_parameters(skeleton, {name: drawn()[name] for name in shapes_of(skeleton)})


def run(network, images):
    return jax.tree.map(np.asarray, apply(network, images))


@jax.jit
def apply(network, images):
    return network(images)


def means(activations):
    return {layer: np.asarray(x, np.float64).mean((0, 1, 2)) for layer, x in activations.items()}


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


def sharing(relu, layers):
    """The layers with the channels of a ReLU: its convolution, itself, and the pool that may follow."""
    place = layers.index(relu)
    return [layer for layer in layers[place - 1 : place + 2] if layer[:4] != "conv" or layer[4:] == relu[4:]]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_every_filter_has_mean_one_and_nothing_else_changes(pooling, padding):
    network = create(pooling=pooling, padding=padding)
    rescaled = unit_mean(network, IMAGES)
    assert (rescaled.layers, rescaled.pooling, rescaled.padding) == (network.layers, pooling, padding)
    before, after = run(network, IMAGES), run(rescaled, IMAGES)
    for relu in (layer for layer in network.layers if layer.startswith("relu")):
        mean = means(before)[relu]
        live = mean > 1e-3 * mean.mean()
        assert live.mean() > 0.95
        np.testing.assert_allclose(means(after)[relu][live], 1, atol=1e-4)
        for layer in sharing(relu, network.layers):
            close(after[layer] * np.where(live, mean, 1), before[layer])


def test_the_network_given_is_unchanged():
    network = create()
    before = {flat: np.array(array) for flat, array in flat_parameters(network).items()}
    unit_mean(network, IMAGES)
    for flat, array in flat_parameters(network).items():
        np.testing.assert_array_equal(array, before[flat])


def test_a_last_convolution_without_its_relu_keeps_its_scale():
    network = create("conv3_2")
    close(run(unit_mean(network, IMAGES), IMAGES)["conv3_2"], run(network, IMAGES)["conv3_2"])
    first = create("conv1_1")
    close(run(unit_mean(first, IMAGES), IMAGES)["conv1_1"], run(first, IMAGES)["conv1_1"])


def test_twice_is_once():
    once = unit_mean(create(), IMAGES)
    again = flat_parameters(unit_mean(once, IMAGES))
    for flat, array in flat_parameters(once).items():
        close(again[flat], array)


def test_dead_and_nearly_dead_channels_keep_their_scale():
    network = create("relu1_2")
    # Of conv1_1's channels, the first never fires; the second gives 1e-6 at every position, the third 0.5.
    kernel, bias = network.conv1_1.kernel, network.conv1_1.bias
    kernel[...] = kernel[...].at[..., :3].set(0)
    bias[...] = bias[...].at[:3].set(jnp.array([-1.0, 1e-6, 0.5]))
    rescaled = unit_mean(network, IMAGES)
    np.testing.assert_allclose(rescaled.conv1_1.bias[:3], [-1, 1e-6, 1], rtol=1e-6)
    mean = means(run(rescaled, IMAGES))
    np.testing.assert_allclose(mean["relu1_1"], [0, 1e-6] + 62 * [1], rtol=1e-4)
    np.testing.assert_allclose(mean["relu1_2"], 1, atol=1e-4)


def test_a_dead_layer_stays_as_it_is():
    network = create("relu1_2")
    network.conv1_1.kernel[...] = jnp.zeros((3, 3, 3, 64))
    network.conv1_1.bias[...] = jnp.full(64, -1.0)
    rescaled = unit_mean(network, IMAGES)
    np.testing.assert_array_equal(rescaled.conv1_1.kernel[...], network.conv1_1.kernel[...])
    np.testing.assert_array_equal(rescaled.conv1_1.bias[...], network.conv1_1.bias[...])


def test_under_jit():
    network = create("relu1_2")
    compiled = flat_parameters(jax.jit(unit_mean)(network, IMAGES))
    for flat, array in flat_parameters(unit_mean(network, IMAGES)).items():
        close(compiled[flat], array)


def test_networks_that_cannot_be_rescaled():
    with pytest.raises(UserError, match="only a VGG can be rescaled, got ResNet: pass a vgg19"):
        unit_mean(nnx.eval_shape(lambda: backbones.create("resnet50", until="conv1")), IMAGES)
    with pytest.raises(UserError, match=r"that is not frozen can be rescaled: rescale it before `frozen\(\)`"):
        unit_mean(create("relu1_1").frozen(), IMAGES)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 3, 8, 3), (1, 8, 3, 3)])
def test_images_without_a_whole_position(shape):
    with pytest.raises(UserError, match="images must be at least one of 4 x 4 pixels, got shape"):
        unit_mean(create(), jnp.zeros(shape))
