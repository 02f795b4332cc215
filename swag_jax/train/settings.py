"""Settings of a training, from which the flags of `swag-jax train` come."""

import dataclasses

from swag_jax import features, losses
from swag_jax._checks import check_name, check_range, error
from swag_jax._settings import Settings
from swag_jax.backbones import NAMES, Backbone, Precision
from swag_jax.backbones.vgg import PADDINGS
from swag_jax.generators import METHODS, AdaINConfig, AdaINObjective, Method
from swag_jax.generators.method import Config, TrainObjective
from swag_jax.generators.registry import method_of

DRAWN = ("random", "kaiming")
"""Starts of a generator that need no checkpoint."""


class TrainSettings(Settings):
    """How a generator is trained; without arguments, an AdaIN generator.

    Attributes:
        config: What the generator is made of; the layers that it reads follow from the objective and the encoder.
        objective: Layers, weights, normalization and smoothing of the losses.
        encoder: The frozen network whose activations the generator and the losses read.
        weights: The encoder's: auto (ImageNet if it is in the local store, else the embedded ones, else random),
            imagenet, embedded, random, or the path of a checkpoint.
        padding: A VGG encoder's: auto (as the weights were trained), zeros, replicate (first convolution) or reflect
            (all, as in AdaIN's encoder: zeros mark the border in deep layers, and a generator learns to paint frames).
        init: Where the generator's parameters start: random (as its authors' code draws them), kaiming (our choice:
            likewise, but a decoder whose layers keep the scale), or such a generator: the path of its checkpoint, or
            its name if it comes with the package.
        steps: Steps in all.
        warmup: The first of these, in which the generator learns to give every image back in its own style, by the
            difference of pixels (our choice): a third of a step's cost, and losses are balanced from the start.
        batch_size: Contents, and as many styles, of one step on all devices together.
        size: Shorter side in pixels that images are resized to before they are cropped.
        crop: Side in pixels of the square that is cropped at random.
        squash: Whether images are resized to a square, without keeping their aspect ratio.
        flip: Whether every second image, at random, is mirrored.
        style_size: Longer side in pixels of the one style image of a Johnson generator.
        learning_rate: Adam's step size at the start.
        decay: The step size at step t is divided by 1 + decay t.
        drops: Shares of all steps after which the step size is multiplied by drop.
        drop: The factor of each drop.
        precision: float32 (full), tf32 (PyTorch's default) or bfloat16 (encoder and generator; the rest stays float32).
        seed: Of initial parameters, the order and crops of images, sampled positions, and random encoders.
    """

    config: Config = AdaINConfig()
    objective: TrainObjective = AdaINObjective()
    encoder: str = "vgg19"
    weights: str = "auto"
    padding: str = "auto"
    init: str = "random"
    steps: int = 160_000
    warmup: int = 0
    batch_size: int = 8
    size: int = 512
    crop: int = 256
    squash: bool = False
    flip: bool = False
    style_size: int = 512
    learning_rate: float = 1e-4
    decay: float = 0.0
    drops: tuple[float, ...] = ()
    drop: float = 0.3
    precision: Precision = "tf32"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        wanted = self.method.objective
        if type(self.objective) is not wanted:
            raise error(f"the objective of {self.kind} must be {wanted.__name__}", got=type(self.objective).__name__)
        check_name(self.encoder, NAMES, what="backbone")
        check_name(self.padding, ("auto", *PADDINGS), what="padding")
        if self.init == "kaiming" and not self.method.network.reads_styles:
            cure = "leave it out: its layers are normalized"
            raise error("kaiming is for generators with a decoder", got=self.kind, cure=cure)
        for name in ("steps", "batch_size"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=1)
        check_range(self.warmup, what="warmup", low=0, high=self.steps)
        for name in ("crop", "style_size"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=16)
        check_range(self.size, what="size", low=self.crop)
        check_range(self.learning_rate, what="learning rate", low=0, open_low=True)
        check_range(self.decay, what="decay", low=0)
        check_range(self.drop, what="drop", low=0, high=1, open_low=True)
        for share in self.drops:
            check_range(share, what="a share of drops", low=0, high=1)
        check_range(self.seed, what="seed", low=0, high=2**32 - 1)

    @property
    def method(self) -> Method:
        """What is particular to this kind of generator."""
        return method_of(self.config)

    @property
    def kind(self) -> str:
        """The kind of generator, one of `swag_jax.generators.METHODS`."""
        return self.method.name

    @property
    def read_layers(self) -> tuple[str, ...]:
        """The layers that the generator reads, shallow to deep; none if it reads images."""
        return self.method.read_layers(self.objective)

    def fitted_config(self, encoder: Backbone) -> Config:
        """Return what the generator is made of, for the layers of the encoder that it will read."""
        layers, config = self.read_layers, self.config
        if layers:
            config = dataclasses.replace(config, taps=features.taps(encoder, layers=layers))
        return self.method.fit(config, self.objective)

    def for_encoder(self, name: str) -> "TrainSettings":
        """Return the settings with another encoder of the zoo, and the objective at that encoder's default layers.

        Example:
            >>> TrainSettings().for_encoder("resnet50").read_layers
            ('conv4_6',)
        """
        objective = self.objective
        if isinstance(objective, losses.Objective):
            objective = objective.replace(
                content_layers=(), style_layers=(), content_layer_weights=(), style_layer_weights=()
            )
        return self.replace(encoder=name, objective=objective.for_backbone(name))


def recipe(name: str) -> TrainSettings:
    """Return the settings of a recipe of `swag_jax.generators.METHODS`.

    Args:
        name: Of a kind of generator, for its default, or of another recipe.
    """
    found = {name: made for method in METHODS.values() for name, made in method.recipes.items()}
    made = found[check_name(name, found, what="recipe")]
    return TrainSettings(made.config, made.objective, **made.options)
