"""TrainSettings say what is trained, and refuse what cannot be."""

import pytest
from flax import nnx

from swag_jax import backbones, generators, losses
from swag_jax._checks import UserError
from swag_jax.features import LayerSpec
from swag_jax.generators import METHODS, AdaAttNObjective, AdaINObjective
from swag_jax.train import TrainSettings, recipe
from swag_jax.train.state import learning_rate

RECIPES = {name: kind for kind, method in METHODS.items() for name in method.recipes}

johnson, adain, sanet, adaattn = map(recipe, METHODS)


def shape_of(name, until):
    """A network without its numbers."""
    return nnx.eval_shape(lambda: backbones.create(name, until=until))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_read_what_they_are_trained_by(name):
    found = recipe(name)
    assert found.kind == RECIPES[name]
    assert found.fitted_config(shape_of("vgg19", "relu5_1")) == found.config
    assert METHODS[found.kind].recipes[name].source


def test_published_numbers():
    """papers.md, II.6, III.1 and III.2; pytorch/examples, fast_neural_style."""
    common = ("steps", "batch_size", "size", "crop", "learning_rate", "decay")
    assert [getattr(adain, name) for name in common] == [160_000, 8, 512, 256, 1e-4, 5e-5]
    assert [getattr(sanet, name) for name in common] == [160_000, 5, 512, 256, 1e-4, 5e-5]
    assert [getattr(adaattn, name) for name in common] == [51_739, 8, 512, 256, 2e-4, 0]
    assert [getattr(johnson, name) for name in common] == [41_391, 4, 256, 256, 1e-3, 0]
    assert (adaattn.flip, adain.flip) == (True, False)


def test_step_sizes():
    rate = learning_rate(adain)
    assert float(rate(0)) == pytest.approx(1e-4)
    assert float(rate(20_000)) == pytest.approx(5e-5)
    # lr * 0.3^max(0, epoch + 1 - 2), five epochs
    rate, epoch = learning_rate(adaattn), adaattn.steps / 5
    found = [float(rate(int((e + 0.5) * epoch))) for e in range(5)]
    assert found == pytest.approx([2e-4, 2e-4, 6e-5, 1.8e-5, 5.4e-6])


def test_another_encoder_has_its_own_layers():
    changed = adain.for_encoder("resnet50")
    changed = changed.replace(objective=changed.objective.replace(smoothing="softmax", normalization="relative"))
    assert changed.read_layers == ("conv4_6",)
    assert changed.objective.style_layers == ("conv1", "conv2_3", "conv3_4", "conv4_6")
    assert changed.objective.smoothing.kind == "softmax"
    assert changed.fitted_config(shape_of("resnet50", "conv4_6")).taps == (LayerSpec("conv4_6", 1024, 16),)
    assert johnson.for_encoder("resnet50").objective.content_layers == ("conv4_6",)
    chosen = adaattn.for_encoder("resnet50")
    chosen = chosen.replace(objective=chosen.objective.replace(local_layers=("conv3_4",)))
    assert chosen.objective.local_layers == ("conv3_4",)
    assert chosen.read_layers == ("conv1", "conv2_3", "conv3_4", "conv4_6", "conv5_3")


def test_loss_and_generator_attend_alike():
    objective = AdaAttNObjective(similarity="cosine", shallow=False)
    changed = adaattn.replace(objective=objective, config=generators.AdaAttNConfig(skip_samples=64))
    config = changed.fitted_config(shape_of("vgg19", "relu5_1"))
    assert (config.similarity, config.shallow, config.skip_samples) == ("cosine", False, 64)


def test_kinds_have_objectives_of_their_own():
    with pytest.raises(UserError, match="the objective of adain must be AdaINObjective, got AdaAttNObjective"):
        TrainSettings(generators.AdaINConfig(), AdaAttNObjective())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"crop": 600}, "size must be at least 600, got 512"),
        ({"learning_rate": 0.0}, "learning rate must be greater than 0"),
        ({"drops": (1.5,)}, "a share of drops must be at least 0 and at most 1"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"style_wieght": 1.0}, "unknown setting 'style_wieght': did you mean style_weight"),
        ({"style_weight": 1.0}, r"pass objective=settings.objective.replace\(style_weight=...\)"),
        ({"steps": 10.5}, "steps must be an integer, got 10.5"),
        ({"flip": 1}, "flip must be True or False, got 1"),
        ({"drops": 0.5}, "drops must be a tuple of numbers, got 0.5"),
        ({"config": None}, "config must be Config, got None"),
        ({"encoder": "vgg99"}, "unknown backbone 'vgg99'"),
        ({"padding": "mirror"}, "unknown padding 'mirror'"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(UserError, match=message):
        adain.replace(**changes)


def test_only_decoders_keep_the_scale():
    with pytest.raises(UserError, match=r"kaiming is for generators with a decoder, got johnson: leave it out"):
        johnson.replace(init="kaiming")


def test_unknown_recipes():
    with pytest.raises(UserError, match="unknown recipe 'adam': did you mean adain"):
        recipe("adam")


def test_objectives_keep_what_is_set():
    settings = TrainSettings(generators.AdaINConfig(), AdaINObjective(style_weight=2.0))
    assert settings.for_encoder("vgg16").objective.style_weight == 2.0
    assert hash(settings.replace(drops=[0.5, 1])) == hash(settings.replace(drops=(0.5, 1.0)))
    assert isinstance(johnson.objective, losses.Objective)
