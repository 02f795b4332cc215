"""The switches of the residual family: each changes what it says, and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones import Architecture, Compute
from swag_jax.backbones.resnet import ResNet
from swag_jax.backbones.zoo import parameter_shapes
from swag_jax.params.tree import with_parameters

IMAGES = jax.random.normal(jax.random.key(0), (1, 33, 40, 3))
OPERATIONS = Compute()
TINY = {"channels": 4, "depths": (2, 1, 1, 1)}


def build(**switches):
    """A small network without its arrays."""
    return nnx.eval_shape(lambda: ResNet(Architecture(**TINY | switches), rngs=nnx.Rngs(0)))


def filled(**switches):
    """A small network down to its second stage, with random kernels, biases and statistics."""
    architecture, rng = Architecture(**TINY | switches), np.random.default_rng(0)
    network = nnx.eval_shape(lambda: ResNet(architecture, until="conv3_1", rngs=nnx.Rngs(0)))
    arrays = {flat: 0.2 * rng.standard_normal(shape) for flat, shape in sorted(shapes_of(network).items())}
    arrays |= {flat: 1 + np.abs(x) for flat, x in arrays.items() if flat.endswith(("variance", "scale"))}
    return with_parameters(network, arrays)


def shapes_of(network):
    leaves = nnx.to_flat_state(nnx.state(network))
    return {".".join(path): variable.get_value().shape for path, variable in leaves}


def test_the_default_is_resnet50():
    assert Architecture().layers == backbones.layer_names("resnet50")
    assert {Architecture(), Architecture(kernel_size=3)} == {Architecture()}


@pytest.mark.parametrize(
    ("stem", "downsampling", "layers", "spacings"),
    [
        ("7x7", "stride", "conv1 pool1 conv2_1 conv2_2 conv3_1 conv4_1 conv5_1", (2, 4, 4, 4, 8, 16, 32)),
        (
            "7x7",
            "pool",
            "conv1 pool1 conv2_1 conv2_2 pool2 conv3_1 pool3 conv4_1 pool4 conv5_1",
            (2, 4, 4, 4, 8, 8, 16, 16, 32, 32),
        ),
        ("3x3", "stride", "conv1 conv2_1 conv2_2 conv3_1 conv4_1 conv5_1", (1, 2, 2, 4, 8, 16)),
        (
            "3x3",
            "pool",
            "conv1 pool1 conv2_1 conv2_2 pool2 conv3_1 pool3 conv4_1 pool4 conv5_1",
            (1, 2, 2, 2, 4, 4, 8, 8, 16, 16),
        ),
    ],
)
def test_layers_and_their_spacing(stem, downsampling, layers, spacings):
    network = build(stem=stem, downsampling=downsampling)
    assert network.layers == tuple(layers.split())
    assert network.strides == spacings
    shapes = jax.eval_shape(lambda n, x: n(x), network, jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32))
    assert [shapes[name].shape[1:3] for name in network.layers] == [(64 // s, 96 // s) for s in spacings]


def test_version_1_strides_at_the_first_convolution():
    network = filled(version="v1")
    found = network(IMAGES)
    block, every_other = network.conv3_1, found["conv2_2"][:, ::2, ::2]

    def unit(layer, x):
        size = layer.kernel.shape[0] // 2
        return layer.frozen(OPERATIONS)(x, OPERATIONS, padding=((size, size), (size, size)))

    for layer in (block.conv1, block.conv3, block.shortcut, block.conv2):
        layer.stride = 1
    y = jax.nn.relu(unit(block.conv2, jax.nn.relu(unit(block.conv1, every_other))))
    expected = jax.nn.relu(unit(block.conv3, y) + unit(block.shortcut, every_other))
    np.testing.assert_allclose(found["conv3_1"], expected, rtol=1e-4, atol=1e-4)
    other = filled(version="v1.5")(IMAGES)
    np.testing.assert_array_equal(other["conv2_2"], found["conv2_2"])
    assert other["conv3_1"].shape == expected.shape
    assert np.abs(np.asarray(other["conv3_1"] - expected)).max() > 0.01


def kernels(**switches):
    return {flat: shape for flat, shape in shapes_of(build(**switches)).items() if flat.endswith("kernel")}


@pytest.mark.parametrize("size", [1, 5, 7])
@pytest.mark.parametrize("block", ["bottleneck", "basic"])
def test_kernel_size_changes_the_3x3_convolutions_of_the_blocks(size, block):
    before, after = kernels(block=block), kernels(block=block, kernel_size=size)
    changed = {flat for flat in before if before[flat] != after[flat]}
    middle = "conv2" if block == "bottleneck" else "conv"
    assert changed == {flat for flat in before if f".{middle}" in flat}
    assert all(after[flat] == (size, size, *before[flat][2:]) for flat in changed)


def test_channels_and_width():
    narrow, wide, inner = kernels(), kernels(channels=8), kernels(width=8)
    assert narrow["conv1.kernel"] == (7, 7, 3, 4)
    assert [narrow[f"conv5_1.conv{i}.kernel"][2:] for i in (1, 2, 3)] == [(64, 32), (32, 32), (32, 128)]
    assert [inner[f"conv5_1.conv{i}.kernel"][2:] for i in (1, 2, 3)] == [(64, 64), (64, 64), (64, 128)]
    assert {
        flat: (*s[:2], s[2] if flat == "conv1.kernel" else 2 * s[2], 2 * s[3]) for flat, s in narrow.items()
    } == wide
    basic = kernels(block="basic", width=8)
    assert [basic[f"conv4_1.conv{i}.kernel"][2:] for i in (1, 2)] == [(8, 32), (32, 16)]


def test_without_batch_norm_convolutions_have_a_bias():
    with_norm, without = build(), build(batch_norm=False)
    assert {f for f in shapes_of(with_norm) if not f.endswith("kernel")} == {
        flat.replace("kernel", f"norm.{field}") for flat in kernels() for field in ("scale", "bias", "mean", "variance")
    }
    assert {f for f in shapes_of(without) if not f.endswith("kernel")} == {
        flat.replace("kernel", "bias") for flat in kernels()
    }


def test_only_residual_networks_have_projections():
    assert [flat for flat in kernels() if "shortcut" in flat] == [f"conv{i}_1.shortcut.kernel" for i in (2, 3, 4, 5)]
    # A basic block keeps the channels of a 3x3 stem, and a pool before it leaves it no stride.
    plain = kernels(block="basic", stem="3x3", downsampling="pool")
    assert [flat for flat in plain if "shortcut" in flat] == [f"conv{i}_1.shortcut.kernel" for i in (3, 4, 5)]
    assert [flat for flat in kernels(residual=False) if "shortcut" in flat] == []


def branch(block, x):
    """R: the block's convolutions with ReLUs between them."""
    for name in block.names[:-1]:
        x = jax.nn.relu(getattr(block, name)(x, OPERATIONS))
    return getattr(block, block.names[-1])(x, OPERATIONS)


