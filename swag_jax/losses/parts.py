r"""The objective of an image that is seen in parts, tile by tile, and its exact gradient.

Every term reads an image x through sums over positions. A part t adds its own, s_t, and the loss follows from all:

.. math:: L(x) = \ell\Big(\sum_t s_t(x)\Big), \qquad
    \nabla L = \sum_t \Big(\frac{\partial s_t}{\partial x}\Big)^T \nabla \ell

A layer's sums are of u, what its smoothing makes of the features F. A softmax over many positions has its sum below it,
which no part knows. There u = exp(F / T - r), with any r, and the softmax with a mean of one over N entries is
S = f u with f = N / sum(u); so

.. math:: G(S) = f^2 G(u), \qquad \|S - S_c\|^2 = f^2 \sum u^2 - 2 f \sum u S_c + \sum S_c^2

(for a softmax over each channel's positions, f is a vector). r is the greatest F / T that was seen: exponents are at
most zero, and sums of parts with different r are brought to the greater one (`together`).

A position belongs to the part whose pixels hold its first one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from swag_jax._numerics import widen
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyFeatures, Image, Scalar
from swag_jax.backbones import Backbone
from swag_jax.features import extract
from swag_jax.losses import style
from swag_jax.losses.objective import Objective, Target, Terms
from swag_jax.smoothing import Smoothing, smooth
from swag_jax.statistics import outer_products

Inner: TypeAlias = Int[Array, "2 2"]
"""First row and column of a part in its window, and those after its last: `(top, bottom), (left, right)`."""

PartMasks: TypeAlias = Mapping[str, Float[Array, "styles _ _"]]
"""How much each style counts at each position of a window, by layer."""

Sum: TypeAlias = Any
"""An array; of several parts together, float64 of the host."""

GLOBAL_AXES = {"softmax": (0, 1, 2), "spatial-softmax": (0, 1)}  # axes of the smoothings that sum over positions

_STYLE = {"relative": style.relative, "paper": style.paper, "released": style.released}


@pytree_dataclass
@dataclass(frozen=True)
class Sums:
    """What one term reads of a part; what it does not read is `None`.

    Attributes:
        peak: r, one number or one for each channel; 0 unless the smoothing sums over positions.
        total: Sum of u over what the softmax sums over, likewise.
        gram: Sum over positions of the outer products of u, `channels channels`; one for each region if there are any.
        squares: Sum of u^2, as `total`; `products`: of u S_c.
        distance: Sum of (S - S_c)^2, in units of `ContentPart.unit`, unless the smoothing sums over positions.
    """

    peak: Sum
    total: Sum
    gram: Sum = None
    squares: Sum = None
    products: Sum = None
    distance: Sum = None


AllSums: TypeAlias = dict[str, Any]
"""`Sums` by term; of `variation`, the sums of squared differences down and across."""


@pytree_dataclass
@dataclass(frozen=True)
class ContentPart:
    """What a content layer is compared with, but for the features themselves, which each part makes anew."""

    temperature: Scalar
    peak: Array  # of the content's sums
    factor: Array  # f: the smoothed features are S_c = f u
    squares: Array  # sum of S_c^2, if the smoothing sums over positions
    spread: Scalar  # the unit of relative losses, times `unit`^2
    unit: Scalar  # a power of two that keeps squares in float32's range


@pytree_dataclass
@dataclass(frozen=True)
class PartTargets:
    """What all parts of an image are compared with.

    Attributes:
        shares: How much each region counts, if there are any, and `weights`, the sum of its mask by layer.
    """

    content: dict[str, ContentPart]
    style: dict[str, Target]
    shares: Float[Array, " styles"] | None = None
    weights: dict[str, Float[Array, " styles"]] | None = None


def part_sums(
    network: Backbone,
    targets: PartTargets,
    image: Image,
    content: Image | None,
    inner: Inner,
    masks: PartMasks,
    *,
    objective: Objective,
    peaks: Mapping[str, Array] | None = None,
) -> AllSums:
    """Return the sums of one part by term.

    Args:
        image: The part's window of the image.
        content: That of the content image; `None` leaves out what is compared with it, the distances.
        masks: Of the window, by style layer, if there are regions.
        peaks: r by term; default: the part's own.
    """
    features = extract(network, image, layers=objective.layers)
    peaks, o = peaks or {}, objective
    found: AllSums = {}
    of_content = extract(network, content, layers=o.content_layers) if o.content_weight and content is not None else {}
    for layer in o.content_layers if o.content_weight else ():
        name, own = f"content/{layer}", own_positions(network, layer, features[layer], inner)
        smoothing, target = o.smoothing.at(layer), targets.content[layer]
        wanted = of_content.get(layer)
        found[name] = _content_sums(features[layer], wanted, own, target, smoothing, peaks.get(name))
    for layer in o.style_layers if o.style_weight else ():
        name, own = f"style/{layer}", own_positions(network, layer, features[layer], inner)
        smoothing, target = o.smoothing.at(layer), targets.style[layer]
        found[name] = style_sums(
            features[layer], own, target.temperature, smoothing, peak=peaks.get(name), masks=masks.get(layer)
        )
    if o.tv_weight:
        found["variation"] = _variation_sums(image, _inside(image.shape, 1, inner))
    return found


def style_sums(
    features: AnyFeatures,
    own: Bool[Array, "_ _"],
    temperature: Scalar,
    smoothing: Smoothing,
    *,
    peak: Array | None = None,
    masks: Float[Array, "styles _ _"] | None = None,
) -> Sums:
    """Return what the style loss of one layer reads of a part, whose positions are its `own`."""
    u, peak, total = unnormalized(features, own, temperature, smoothing, peak)
    if masks is None:
        return Sums(peak, total, gram=outer_products(u))
    return Sums(peak, total, gram=jax.vmap(lambda mask: outer_products(u * jnp.sqrt(mask)[..., None]))(masks))


def _content_sums(
    features: AnyFeatures,
    of_content: AnyFeatures | None,
    own: Bool[Array, "_ _"],
    target: ContentPart,
    smoothing: Smoothing,
    peak: Array | None,
) -> Sums:
    u, peak, total = unnormalized(features, own, target.temperature, smoothing, peak)
    if of_content is None:
        return Sums(peak, total, distance=jnp.zeros((), jnp.float32))
    wanted, _, _ = unnormalized(of_content, own, target.temperature, smoothing, target.peak)
    axes = GLOBAL_AXES.get(smoothing.kind)
    if axes is None:
        return Sums(peak, total, distance=((target.unit * (widen(u) - widen(wanted))) ** 2).sum())
    wanted = at_positions(target.factor) * wanted
    return Sums(peak, total, squares=(u * u).sum(axes), products=(u * wanted).sum(axes))


def unnormalized(
    features: AnyFeatures, own: Bool[Array, "_ _"], temperature: Scalar, smoothing: Smoothing, peak: Array | None
) -> tuple[AnyFeatures, Array, Array]:
    """Return u, zero at positions that are not the part's own, r, and the sum of u."""
    axes, own = GLOBAL_AXES.get(smoothing.kind), own[..., None]
    if axes is None:
        u = smooth(features, smoothing, temperature=temperature)
        none = jnp.zeros((), jnp.float32)
        return jnp.where(own, u, 0), none, none
    scaled = widen(features) / temperature
    if peak is None:
        peak = lax.stop_gradient(jnp.where(own, scaled, -jnp.inf).max(axes))
    u = jnp.exp(jnp.where(own, scaled - at_positions(peak), -jnp.inf))
    return u, peak, u.sum(axes)


