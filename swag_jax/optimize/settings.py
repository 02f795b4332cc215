"""Settings of a stylization; presets are values of `StylizeSettings`, flags and their help are its attributes."""

from dataclasses import field
from typing import Any, Literal, TypeAlias

import numpy as np

from swag_jax._checks import check_name, check_range, error
from swag_jax._settings import Settings, converted
from swag_jax.backbones import Precision
from swag_jax.backbones.vgg import PADDINGS, POOLINGS
from swag_jax.losses import Objective
from swag_jax.optimize.lbfgs import LBFGS
from swag_jax.optimize.solvers import Adam, Solver

SolverName: TypeAlias = Literal["lbfgs", "adam"]
Colors: TypeAlias = Literal["style", "luminance", "match"]
Init: TypeAlias = Literal["content", "statistics", "noise"]

SOLVERS: tuple[SolverName, ...] = ("lbfgs", "adam")
COLORS: tuple[Colors, ...] = ("style", "luminance", "match")
INITS: tuple[Init, ...] = ("content", "statistics", "noise")


def _as_tuple(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float | np.number) else value


class StylizeSettings(Settings):
    """How an image is stylized.

    Attributes:
        backbone: The network whose activations define content and style.
        weights: auto (the package's own; for a network without, torchvision's if fetched, else random), imagenet
            (torchvision's), embedded, random, a name that `swag-jax weights list` shows, or the path of a checkpoint.
        pooling: A VGG's: auto (average), average (times 2, which keeps the scale; smoother images) or max (as trained).
        padding: A VGG's: auto (as the weights were trained), zeros, replicate (first convolution) or reflect
            (everywhere).
        objective: Layers, weights, normalization and smoothing of the losses.
        size: Longer side of the result in pixels.
        smallest_size: Longer side of the coarsest scale in pixels; equal to size, there is one scale only.
        scale_ratio: Growth of the size from one scale to the next.
        steps: Steps in all, each one evaluation of loss and gradient; shared equally among the scales.
        solver: lbfgs or adam.
        learning_rate: Adam's step size, in units of the image's range.
        averaging: Decay of the running mean of Adam's images that becomes the result; 0 returns the last image.
        memory: Pairs of differences that L-BFGS keeps.
        spectral_decay: Basis of L-BFGS: 0 pixels; 1 frequencies weighted like those of natural images, so that large
            strokes come before fine noise; or between.
        init: Where to start: content, statistics (noise with the mean and deviation of the style's colors) or noise.
        style_scale: Longer side of the style image as a multiple of size: larger gives larger strokes. One for all, or
            one for each style.
        blend: Weight of each style image; empty: equal weights.
        colors: Whose colors the result has: style; luminance (the content's chroma under the result's luminance); or
            match (the style is first recolored to the content's mean and covariance).
        seed: Seed of random weights and of noise.
        precision: float32 (full), tf32 (PyTorch's default) or bfloat16 (network only; losses and image stay float32).

    Example:
        >>> settings = StylizeSettings()
        >>> settings.replace(size=256, objective=settings.objective.replace(smoothing="softmax")).size
        256
    """

    backbone: str = "vgg19"
    weights: str = "auto"
    pooling: str = "auto"
    padding: str = "auto"
    objective: Objective = field(default_factory=lambda: Objective(style_weight=60.0, tv_weight=5.0))
    size: int = 512
    smallest_size: int = 256
    scale_ratio: float = 2.0
    steps: int = 200
    solver: SolverName = "lbfgs"
    learning_rate: float = 0.02
    averaging: float = 0.0
    memory: int = 20
    spectral_decay: float = 0.75
    init: str = "content"
    style_scale: tuple[float, ...] = converted(default=(1.0,), converter=_as_tuple)
    blend: tuple[float, ...] = ()
    colors: Colors = "style"
    seed: int = 0
    precision: Precision = "tf32"

    def __post_init__(self):
        super().__post_init__()
        check_name(self.pooling, ("auto", *POOLINGS), what="pooling")
        check_name(self.padding, ("auto", *PADDINGS), what="padding")
        check_name(self.init, INITS, what="init")
        for name in ("size", "smallest_size", "steps"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=1)
        check_range(self.seed, what="seed", low=0, high=2**32 - 1)
        check_range(self.scale_ratio, what="scale ratio", low=1.1)
        for scale in self.style_scale:
            check_range(scale, what="style scale", low=0.05, high=20)
        if not self.style_scale:
            raise error("there must be at least one style scale", got="none")
        for weight in self.blend:
            check_range(weight, what="a blend weight", low=0)
        if self.blend and not sum(self.blend):
            raise error("at least one blend weight must be greater than 0", got=self.blend)
        _ = self.method, self.full_objective

    @property
    def method(self) -> Solver:
        """The solver as a value."""
        if self.solver == "adam":
            return Adam(learning_rate=self.learning_rate, averaging=self.averaging)
        return LBFGS(memory=self.memory, spectral_decay=self.spectral_decay)

    @property
    def full_objective(self) -> Objective:
        """The objective with the backbone's default layers where none are given."""
        return self.objective.for_backbone(self.backbone)
