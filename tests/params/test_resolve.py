import hashlib
from pathlib import Path

import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax.params import Source, checkpoints, convert, resolve
from swag_jax.params.manifest import checkpoint, weights_folder
from swag_jax.params.resolve import load
from swag_jax.params.store import install
from swag_jax.params.torch_file import read_torch
from swag_jax.params.tree import depth_of

FILES = Path(__file__).parent / "torch_files"
CHANNELS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 512}


def real_vgg19(deepest):
    """VGG19's real shapes down to a layer."""
    shapes, channels = {}, 3
    for block, depth in enumerate((2, 2, 4, 4, 4), 1):
        for i in range(1, depth + 1):
            if (block, i) <= depth_of(deepest):
                shapes[f"conv{block}_{i}.kernel"] = (3, 3, channels, CHANNELS[block])
                shapes[f"conv{block}_{i}.bias"] = (CHANNELS[block],)
            channels = CHANNELS[block]
    return shapes


@pytest.fixture
def fetched(vgg, tmp_path):
    """A small VGG19 in the store, as if it had been fetched."""
    return install("vgg19-imagenet", convert(vgg.save(tmp_path / "x.safetensors"), "vgg19", vgg.expected))


def test_auto_without_a_store_is_embedded_else_random():
    source = resolve("vgg19", weights="auto")
    assert source == resolve("vgg19", weights="embedded")
    assert (source.kind, source.deepest_layer, source.normalization) == ("embedded", "conv5_1", "caffe")
    assert source.sha256 == checkpoint("vgg19-caffe").sha256
    assert source.describe() == "vgg19-caffe (in the package, trained on ImageNet-1k)"
    assert source.advice() is None
    residual = resolve("resnet50", weights="auto")
    assert residual.architecture == {"version": "v1"}
    assert residual.sha256 == checkpoint("resnet50-caffe").sha256
    assert resolve("wide_resnet50_2", weights="auto") == resolve("wide_resnet50_2", weights="random")


def test_random_has_advice_where_there_is_better():
    source = resolve("resnet50", weights="random")
    assert source == Source("random", "random", "resnet50", note="not trained")
    assert source.describe() == "random (not trained)"
    assert source.advice() == "for weights trained on ImageNet: swag-jax weights fetch resnet50-imagenet"
    assert resolve("no_resnet50", weights="auto").advice() is None
    with pytest.raises(UserError, match="random weights are made by the network"):
        load(source, {"conv1.kernel": (7, 7, 3, 64)})


def test_auto_does_not_depend_on_what_was_fetched(fetched):
    assert fetched.is_file()
    assert resolve("vgg19", weights="auto").name == "vgg19-caffe"


def test_auto_takes_what_was_fetched_of_a_network_that_is_not_embedded(googlenet, tmp_path):
    path = googlenet.save(tmp_path / "x.safetensors")
    install("googlenet-imagenet", convert(path, "googlenet", googlenet.expected))
    assert resolve("googlenet").name == "googlenet-imagenet"


def test_what_was_fetched_by_both_its_names(fetched, vgg, tmp_path):
    source = resolve("vgg19", weights="imagenet")
    assert source == resolve("vgg19", weights="vgg19-imagenet")
    assert (source.kind, source.path, source.deepest_layer) == ("imagenet", fetched, "conv5_4")
    assert source.sha256 == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    assert source.describe() == "vgg19-imagenet (trained on ImageNet-1k)"
    assert source.advice() is None
    tensors = load(source, vgg.expected)
    np.testing.assert_array_equal(tensors["conv5_4.kernel"], vgg.ours("conv5_4.kernel"))


