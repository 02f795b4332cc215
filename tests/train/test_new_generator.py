"""A fifth kind of generator is one file and one entry of `METHODS`: this file is one, from training to its images."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax import load_generator, repaint
from swag_jax._checks import UserError
from swag_jax._settings import Settings
from swag_jax.apply import ApplySettings, load_stylizer
from swag_jax.backbones.zoo import entry
from swag_jax.features import LayerSpec
from swag_jax.generators import METHODS, Generator, Method, Recipe, create
from swag_jax.generators._layers import VGG_TAPS, Conv
from swag_jax.generators.method import of_pairs
from swag_jax.params.tree import flat_parameters
from swag_jax.smoothing import Smoothing
from swag_jax.train import Cadence, journal, recipe, train_generator


@dataclass(frozen=True)
class ToyConfig:
    taps: tuple[LayerSpec, ...] = VGG_TAPS[:1]


class Toy(Generator):
    """Adds the style's mean activations to the content's, and turns the sum into colors."""

    needs_own = False

    def __init__(self, config, *, compute=None, rngs):
        super().__init__(config, compute=compute)
        self.output = Conv(config.taps[0].channels, 3, size=1, rngs=rngs)

    def read(self, style, *, key=None, region=None):
        return style[self.layers[0]].mean((1, 2))

    def transfer(self, content, kept, *, known=None):
        return (content[self.layers[0]] + kept[:, None, None],)

    def unstyled(self, content, own, *, known=None):
        return (content[self.layers[0]],)

    def decode(self, transferred, *, size):
        return self.output(transferred[0], self.compute).astype(jnp.float32)


class ToyObjective(Settings):
    layer: str = "relu1_1"
    smoothing: Smoothing = Smoothing()

    @property
    def layers(self):
        return (self.layer,)

    def for_backbone(self, name):
        return self.replace(layer=entry(name).style_layers[0])


def evaluate(output, content, style, *, objective, key):
    term = ((output[objective.layer].mean((0, 1)) - style[objective.layer].mean((0, 1))) ** 2).mean()
    return term, {f"style/{objective.layer}": term}


SMALL = {"weights": "random", "batch_size": 8, "size": 18, "crop": 16, "steps": 2, "precision": "float32"}

METHOD = Method(
    "toy",
    ToyConfig,
    Toy,
    ToyObjective,
    of_pairs(evaluate),
    recipes={"toy": Recipe(ToyConfig(), ToyObjective(), "this file", SMALL)},
    read_layers=lambda objective: objective.layers,
)


def test_a_new_generator_is_trained_saved_loaded_and_applied(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "toy", METHOD)
    run, cadence = tmp_path / "run", Cadence(log=1, save=2, sheet=2, shown=1)
    result = train_generator(recipe("toy"), folders / "contents", folders / "styles", run, cadence=cadence)
    assert (result.status, result.step) == ("done", 2)
    assert [line["step"] for line in journal.read_journal(run / "losses.jsonl")] == [1, 2]
    assert (run / "samples" / "step-0000002.png").exists()

    stylizer = load_stylizer(run)
    assert type(stylizer.generator) is Toy
    trained, loaded = flat_parameters(result.generator), flat_parameters(stylizer.generator)
    for name, array in flat_parameters(create(ToyConfig())).items():
        assert (loaded[name] == trained[name]).all()
        assert (loaded[name] != array).any()

    content, style = (np.full((16, 32, 3), shade, np.float32) for shade in (0.2, 0.7))
    whole, tiled = (repaint(stylizer, content, [style], settings=ApplySettings(tile=tile)) for tile in (0, 16))
    assert whole.shape == (16, 32, 3)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)

    monkeypatch.undo()
    with pytest.raises(UserError, match=r"must be a generator's \(johnson, adain, sanet, adaattn\), got ToyConfig"):
        create(ToyConfig())
    with pytest.raises(UserError, match=r"must be the checkpoint of a generator .* got one of toy"):
        load_generator(result.path)
