"""Loading networks by name."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import swag_jax
from swag_jax import backbones
from swag_jax._checks import UserError
from swag_jax.backbones.zoo import parameter_shapes, resolve
from swag_jax.params.safetensors_file import read_safetensors, write_safetensors
from swag_jax.params.tree import flat_parameters


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "store"))


def test_auto_loads_the_embedded_vgg19():
    network, source = backbones.load("vgg19")
    assert (source.kind, source.name) == ("embedded", "vgg19-caffe")
    assert network.layers[-1] == "relu5_1"
    arrays = flat_parameters(network)
    assert len(arrays) == 26
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays.values())


def test_auto_loads_the_embedded_resnet50():
    network, source = backbones.load("resnet50")
    assert (source.kind, source.name) == ("embedded", "resnet50-caffe")
    assert network.layers[-1] == "conv5_3"
    assert network.normalization == "caffe"
    assert network.architecture.version == "v1"
    arrays = flat_parameters(network)
    assert {name: array.shape for name, array in arrays.items()} == parameter_shapes("resnet50")
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays.values())
    assert all((array > 0).all() for name, array in arrays.items() if name.endswith("norm.variance"))


def test_auto_loads_the_embedded_efficientnet():
    network, source = backbones.load("efficientnet-lite0")
    assert (source.kind, source.name) == ("embedded", "efficientnet-lite0-tensorflow")
    assert (network.layers[-1], network.normalization) == ("block12_expand", "lite")
    arrays = flat_parameters(backbones.load("efficientnet-lite0", layers=("block15",))[0])
    assert {name: array.shape for name, array in arrays.items()} == parameter_shapes(
        "efficientnet-lite0", until="block15"
    )
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays.values())
    assert all((array >= 0).all() for name, array in arrays.items() if name.endswith("norm.variance"))


def test_auto_falls_back_to_random_and_says_so():
    _, source = backbones.load("wide_resnet50_2", layers=("conv1",))
    assert source.kind == "random"
    assert source.advice() == "for weights trained on ImageNet: swag-jax weights fetch wide_resnet50_2-imagenet"


def test_only_what_is_read_is_built():
    network, _ = backbones.load("vgg19", layers=("relu1_1", "relu2_2"))
    assert network.layers[-1] == "relu2_2"
    assert max(flat_parameters(network)) == "conv2_2.kernel"


def test_embedded_weights_that_end_too_early():
    with pytest.raises(UserError, match="reaches down to conv5_1, not to conv5_4"):
        backbones.load("vgg19", layers=("relu5_4",))
    with pytest.raises(
        UserError, match="reaches down to block15, not to head: use shallower layers, or pass a complete"
    ):
        backbones.load("efficientnet-lite0", layers=("head",))


def test_unknown_names():
    with pytest.raises(UserError, match="unknown backbone 'vgg17': did you mean vgg1"):
        backbones.load("vgg17")
    with pytest.raises(UserError, match="unknown layer 'relu41': did you mean relu4_1"):
        backbones.load("vgg19", layers=("relu41",))


def test_random_weights_follow_the_seed():
    one, two, three = (
        backbones.load("resnet50", weights="random", layers=("conv1",), seed=seed)[0] for seed in (0, 0, 1)
    )
    kernels = [flat_parameters(n)["conv1.kernel"] for n in (one, two, three)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_another_architecture_has_random_weights_or_those_of_a_file(tmp_path):
    small = {"depths": (1, 1, 1, 1), "channels": 4, "pre_relu": True}
    network, source = backbones.load("resnet50", **small, seed=2)
    assert (source.kind, network.layers) == ("random", ("conv1", "pool1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"))
    arrays = {flat: np.asarray(array) for flat, array in flat_parameters(network).items()}
    write_safetensors(tmp_path / "mine.safetensors", arrays, {})
    again, source = backbones.load("resnet50", weights=str(tmp_path / "mine.safetensors"), layers=("conv4_1",), **small)
    assert (source.kind, again.layers[-1]) == ("file", "conv4_1")
    for flat, array in flat_parameters(again).items():
        np.testing.assert_array_equal(array, arrays[flat])
    with pytest.raises(UserError) as caught:
        backbones.load("resnet50", weights="embedded", **small)
    assert "resnet50-caffe is of another architecture, got depths=(1, 1, 1, 1), channels=4" in str(caught.value)
    assert "pass random, or the path of a checkpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "resnet50-caffe"),
        ({"version": "v1"}, "resnet50-caffe"),
        ({"residual": True, "depths": (3, 4, 6, 3)}, "resnet50-caffe"),
        ({"version": "v1.5"}, "random"),
        ({"residual": False}, "random"),
    ],
)
def test_auto_takes_the_embedded_checkpoint_of_its_own_architecture(options, name):
    assert resolve("resnet50", **options).name == name


def test_a_checkpoint_of_another_version_is_refused():
    with pytest.raises(UserError, match=r"resnet50-caffe is of another architecture, got version=v1\.5"):
        backbones.load("resnet50", weights="resnet50-caffe", version="v1.5", layers=("conv1",))


def test_a_file_of_our_own_says_which_version_its_network_is(tmp_path):
    small = {"depths": (1, 1, 1, 1), "channels": 4, "version": "v1"}
    network = backbones.create("resnet50", **small)
    arrays = {flat: np.asarray(array) for flat, array in flat_parameters(network).items()}
    path = tmp_path / "mine.safetensors"
    written = {"depths": [1, 1, 1, 1], "channels": 4, "version": "v1"}
    write_safetensors(path, arrays, {"backbone": "resnet50", "architecture": json.dumps(written)})
    again, source = backbones.load("resnet50", weights=str(path), layers=("conv5_1",))
    assert (source.kind, again.architecture) == ("file", network.architecture)


def test_unit_mean_weights_divide_the_activations():
    layers = ("relu1_1", "relu3_1")
    plain, _ = backbones.load("vgg19", weights="vgg19-caffe", layers=layers)
    rescaled, source = backbones.load("vgg19", weights="vgg19-caffe-unit-mean", layers=layers)
    assert (source.unit_mean, rescaled.normalization) == (True, "caffe")
    means = read_safetensors(source.path, names=["conv1_1.mean_activation", "conv3_1.mean_activation"])
    image = jnp.asarray(swag_jax.sample(swag_jax.images.CONTENTS[0], size=48))
    found, expected = (swag_jax.extract(network, image, layers=layers) for network in (rescaled, plain))
    for layer, mean in zip(layers, means.values(), strict=True):
        restored = np.asarray(found[layer]) * mean
        np.testing.assert_allclose(restored, expected[layer], rtol=1e-3, atol=1e-3 * float(mean.max()))


def test_weights_of_a_checkpoint_file(tmp_path):
    from safetensors.numpy import save_file

    random, _ = backbones.load("vgg19", weights="random", seed=5)
    keys = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}
    arrays = flat_parameters(random)
    tensors = {}
    for name, place in keys.items():
        kernel = np.asarray(arrays[f"{name}.kernel"]).transpose(3, 2, 0, 1)  # HWIO -> OIHW
        tensors[f"features.{place}.weight"] = np.ascontiguousarray(kernel)
        tensors[f"features.{place}.bias"] = np.asarray(arrays[f"{name}.bias"])
    save_file(tensors, tmp_path / "mine.safetensors")
    network, source = backbones.load("vgg19", weights=str(tmp_path / "mine.safetensors"), layers=("relu2_2",))
    assert source.kind == "file"
    image = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    np.testing.assert_array_equal(network(image)["relu2_2"], random(image, until="relu2_2")["relu2_2"])