def at_positions(values: Array) -> Array:
    """Return one number, or one for each channel, for products with `rows columns channels`."""
    return values[None, None] if jnp.ndim(values) else values


def own_positions(network: Backbone, layer: str, features: AnyFeatures, inner: Inner) -> Bool[Array, "_ _"]:
    """Tell which positions of a layer, in a window, are a part's own."""
    return _inside(features.shape, network.strides[network.layers.index(layer)], inner)


def _inside(shape: tuple[int, ...], stride: int, inner: Inner) -> Bool[Array, "_ _"]:
    first = [stride * jnp.arange(length, dtype=jnp.int32) for length in shape[:2]]
    rows, columns = ((inner[axis, 0] <= x) & (x < inner[axis, 1]) for axis, x in enumerate(first))
    return rows[:, None] & columns[None]


def _variation_sums(image: Image, own: Bool[Array, "_ _"]) -> Float[Array, " 2"]:
    down, across = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    down, across = jnp.where(own[:-1, :, None], down, 0), jnp.where(own[:, :-1, None], across, 0)
    return jnp.stack([(down**2).sum(), (across**2).sum()])


# --- Putting parts together


_POWERS = {"total": 1, "gram": 2, "squares": 2, "products": 1, "distance": 0}
"""By how many factors exp(r) each sum is too small."""


def together(a: AllSums, b: AllSums) -> AllSums:
    """Return the sums of two parts together, as float64 of the host."""
    return {name: _together(a[name], b[name]) if isinstance(a[name], Sums) else a[name] + b[name] for name in a}