def carried(block, x):
    """S: the identity or the projection."""
    return block.shortcut(x, OPERATIONS) if block.projects else x


def formulas(network, images):
    """Every block's output by the formulas of `Architecture`'s docstring, pools left to the network."""
    kind, x, found = network.architecture, None, {}
    for name in network.layers:
        if name == "conv1":
            x = network.conv1(images, OPERATIONS)
            x = x if kind.pre_relu else jax.nn.relu(x)
        elif name.startswith("pool"):
            x = network._apply(name, x)
        elif kind.pre_relu:
            block = getattr(network, name)
            x = carried(block, x) + branch(block, jax.nn.relu(x))
        elif kind.residual:
            block = getattr(network, name)
            x = jax.nn.relu(carried(block, x) + branch(block, x))
        else:
            x = jax.nn.relu(branch(getattr(network, name), x))
        found[name] = x
    return found


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"block": "basic"},
        {"residual": False},
        {"pre_relu": True},
        {"pre_relu": True, "block": "basic", "downsampling": "pool", "width": 6},
        {"residual": False, "kernel_size": 5, "stem": "3x3", "batch_norm": False},
        {"kernel_size": 1, "downsampling": "pool", "stem": "3x3", "batch_norm": False},
    ],
    ids=str,
)
def test_blocks_follow_their_formula_frozen_or_not(switches):
    network = filled(**switches)
    run = jax.jit(lambda n, x: (n(x), n.frozen()(x), formulas(n, x)))
    found, frozen, expected = jax.device_get(run(network, IMAGES))
    signed = {name for name, x in expected.items() if x.min() < 0}
    assert signed == (set(network.layers) if "pre_relu" in switches else set())
    for name in network.layers:
        for x in (found[name], frozen[name]):
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(x, np.maximum(expected[name], 0), rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"kernel_size": 4}, "kernel size must be 1, 3, 5 or 7, got 4."),
        ({"kernel_size": 9}, "kernel size must be 1, 3, 5 or 7, got 9."),
        ({"kernel_size": True}, "kernel size must be 1, 3, 5 or 7, got True."),
        ({"residual": "false"}, "residual must be True or False, got 'false'."),
        ({"batch_norm": 0}, "batch_norm must be True or False, got 0."),
        ({"depths": (3, 4, 6)}, "depths must be a tuple of four whole numbers of at least 1, got (3, 4, 6)."),
        ({"depths": (3, 4, 0, 3)}, "depths must be a tuple of four whole numbers of at least 1, got (3, 4, 0, 3)."),
        ({"depths": [3, 4, 6, 3]}, "depths must be a tuple of four whole numbers of at least 1, got [3, 4, 6, 3]."),
        ({"depths": (3, 4, 10**9, 3)}, "no stage may have more than 400 blocks, got (3, 4, 1000000000, 3)."),
        ({"channels": 0}, "channels must be a whole number of at least 1, got 0."),
        ({"channels": 10**6}, "channels must be at most 4096, got 1000000."),
        ({"width": 1.5}, "width must be a whole number of at least 1, got 1.5."),
        ({"block": "basik"}, "unknown block 'basik': did you mean basic?"),
        ({"downsampling": "pooling"}, "unknown downsampling 'pooling': did you mean pool?"),
        ({"stem": "5x5"}, "unknown stem '5x5': known: 7x7, 3x3"),
        ({"version": "v2"}, "unknown version 'v2': "),
        ({"residual": False, "pre_relu": True}, "pre_relu needs residual connections, got residual=False."),
        ({"kernal_size": 3}, "unknown option of resnet50 'kernal_size': did you mean kernel_size?"),
        ({"pooling": "max"}, "unknown option of resnet50 'pooling': "),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_switches_are_explained(switches, message):
    with pytest.raises(UserError) as caught:
        backbones.create("resnet50", **switches)
    assert str(caught.value).startswith(message)


