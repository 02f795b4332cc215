"""A generator's checkpoint names its encoder, which is loaded or asked for."""

import jax
import numpy as np
import pytest

from swag_jax import backbones, generators, params
from swag_jax._checks import UserError
from swag_jax.apply import load_stylizer
from swag_jax.features import LayerSpec
from swag_jax.generators.checkpoint import encoder_notes
from swag_jax.generators.registry import parameter_shapes, with_parameters


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Write a small generator that reads VGG19's first layer, with notes."""
    monkeypatch.setenv("SWAG_JAX_HOME", str(tmp_path / "home"))

    def write(config=None, *, name="g.safetensors", source=None, seed=0, **notes):
        config = config or generators.AdaINConfig((LayerSpec("relu1_1", 64, 1),))
        arrays = {n: np.zeros(shape, np.float32) for n, shape in parameter_shapes(config).items()}
        known = {} if source is None else encoder_notes(params.resolve("vgg19", weights=source), seed=seed)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        generators.save_generator(path, with_parameters(config, arrays), notes={**known, **notes})
        return path

    return write


def kernel(stylizer):
    """The first kernel, which the frozen encoder holds among what it has prepared."""
    return np.asarray(jax.tree.leaves(stylizer.encoder.conv1_1.kernel)[0])


def test_an_encoder_has_the_padding_that_it_was_trained_with(saved):
    assert load_stylizer(saved(source="random", encoder_padding="reflect")).encoder.padding == "reflect"
    assert load_stylizer(saved(source="random")).encoder.padding == "zeros"


def test_embedded_and_random_encoders_are_found_again(saved):
    network, _ = backbones.load("vgg19", weights="embedded", layers=("relu1_1",))
    np.testing.assert_array_equal(kernel(load_stylizer(saved(source="embedded"))), network.conv1_1.kernel[...])
    means, _ = backbones.load("vgg19", weights="vgg19-caffe-unit-mean", layers=("relu1_1",))
    found = kernel(load_stylizer(saved(source="vgg19-caffe-unit-mean")))
    np.testing.assert_array_equal(found, means.conv1_1.kernel[...])
    assert not np.array_equal(found, network.conv1_1.kernel[...])
    three = [kernel(load_stylizer(saved(source="random", seed=seed))) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(*three[:2])
    assert not np.array_equal(*three[1:])


def test_a_runs_folder_is_a_checkpoint(saved):
    path = saved(name="run/generator.safetensors", source="random")
    assert load_stylizer(path.parent).generator.layers == ("relu1_1",)


def test_an_encoder_that_is_not_here_is_asked_for(saved):
    notes = {"encoder": "vgg19-imagenet", "encoder_backbone": "vgg19", "encoder_kind": "imagenet"}
    with pytest.raises(UserError, match="got no vgg19-imagenet in the local store: run `swag-jax weights fetch vgg19"):
        load_stylizer(saved(**notes))
    notes |= {"encoder": "vgg19-normalized-adain", "encoder_kind": "file"}
    with pytest.raises(UserError, match="run `swag-jax weights convert FILE --backbone vgg19`, or pass --weights FILE"):
        load_stylizer(saved(**notes))
    notes |= {"encoder": "vgg19-tiny-imagenet", "encoder_kind": "embedded"}  # of release 0.1.0
    with pytest.raises(UserError, match="got no vgg19-tiny-imagenet in the local store: run"):
        load_stylizer(saved(**notes))
    assert load_stylizer(saved(**notes), weights="random").stride == 1
    with pytest.raises(UserError, match="must say which encoder it was trained with: pass its backbone"):
        load_stylizer(saved())
    assert load_stylizer(saved(), backbone="vgg19", weights="random").reads_styles


@pytest.mark.parametrize("seed", ["abc", "1.5", "9" * 30, "0x1", " 1", "\u0663", "[" * 9999])
def test_a_seed_that_is_no_number_is_refused(seed, saved):
    with pytest.raises(UserError, match="must say its encoder's seed as a number"):
        load_stylizer(saved(source="random", encoder_seed=seed))


def test_an_encoder_of_another_hash_is_refused(saved):
    path = saved(source="embedded", encoder_sha256="0" * 64)
    with pytest.raises(UserError, match="was trained with vgg19-caffe of sha256 0000"):
        load_stylizer(path)
    assert load_stylizer(path, weights="embedded").encoder is not None


def test_an_encoder_of_other_layers_is_refused(saved):
    with pytest.raises(UserError, match="unknown layer 'relu1_1'"):
        load_stylizer(saved(source="random"), backbone="resnet50", weights="random")
    narrow = saved(generators.AdaINConfig((LayerSpec("relu1_1", 32, 1),)), source="random")
    with pytest.raises(
        UserError, match=r"must have the layers that the generator reads, relu1_1 \(32 channels, .*got relu1_1 \(64"
    ):
        load_stylizer(narrow)


def test_johnsons_network_reads_no_encoder(saved):
    stylizer = load_stylizer(saved(generators.JohnsonConfig(channels=2, blocks=1)))
    assert (stylizer.encoder, stylizer.reads_styles, stylizer.stride) == (None, False, 4)


def test_the_similarity_can_be_another(saved):
    config = generators.AdaAttNConfig((LayerSpec("relu1_1", 64, 1),), fused=False, skip=False)
    found = load_stylizer(saved(config, source="random"), similarity="cosine").generator
    assert (config.similarity, found.config.similarity) == ("softmax", "cosine")
    with pytest.raises(UserError, match=r"only an AdaAttN generator compares positions .*got one of kind adain"):
        load_stylizer(saved(source="random"), similarity="cosine")
