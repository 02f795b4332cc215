"""Loading networks by name."""

import jax
import numpy as np
import pytest

from swag_jax import backbones, params
from swag_jax._checks import UserError


@pytest.fixture(autouse=True)
def empty_store(monkeypatch, tmp_path):
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "store"))


def test_auto_loads_the_embedded_vgg19():
    network, source = backbones.load("vgg19")
    assert (source.kind, source.name) == ("embedded", "vgg19-tiny-imagenet")
    assert network.layers[-1] == "relu5_1"
    arrays = backbones.flat_parameters(network)
    assert len(arrays) == 26
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays.values())


def test_auto_loads_the_embedded_resnet50():
    network, source = backbones.load("resnet50")
    assert (source.kind, source.name) == ("embedded", "resnet50-tiny-imagenet")
    assert network.layers[-1] == "conv5_3"
    arrays = backbones.flat_parameters(network)
    assert {name: array.shape for name, array in arrays.items()} == backbones.parameter_shapes("resnet50")
    assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays.values())
    assert all((array > 0).all() for name, array in arrays.items() if name.endswith("norm.variance"))


def test_auto_falls_back_to_random_and_says_so():
    _, source = backbones.load("wide_resnet50_2", layers=("conv1",))
    assert source.kind == "random"
    assert source.advice() == "for weights trained on ImageNet: swag-jax weights fetch wide_resnet50_2-imagenet"


def test_only_what_is_read_is_built():
    network, _ = backbones.load("vgg19", layers=("relu1_1", "relu2_2"))
    assert network.layers[-1] == "relu2_2"
    assert max(backbones.flat_parameters(network)) == "conv2_2.kernel"


def test_embedded_weights_that_end_too_early():
    with pytest.raises(UserError, match="reaches down to conv5_1, not to conv5_4"):
        backbones.load("vgg19", layers=("relu5_4",))


def test_unknown_names():
    with pytest.raises(UserError, match="unknown backbone 'vgg16': did you mean vgg19"):
        backbones.load("vgg16")
    with pytest.raises(UserError, match="unknown layer 'relu41': did you mean relu4_1"):
        backbones.load("vgg19", layers=("relu41",))


def test_random_weights_follow_the_seed():
    one, two, three = (
        backbones.load("resnet50", weights="random", layers=("conv1",), seed=seed)[0] for seed in (0, 0, 1)
    )
    kernels = [backbones.flat_parameters(n)["conv1.kernel"] for n in (one, two, three)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_another_architecture_has_random_weights_or_those_of_a_file(tmp_path):
    small = {"depths": (1, 1, 1, 1), "channels": 4, "pre_relu": True}
    network, source = backbones.load("resnet50", **small, seed=2)
    assert (source.kind, network.layers) == ("random", ("conv1", "pool1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"))
    arrays = {flat: np.asarray(array) for flat, array in backbones.flat_parameters(network).items()}
    params.write_safetensors(tmp_path / "mine.safetensors", arrays, {})
    again, source = backbones.load("resnet50", weights=str(tmp_path / "mine.safetensors"), layers=("conv4_1",), **small)
    assert (source.kind, again.layers[-1]) == ("file", "conv4_1")
    for flat, array in backbones.flat_parameters(again).items():
        np.testing.assert_array_equal(array, arrays[flat])
    with pytest.raises(UserError) as caught:
        backbones.load("resnet50", weights="embedded", **small)
    assert str(caught.value) == (
        "embedded weights are of resnet50 as it is, got another depths and channels and pre_relu: "
        "pass random, or the path of a checkpoint."
    )


def test_weights_of_a_checkpoint_file(tmp_path):
    from safetensors.numpy import save_file

    random, _ = backbones.load("vgg19", weights="random", seed=5)
    keys = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}
    arrays = backbones.flat_parameters(random)
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