def test_switches_of_a_named_network():
    network = nnx.eval_shape(lambda: backbones.create("preact_resnet50", kernel_size=5, depths=(1, 1, 1, 1)))
    assert network.architecture == Architecture(pre_relu=True, kernel_size=5, depths=(1, 1, 1, 1))
    assert backbones.layer_names("resnet18", depths=(1, 1, 1, 1))[-1] == "conv5_1"
    shapes = parameter_shapes("resnet50", block="basic", batch_norm=False, until="conv2_1")
    assert shapes["conv2_1.conv2.kernel"] == (3, 3, 64, 64)
    assert "conv2_1.conv3.kernel" not in shapes


def test_named_networks_differ_by_their_switches():
    """SWAG, section 3: each is another one with a few parts exchanged."""

    def architecture(name):
        return nnx.eval_shape(lambda: backbones.create(name)).architecture

    resnet50, resvgg = Architecture(), architecture("pseudo_resvgg")
    assert architecture("no_resnet50") == dataclasses.replace(resnet50, residual=False)
    assert architecture("preact_resnet50") == dataclasses.replace(resnet50, pre_relu=True)
    assert resvgg == dataclasses.replace(resnet50, block="basic", downsampling="pool", stem="3x3")
    assert architecture("pseudo_vgg") == dataclasses.replace(resvgg, residual=False)
