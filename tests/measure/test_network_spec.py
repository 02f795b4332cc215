"""Subjects: their stages, switched networks measured as networks built by hand, and options that do not exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import UserError, backbones, extract, sample
from swag_jax.backbones.zoo import entry, stage_layers
from swag_jax.measure import NetworkSpec, activation_statistics, network_spec
from swag_jax.measure.activations import layer_statistics
from swag_jax.smoothing import Smoothing

SWITCHES = {"residual": False, "kernel_size": 5, "depths": (1, 2, 1, 1), "channels": 4, "batch_norm": False}
SWITCHED = NetworkSpec("switched", "resnet50", options=tuple(SWITCHES.items()))
ENDS = ("conv1", "conv2_1", "conv3_2", "conv4_1", "conv5_1")


@pytest.mark.parametrize("name", backbones.NAMES)
def test_stages_of_every_network(name):
    ends, names = stage_layers(name), backbones.layer_names(name)
    assert ends == entry(name).stages
    assert [network_spec._stage(end, ends, names) for end in ends] == list(range(len(ends)))
    assert network_spec._stage(names[0], ends, names) == 0
    assert network_spec._stage(names[-1], ends, names) == len(ends) - 1


def test_weights_that_end_inside_a_stage():
    """The embedded VGG19 ends at conv5_1."""
    loaded = network_spec.load_network(NetworkSpec("vgg19", "vgg19", "embedded"), "stages")
    assert loaded.stages == {0: "relu1_2", 1: "relu2_2", 2: "relu3_4", 3: "relu4_4", 4: "relu5_1"}
    assert loaded.layers == tuple(loaded.stages.values())
    every = network_spec.load_network(NetworkSpec("vgg19", "vgg19", "embedded"), "all")
    assert every.stages == loaded.stages
    assert every.layers == backbones.layer_names("vgg19")[: backbones.layer_names("vgg19").index("relu5_1") + 1]


def test_a_switched_subject_is_measured_as_the_network_built_by_hand():
    coffee = sample("coffee", size=48)
    found = activation_statistics({"coffee": coffee}, [SWITCHED], smoothings=(), seed=3).networks["switched"]
    assert found.source.kind == "random"
    assert found.stages == dict(enumerate(ENDS))
    network = backbones.create("resnet50", seed=3, **SWITCHES)

    @jax.jit
    def expected(image):
        features = extract(network, image, layers=ENDS)
        return {layer: layer_statistics(features[layer], Smoothing()) for layer in ENDS}

    for layer, numbers in expected(jnp.asarray(coffee)).items():
        np.testing.assert_allclose(found.values[layer][0, 0], numbers, rtol=1e-4)


def test_stages_follow_the_depths():
    """Deeper ones too: the layer that ends a stage of ResNet50 is none there."""
    deeper = NetworkSpec("deeper", "resnet50", options=(("depths", (4, 1, 7, 4)), ("channels", 2)))
    loaded = network_spec.load_network(deeper, "stages")
    assert loaded.stages == {0: "conv1", 1: "conv2_4", 2: "conv3_1", 3: "conv4_7", 4: "conv5_4"}
    assert loaded.layers == tuple(loaded.stages.values())


def test_subjects_are_hashable():
    assert len({SWITCHED, NetworkSpec("switched", "resnet50", options=tuple(SWITCHES.items()))}) == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("backbone", "options", "weights", "message"),
    [
        ("resnet50", {"residul": False}, "random", "unknown option of resnet50 'residul': did you mean residual?"),
        ("resnet50", {"until": "conv1"}, "random", "unknown option of resnet50 'until': known: residual, pre_relu"),
        ("vgg19", {"residual": False}, "random", "unknown option of vgg19 'residual': known: pooling, padding"),
        ("resnet50", {"residual": "no"}, "random", "residual must be True or False, got 'no'."),
        ("resnet50", {"kernel_size": 4}, "random", "kernel size must be 1, 3, 5 or 7, got 4."),
        ("no_resnet50", {"pre_relu": True}, "random", "pre_relu needs residual connections, got residual=False."),
        ("resnet50", {"depths": (1, 1, 1, 1)}, "embedded", "resnet50-caffe is of another architecture, got depths="),
    ],
)
def test_bad_switches(backbone, options, weights, message):
    with pytest.raises(UserError) as failure:
        network_spec.load_network(NetworkSpec("bad", backbone, weights, tuple(options.items())), "stages")
    assert str(failure.value).startswith(message)
