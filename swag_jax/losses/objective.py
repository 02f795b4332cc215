r"""The objective: weighted content, style and variation terms, with every term by name.

.. math:: L(x) = \alpha \sum_l v_l L^l_\text{content}(x) + \beta \sum_l w_l L^l_\text{style}(x) + \gamma L_\text{TV}(x)

Content and style terms compare smoothed features (SWAG eqs. 12 and 13; `swag_jax.smoothing`). If every style has a
region of the image, given by a mask, a layer's style loss is the mean over the styles, by their blend, of the losses of
the Gram matrices in their regions: the guided Gram matrices of Gatys et al., "Controlling Perceptual Factors in Neural
Style Transfer", CVPR 2017. What depends on the content and the style images alone is computed once, as `Targets`.
Everything is written for one image and is a pure function: `jax.vmap` over image and targets makes the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._checks import check_range, error
from swag_jax._pytree import pytree_dataclass
from swag_jax._settings import Settings, converted
from swag_jax._types import AnyFeatures, AnyImage, AnyMask, Features, Gram, Image, LayerFeatures, Masks, Scalar
from swag_jax.backbones import Backbone
from swag_jax.backbones.zoo import entry
from swag_jax.features import extract
from swag_jax.images._arrays import as_image
from swag_jax.losses import content, style
from swag_jax.losses.variation import total_variation
from swag_jax.smoothing import Smoothing, as_smoothing, find_temperature, smooth, unit
from swag_jax.statistics import gram

Normalization: TypeAlias = Literal["relative", "paper", "released"]

NORMALIZATIONS: tuple[Normalization, ...] = ("relative", "paper", "released")

_CONTENT = {"relative": content.relative, "paper": content.paper, "released": content.released}
_STYLE = {"relative": style.relative, "paper": style.paper, "released": style.released}

LARGEST_WEIGHT, LARGEST_LAYER_WEIGHT = 1e30, 1e8
"""Limits that keep every product of the two a float32; the largest published weight is 1e17."""

Terms: TypeAlias = dict[str, Scalar]
"""Weighted terms by name (`content/relu4_2`, `style/relu1_1`, ..., `variation`); they sum to the total."""


class Objective(Settings):
    """What is minimized.

    Attributes:
        content_layers: Layers of the content loss; empty: the backbone's default.
        style_layers: Layers of the style loss; empty: the backbone's default.
        content_layer_weights: One weight per content layer; empty: equal weights that sum to one.
        style_layer_weights: One weight per style layer; empty: equal weights that sum to one.
        content_weight: Weight of the content loss; 0 leaves it out (texture synthesis).
        style_weight: Weight of the style loss; 0 leaves it out (content reconstruction).
        tv_weight: Weight of the total variation; 0 leaves it out.
        normalization: `relative` (weights mean the same at every resolution, for every network and under every
            smoothing), `paper` (SWAG eqs. 3, 4, 12, 13) or `released` (SWAG's code).
        smoothing: What is done to the activations before they are compared, or its kind by name.
    """

    content_layers: tuple[str, ...] = ()
    style_layers: tuple[str, ...] = ()
    content_layer_weights: tuple[float, ...] = ()
    style_layer_weights: tuple[float, ...] = ()
    content_weight: float = 1.0
    style_weight: float = 5.0
    tv_weight: float = 0.0
    normalization: Normalization = "relative"
    smoothing: Smoothing = converted(default=Smoothing(), converter=as_smoothing)

    def __post_init__(self):
        super().__post_init__()
        for name in ("content_weight", "style_weight", "tv_weight"):
            check_range(getattr(self, name), what=name.replace("_", " "), low=0, high=LARGEST_WEIGHT)
        _check_weights(self.content_layer_weights, self.content_layers, "content")
        _check_weights(self.style_layer_weights, self.style_layers, "style")
        if not self.content_weight and not self.style_weight:
            raise error("the content or the style weight must be greater than 0", got="0 for both")

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that are read."""
        content = self.content_layers if self.content_weight else ()
        style = self.style_layers if self.style_weight else ()
        return tuple(dict.fromkeys((*content, *style)))

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms that `evaluate` returns, in its order."""
        content = tuple(f"content/{layer}" for layer in self.content_layers if self.content_weight)
        style = tuple(f"style/{layer}" for layer in self.style_layers if self.style_weight)
        return (*content, *style, *(("variation",) if self.tv_weight else ()))

    def for_backbone(self, name: str) -> "Objective":
        """Return the objective with the zoo's default layers of backbone `name` where none are given."""
        known = entry(name)
        return self.replace(
            content_layers=self.content_layers or (known.content_layer,),
            style_layers=self.style_layers or known.style_layers,
        )


@pytree_dataclass
@dataclass(frozen=True)
class Target:
    """What one layer is compared with."""

    value: Features | Gram | Float[Array, "styles channels channels"]  # smoothed: features, or Gram matrices
    temperature: Scalar  # of the softmax that both sides of the comparison use


@pytree_dataclass
@dataclass(frozen=True)
class Regions:
    """Where each style goes."""

    masks: Masks  # of the size that is optimized
    shares: Float[Array, " styles"]  # how much each region counts; they sum to 1


@pytree_dataclass
@dataclass(frozen=True)
class Targets:
    """Everything the objective needs of the content and the style images, by layer.

    Attributes:
        style: If there are regions, with a Gram matrix for each style.
        regions: Where each style goes; default: they are mixed everywhere.
    """

    content: dict[str, Target]
    style: dict[str, Target]
    regions: Regions | None = None


def content_targets(network: Backbone, image: Image, *, objective: Objective) -> dict[str, Target]:
    """Return the smoothed features of the content image, of the size that is optimized, by content layer."""
    if not objective.content_weight:
        return {}
    targets = {}
    for layer, features in extract(network, image, layers=objective.content_layers).items():
        smoothing = objective.smoothing.at(layer)
        temperature = find_temperature(features, smoothing)
        targets[layer] = Target(smooth(features, smoothing, temperature=temperature), temperature)
    return targets


def style_targets(
    network: Backbone,
    images: Sequence[AnyImage],
    *,
    objective: Objective,
    blend: Float[Array, " styles"],
    masks: Sequence[AnyMask | None] = (),
    apart: bool = False,
) -> dict[str, Target]:
    """Return the blended Gram matrix of the style images by style layer.

    Several styles are mixed as the weighted mean of their Gram matrices, all smoothed at one temperature per layer:
    the weighted geometric mean of the temperatures that each of them asks for.

    Args:
        images: Of any sizes.
        blend: A non-negative weight per style image; only their ratios matter.
        masks: How much each pixel of each style counts, of its image's size; `None`, or none at all: all of them alike.
        apart: Whether each style keeps its own Gram matrix, for a region of its own.
    """
    if not objective.style_weight:
        return {}
    weights, masks = blend / blend.sum(), masks or [None] * len(images)
    features = [extract(network, image, layers=objective.style_layers) for image in images]
    found = {}
    for layer in features[0]:
        smoothing, of_layer = objective.smoothing.at(layer), [f[layer] for f in features]
        temperature = jnp.exp(jnp.stack([jnp.log(find_temperature(f, smoothing)) for f in of_layer]) @ weights)
        smoothed = [smooth(f, smoothing, temperature=temperature) for f in of_layer]
        grams = jnp.stack([gram(f, mask=fitted_mask(mask, f)) for f, mask in zip(smoothed, masks, strict=True)])
        found[layer] = Target(grams if apart else jnp.tensordot(weights, grams, axes=1), temperature)
    return found


def fitted_mask(mask: AnyMask | None, features: AnyFeatures) -> AnyMask | None:
    """Return a mask, if there is one, at a layer's positions: the mean of what each covers."""
    return None if mask is None else jax.image.resize(mask, features.shape[:2], "linear")


def evaluate(network: Backbone, image: Image, targets: Targets, *, objective: Objective) -> tuple[Scalar, Terms]:
    """Return the total loss of an image in [0, 1] and its weighted terms by name, which sum to the total, all float32.

    Raises:
        UserError: If the array is no image by its shape and type; its values are taken as they are.
    """
    image = as_image(image, "evaluated", values=False)
    features = extract(network, image, layers=objective.layers)
    terms = _layer_terms("content", features, targets, objective)
    terms |= _layer_terms("style", features, targets, objective)
    if objective.tv_weight:
        terms["variation"] = objective.tv_weight * total_variation(image)
    return jnp.stack(list(terms.values())).sum(), terms


def _layer_terms(
    kind: Literal["content", "style"], features: LayerFeatures, targets: Targets, objective: Objective
) -> Terms:
    layers, weight = getattr(objective, f"{kind}_layers"), getattr(objective, f"{kind}_weight")
    shares = getattr(objective, f"{kind}_layer_weights") or tuple(1 / len(layers) for _ in layers)
    normalization, terms = objective.normalization, {}
    for layer, share in zip(layers, shares, strict=True) if weight else ():
        smoothing, target = objective.smoothing.at(layer), getattr(targets, kind)[layer]
        smoothed = smooth(features[layer], smoothing, temperature=target.temperature)
        # Published losses see a softmax that sums to one; relative ones do not depend on the unit.
        scale = 1.0 if normalization == "relative" else unit(smoothed, smoothing)
        if kind == "content":
            distance, scale = _CONTENT[normalization](smoothed, target.value), scale**2
        else:
            distance, scale = _style_distance(smoothed, target, targets, _STYLE[normalization]), scale**4
        terms[f"{kind}/{layer}"] = weight * share * scale * distance
    return terms


def _style_distance(
    smoothed: AnyFeatures, target: Target, targets: Targets, distance: Callable[[Gram, Gram], Scalar]
) -> Scalar:
    regions = targets.regions
    if regions is None:
        return distance(gram(smoothed), target.value)

    def of_region(mask: AnyMask, wanted: Gram) -> Scalar:
        return distance(gram(smoothed, mask=fitted_mask(mask, smoothed)), wanted)

    return jax.vmap(of_region)(regions.masks, target.value) @ regions.shares


def _check_weights(weights: tuple[float, ...], layers: tuple[str, ...], family: str) -> None:
    if weights and layers and len(weights) != len(layers):
        rule = f"there must be one {family} layer weight per {family} layer ({len(layers)})"
        raise error(rule, got=len(weights))
    for weight in weights:
        check_range(weight, what=f"a {family} layer weight", low=0, high=LARGEST_LAYER_WEIGHT)
