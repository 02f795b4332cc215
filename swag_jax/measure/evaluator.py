"""All metrics of one stylized image, and for comparison those of two trivial results.

A value means little alone: the unchanged content keeps all structure, and a copy of the style has all style. So each
metric is measured for three candidates: the output, the content, and the style.

All are compared at the output's size. The content is resized to its height and width; the style to its longer side,
keeping the aspect ratio, as when the image was made. If the copy of the style is compared with the content, position
by position, it is stretched to the output's height and width. All by Lanczos resampling (`swag_jax.images.resize`).
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from swag_jax._checks import check_name, error
from swag_jax._types import AnyFeatures, AnyHostImage, HostImage, Key, LayerFeatures, Scalar
from swag_jax.backbones import Backbone
from swag_jax.features import extract
from swag_jax.images import fitted, resize
from swag_jax.images._arrays import check_sides, host_image
from swag_jax.measure.identity import rms_difference
from swag_jax.measure.inception import fid_features
from swag_jax.measure.perceptual import LPIPS, lpips
from swag_jax.measure.structure import cfsd, content_distance, noise, ssim
from swag_jax.measure.style import color_distance, gram_distance, moment_distance, sliced_wasserstein

Candidate: TypeAlias = Literal["output", "content", "style"]

Values: TypeAlias = dict[str, dict[Candidate, float]]
"""The value of every candidate, by metric."""

CANDIDATES: tuple[Candidate, ...] = ("output", "content", "style")
"""The result, the unchanged content, and a copy of the style."""

CFSD_LAYER = "relu3_1"
"""Of VGG19: `"11": "conv3"` in evaluation/image_metrics.py of jiwoogit/StyleID is the ReLU after conv3_1."""


@dataclass(frozen=True)
class Metric:
    """Properties of a metric."""

    better: Literal["higher", "lower"]
    against: Literal["content", "style", "set"]  # what a candidate is compared with; `set`: all styles with all of them
    reads: tuple[str, ...] = ()  # attributes of `Evaluator` that it needs; none: the pixels


METRICS: Mapping[str, Metric] = {
    "ssim": Metric("higher", "content"),
    "lpips": Metric("lower", "content", ("lpips",)),
    "content": Metric("lower", "content", ("network",)),
    "cfsd": Metric("lower", "content", ("vgg19",)),
    "noise": Metric("lower", "content"),
    "identity": Metric("lower", "content"),
    "gram": Metric("lower", "style", ("network",)),
    "moments": Metric("lower", "style", ("network",)),
    "sliced-wasserstein": Metric("lower", "style", ("network",)),
    "color": Metric("lower", "style"),
    "fid": Metric("lower", "set", ("inception",)),
    "artfid": Metric("lower", "set", ("lpips", "inception")),
}
"""Every metric by name."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The measurements of one stylized image.

    Attributes:
        values: The value of each candidate by metric. `identity` is there only if the content is the style; `fid` and
            `artfid`, which are measured for sets, never.
        vectors: Features for FID: a row for the output, one for the content, one for each style; empty without FID.
    """

    values: Values
    vectors: dict[Candidate, Float[np.ndarray, "_ _"]]


STYLE_PIXELS = 2048**2
"""The most pixels of a style that is measured, unless the output has a quarter as many. Our choice."""


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Measures stylized images.

    Attributes:
        metrics: Names from `METRICS`.
        network: In which content and style are compared; not the one that made the images.
        content_layer: Its layer for `content`; empty: not read.
        style_layers: Its layers for `gram`, `moments` and `sliced-wasserstein`; empty: not read.
        vgg19: For `cfsd`.
        lpips: For `lpips` and `artfid`.
        inception: Inception v3 with FID's weights, for `fid` and `artfid`.
        key: Draws the directions of `sliced-wasserstein` and `color`, the same for all images.
    """

    metrics: tuple[str, ...]
    network: Backbone | None = None
    content_layer: str = ""
    style_layers: tuple[str, ...] = ()
    vgg19: Backbone | None = None
    lpips: LPIPS | None = None
    inception: Backbone | None = None
    key: Key = field(default_factory=lambda: jax.random.key(0))

    def __post_init__(self):
        for name in self.metrics:
            for needed in METRICS[check_name(name, METRICS, what="metric")].reads:
                if getattr(self, needed) is None:
                    raise error(f"the metric {name} needs the evaluator's {needed}", cure="load it, or leave it out")

    def compare(self, output: HostImage, content: AnyHostImage, styles: Sequence[AnyHostImage]) -> Comparison:
        """Measure one image in [0, 1]; with several styles, average over them. These and the content may have any size.

        Raises:
            UserError: If there are no styles, the image is too small for a network, or a metric has no finite value.
        """
        return self.compare_all([output], content, styles)[0]

    def compare_all(
        self, outputs: Sequence[HostImage], content: AnyHostImage, styles: Sequence[AnyHostImage]
    ) -> list[Comparison]:
        """Measure several images of one size, made from the same content and styles, as `compare` does."""
        if not styles:
            raise error("there must be at least one style image", got=0)
        outputs, content = [host_image(x, "output") for x in outputs], host_image(content, "content")
        styles = [host_image(style, "style") for style in styles]
        height, width = _common_size(outputs)
        unchanged = _View(self, resize(content, height, width))
        most = max(STYLE_PIXELS, 4 * height * width)
        paintings = [_View(self, resize(s, *self._fitted(s, max(height, width), most))) for s in styles]
        copies = [_View(self, resize(style, height, width)) for style in styles]
        # The trivial results are measured once for all outputs.
        trivial: list[_Candidates] = [
            {"content": (unchanged, unchanged), "style": of_style} for of_style in zip(copies, paintings, strict=True)
        ]
        known = self._mean_values(trivial, unchanged, paintings)
        vectors = self._vectors({"content": [unchanged], "style": paintings})
        # The identity test is defined only if the content is its own style.
        repeats = "identity" in self.metrics and all(np.array_equal(content, style) for style in styles)
        comparisons = []
        for output in outputs:
            made = _View(self, output)
            stylized: _Candidates = {"output": (made, made)}
            found = self._mean_values([stylized] * len(styles), unchanged, paintings)
            values: Values = {name: {**found[name], **known[name]} for name in found}
            if repeats:
                distance = float(_rms_difference(made.image, unchanged.image))
                values["identity"] = {"output": distance, "content": 0.0, "style": 0.0}
            comparisons.append(Comparison(_checked(values), {**self._vectors({"output": [made]}), **vectors}))
        return comparisons

    def _vectors(self, views: dict[Candidate, list["_View"]]) -> dict[Candidate, Float[np.ndarray, "_ _"]]:
        # For FID: a row for each image.
        if self.inception is None:
            return {}
        return {c: np.stack([_fid_features(self.inception, v.image) for v in found]) for c, found in views.items()}

    def _mean_values(self, candidates: Sequence["_Candidates"], unchanged: "_View", paintings: list["_View"]) -> Values:
        values: Values = {}
        for name in filter(_FORMULAS.__contains__, self.metrics):
            # Each style is measured on its own, then values are averaged.
            found: dict[Candidate, list[float]] = {}
            for of_style, painting in zip(candidates, paintings, strict=True):
                side, wanted = (0, unchanged) if METRICS[name].against == "content" else (1, painting)
                for candidate, views in of_style.items():
                    found.setdefault(candidate, []).append(float(_FORMULAS[name](self, views[side], wanted)))
            values[name] = {candidate: float(np.mean(each)) for candidate, each in found.items()}
        return values

    def _fitted(self, style: AnyHostImage, size: int, most: int) -> tuple[int, int]:
        # Large enough for the networks, but not huge.
        height, width = style.shape[:2]
        # A style as long as a very long image could have more pixels than memory holds.
        size = min(size, math.isqrt(most * max(height, width) // min(height, width)))
        smallest = max((network.minimum_size(layers) for network, layers in self._reads.values()), default=1)
        return fitted(height, width, max(size, math.ceil(smallest * max(height, width) / min(height, width))))

    @functools.cached_property
    def _reads(self) -> dict[str, tuple[Backbone, tuple[str, ...]]]:
        reads: dict[str, tuple[Backbone, tuple[str, ...]]] = {}
        if self.network is not None:
            layers = filter(None, (self.content_layer, *self.style_layers))
            reads["network"] = self.network, tuple(dict.fromkeys(layers))
        if self.vgg19 is not None:
            reads["vgg19"] = self.vgg19, (CFSD_LAYER,)
        if self.lpips is not None:
            reads["lpips"] = self.lpips.trunk, tuple(self.lpips.weights)
        return reads


class _View:
    """An image with its features in the evaluator's networks, each computed when first needed."""

    def __init__(self, evaluator: Evaluator, image: HostImage):
        self.image, self._evaluator = jnp.asarray(image), evaluator
        self._seen: dict[str, LayerFeatures] = {}

    def __getitem__(self, name: str) -> LayerFeatures:
        if name not in self._seen:
            network, layers = self._evaluator._reads[name]
            cure = "measure larger images, or shallower layers"
            check_sides(self.image, network.minimum_size(layers), network.deepest(layers), cure=cure)
            self._seen[name] = _extract(network, self.image, layers=layers)
        return self._seen[name]

    @property
    def content(self) -> AnyFeatures:
        return self["network"][self._evaluator.content_layer]

    @property
    def style(self) -> LayerFeatures:
        return {layer: self["network"][layer] for layer in self._evaluator.style_layers}


_Candidates: TypeAlias = Mapping[Candidate, tuple[_View, _View]]
"""Each candidate's view for comparison with the content, and with the style."""


def _common_size(outputs: Sequence[HostImage]) -> tuple[int, int]:
    sizes = dict.fromkeys(output.shape[:2] for output in outputs)
    if len(sizes) != 1:
        found = ", ".join(f"{height} x {width}" for height, width in sizes) or "none"
        raise error("images that are measured together must have one size", got=found)
    return next(iter(sizes))


_extract, _fid_features = jax.jit(extract, static_argnames="layers"), jax.jit(fid_features)
_ssim, _noise, _content, _cfsd = map(jax.jit, (ssim, noise, content_distance, cfsd))
_rms_difference, _lpips = map(jax.jit, (rms_difference, lpips))
_gram, _moments, _sliced, _color = map(jax.jit, (gram_distance, moment_distance, sliced_wasserstein, color_distance))

_FORMULAS: Mapping[str, Callable[[Evaluator, _View, _View], Scalar]] = {
    "ssim": lambda evaluator, x, y: _ssim(x.image, y.image),
    "lpips": lambda evaluator, x, y: _lpips(x["lpips"], y["lpips"], evaluator.lpips.weights),  # pyright: ignore[reportOptionalMemberAccess]
    "content": lambda evaluator, x, y: _content(x.content, y.content),
    "cfsd": lambda evaluator, x, y: _cfsd(x["vgg19"][CFSD_LAYER], y["vgg19"][CFSD_LAYER]),
    "noise": lambda evaluator, x, y: _noise(x.image, y.image),
    "gram": lambda evaluator, x, y: _gram(x.style, y.style),
    "moments": lambda evaluator, x, y: _moments(x.style, y.style),
    "sliced-wasserstein": lambda evaluator, x, y: _sliced(evaluator.key, x.style, y.style),
    "color": lambda evaluator, x, y: _color(evaluator.key, x.image, y.image),
}
"""Metrics of a single image: a function of a candidate and the image it is compared with."""


def _checked(values: Values) -> Values:
    for name, found in values.items():
        if not all(map(math.isfinite, found.values())):
            raise error(f"{name} must be finite", got=found, cure="is one of the images black?")
    return values