def test_imagenet_must_be_in_the_store():
    with pytest.raises(UserError, match=r"not in the local store: run `swag-jax weights fetch resnet50-imagenet`"):
        resolve("resnet50", weights="imagenet")
    with pytest.raises(UserError, match="resnet50-imagenet-v2 is not in the local store: run"):
        resolve("resnet50", weights="resnet50-imagenet-v2")
    with pytest.raises(UserError, match="no ImageNet checkpoint of no_resnet50 is known"):
        resolve("no_resnet50", weights="imagenet")


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_every_listed_name_is_accepted(entry):
    if entry.kind == "embedded":
        assert resolve(entry.backbone, weights=entry.name).name == entry.name
    else:
        cure = "get vgg_normalised" if entry.kind == "manual" else f"run `swag-jax weights fetch {entry.name}`"
        with pytest.raises(UserError, match=f"{entry.name} is not in the local store: {cure}"):
            resolve(entry.backbone, weights=entry.name)


def test_an_embedded_checkpoint_of_another_network():
    with pytest.raises(UserError, match="vgg19-caffe must be weights of resnet50, got weights of vgg19: pass --ba"):
        resolve("resnet50", weights="vgg19-caffe")


def test_embedded_must_exist():
    with pytest.raises(UserError, match="no checkpoint of wide_resnet50_2 comes with the package: pass --weights i"):
        resolve("wide_resnet50_2", weights="embedded")
    with pytest.raises(UserError, match="no checkpoint of pseudo_vgg comes with the package: pass --weights random o"):
        resolve("pseudo_vgg", weights="embedded")


def test_normalization_is_the_networks_own_unless_the_weights_ask_for_another(googlenet, tmp_path):
    assert resolve("googlenet", weights="random").normalization is None
    path = googlenet.save(tmp_path / "x.safetensors")
    assert resolve("googlenet", weights=str(path)).normalization == "inception"
    install("mine", convert(path, "googlenet", googlenet.expected))
    assert resolve("googlenet", weights="mine").normalization == "inception"


def test_a_stored_checkpoint_of_another_network(fetched):
    with pytest.raises(UserError, match="looks like a checkpoint of vgg19: pass --backbone vgg19"):
        resolve("resnet50", weights="vgg19-imagenet")


def test_a_path(vgg, tmp_path):
    path = vgg.save(tmp_path / "x.safetensors")
    source = resolve("vgg19", weights=str(path))
    assert (source.kind, source.path, source.deepest_layer) == ("file", path, "conv5_4")
    assert source.describe() == "x.safetensors (torchvision layout, input imagenet)"
    assert source.advice() is None
    upper = {name: shape for name, shape in vgg.expected.items() if depth_of(name) <= (2, 1)}
    assert sorted(load(source, upper)) == sorted(upper)


def test_the_embedded_file_by_its_path_is_recognized():
    source = resolve("vgg19", weights=str(weights_folder() / "vgg19-caffe.safetensors"))
    assert source.describe() == "vgg19-caffe.safetensors (the file of vgg19-caffe)"


def test_paths_and_names_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="unknown weights 'imagnet': did you mean imagenet"):
        resolve("vgg19", weights="imagnet")
    with pytest.raises(UserError, match="no file"):
        resolve("vgg19", weights=str(tmp_path / "x.pth"))
    with pytest.raises(UserError, match=r"cannot read .*: File name too long"):
        resolve("vgg19", weights=999 * "x" + ".pth")
    with pytest.raises(UserError, match="must be a file, got the directory"):
        resolve("vgg19", weights=str(tmp_path))


def test_a_torch_file_that_is_no_network():
    path = FILES / "plain_zip.pth"
    assert read_torch(path)
    with pytest.raises(UserError, match=r"must hold weights of vgg19 .* got keys such as float, double, half"):
        resolve("vgg19", weights=str(path))


def test_the_embedded_weights_load_to_any_depth_they_have():
    source = resolve("vgg19", weights="embedded")
    tensors = load(source, real_vgg19("conv5_1"))
    assert {name: value.shape for name, value in tensors.items()} == real_vgg19("conv5_1")
    assert all(value.dtype == np.float32 for value in tensors.values())
    assert sorted(load(source, real_vgg19("conv1_2"))) == sorted(real_vgg19("conv1_2"))


def test_deeper_than_the_weights_go():
    with pytest.raises(UserError, match=r"down to conv5_1, not to conv5_2: use shallower layers, or run `swag-jax"):
        load(resolve("vgg19", weights="embedded"), real_vgg19("conv5_2"))