def _together(a: Sums, b: Sums) -> Sums:
    peak = np.maximum(a.peak, b.peak)
    factors, merged = (_shrunk(a.peak, peak), _shrunk(b.peak, peak)), {}
    for name, power in _POWERS.items():
        values = getattr(a, name), getattr(b, name)
        if values[0] is not None:
            merged[name] = sum(_power(f, power, v) * v for f, v in zip(factors, values, strict=True))
    return Sums(peak, **merged)


def _shrunk(peak: Any, greatest: Any) -> Any:
    # A part without positions has no peak, and sums of zero.
    return np.exp(
        np.where(np.isfinite(peak), peak, -np.inf) - np.where(np.isfinite(greatest), greatest, 0.0), dtype=np.float64
    )


def _power(factor: Any, power: int, values: Any) -> Any:
    if power == 2 and np.ndim(factor) == 1 and np.ndim(values) >= 2:  # of each pair of channels
        return factor[:, None] * factor[None]
    return factor**power


def loss_of_sums(
    sums: AllSums, targets: PartTargets, shapes: Mapping[str, tuple[int, ...]], *, objective: Objective
) -> tuple[Scalar, Terms]:
    """Return what `evaluate` does, given the sums of the whole image.

    Args:
        shapes: Of the whole image's features by layer, and of the `image`.
    """
    o, terms = objective, Terms()
    for kind, layers in (("content", o.content_layers), ("style", o.style_layers)):
        weight, shares = getattr(o, f"{kind}_weight"), getattr(o, f"{kind}_layer_weights")
        for layer, share in zip(layers, shares or (1 / len(layers),) * len(layers), strict=True) if weight else ():
            found, smoothing, shape = sums[f"{kind}/{layer}"], o.smoothing.at(layer), shapes[layer]
            unit = (
                1.0 if o.normalization == "relative" or smoothing.axes is None else 1 / entries(shape, smoothing.axes)
            )
            if kind == "content":
                term = unit**2 * _content_loss(found, targets.content[layer], smoothing, shape, objective)
            else:
                term = unit**4 * _style_loss(found, targets, layer, shape, objective)
            terms[f"{kind}/{layer}"] = weight * share * term
    if o.tv_weight:
        height, width = shapes["image"][:2]
        down, across = sums["variation"]
        terms["variation"] = o.tv_weight * (down / ((height - 1) * width * 3) + across / (height * (width - 1) * 3))
    return jnp.stack(list(terms.values())).sum(), terms


def _factor(found: Sums, smoothing: Smoothing, shape: tuple[int, ...]) -> Any:
    axes = GLOBAL_AXES.get(smoothing.kind)
    return 1.0 if axes is None else entries(shape, axes) / found.total


def entries(shape: tuple[int, ...], axes: tuple[int, ...]) -> float:
    """Return how many entries features of a shape have along axes."""
    return float(math.prod(shape[axis] for axis in axes))


def _content_loss(
    found: Sums, target: ContentPart, smoothing: Smoothing, shape: tuple[int, ...], objective: Objective
) -> Scalar:
    f, distance = _factor(found, smoothing, shape), found.distance
    if distance is None:
        distance = (f**2 * found.squares - 2 * f * found.products).sum() + target.squares.sum()
    scale = {"relative": 1 / target.spread, "paper": 0.5, "released": 1 / float(math.prod(shape))}
    return distance * scale[objective.normalization]


def _style_loss(found: Sums, targets: PartTargets, layer: str, shape: tuple[int, ...], objective: Objective) -> Scalar:
    distance, target = _STYLE[objective.normalization], targets.style[layer].value
    weights = None if targets.weights is None else targets.weights[layer]
    gram = gram_of_sums(found, objective.smoothing.at(layer), shape, weights)
    return (
        distance(gram, target) if weights is None else jax.vmap(distance)(gram, target) @ cast("Array", targets.shares)
    )


def gram_of_sums(
    found: Sums, smoothing: Smoothing, shape: tuple[int, ...], weights: Float[Array, " styles"] | None
) -> Float[Array, "*styles channels channels"]:
    """Return the Gram matrix of smoothed features of a shape; one for each region, given the sums of their masks."""
    f = _factor(found, smoothing, shape)
    f = f[:, None] * f[None] if jnp.ndim(f) else f * f
    gram = jnp.broadcast_to(f, found.gram.shape) * found.gram
    if weights is None:
        return gram / float(shape[0] * shape[1])
    return gram * jnp.where(weights > 0, 1 / jnp.where(weights > 0, weights, 1.0), 0.0)[:, None, None]
