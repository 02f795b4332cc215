r"""What content and style images ask for, found in parts: temperatures, sums and spreads of a whole image.

One pass over all parts finds what the next one needs: the extent of the features; if a temperature is `auto`, the
divergence of the softmax at one temperature after the other; then the sums at the one found.

A function of a part takes network, arguments, windows, inner and masks; its counterpart puts the results of all parts
together on the host, in float64.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from swag_jax._numerics import power_of_two, widen
from swag_jax._types import AnyFeatures, Image
from swag_jax.backbones import Backbone
from swag_jax.features import extract
from swag_jax.losses.parts import (
    GLOBAL_AXES,
    ContentPart,
    Inner,
    Sums,
    at_positions,
    entries,
    own_positions,
    together,
    unnormalized,
)
from swag_jax.smoothing import SEARCH_START, SEARCH_STEPS, Smoothing, newton_step

Pass: TypeAlias = Callable[[Callable[..., Any], Any], Iterable[Any]]
"""Given a function of a part, and the arguments, returns its results of all parts as host arrays."""

Smoothings: TypeAlias = Mapping[str, Smoothing]
"""By layer."""

_PRECISE = 1e-6
"""Relative change of a temperature that ends its search: that of float32 sums."""


@dataclass(frozen=True)
class Extent:
    """The range of a layer's features over the whole image.

    Attributes:
        peak: The greatest entry: of each channel, if that is what the softmax sums over.
        largest: Of all magnitudes.
        squares: Sum of squared differences from the mean.
    """

    count: float
    peak: Any
    largest: float
    mean: float
    squares: float

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.squares / self.count)

    def spread(self) -> tuple[float, float]:
        """Return the unit of relative losses, `_distance.spread`, in units of the second: a power of two."""
        unit = float(power_of_two(jnp.float32(self.largest)))
        raw = self.squares + self.count * self.mean**2
        floor = 1e-6 * raw * unit**2 + float(jnp.finfo(jnp.float32).tiny)
        return max(self.squares * unit**2, floor), unit


def find_extents(run: Pass, smoothings: Smoothings) -> dict[str, Extent]:
    """Return the extent of each layer."""
    parts = run(functools.partial(_extents, smoothings=tuple(smoothings.items())), ())
    return functools.reduce(lambda a, b: {layer: _joined(a[layer], b[layer]) for layer in a}, map(_as_extents, parts))


def _extents(network, _, windows, inner, masks, *, smoothings) -> dict[str, Any]:
    found = {}
    for layer, smoothing, features, own in _features(network, windows, inner, smoothings):
        unit = power_of_two(features)  # keeps squares in float32's range
        x = jnp.where(own, unit * features, 0)
        count = own.sum(dtype=jnp.float32) * x.shape[-1]
        mean = x.sum() / jnp.maximum(count, 1)
        squares = jnp.where(own, (x - mean) ** 2, 0).sum()
        peak = jnp.where(own, features, -jnp.inf).max(GLOBAL_AXES.get(smoothing.kind))
        found[layer] = (count, peak, jnp.abs(x).max(), mean, squares, unit)
    return found


def _as_extents(part: Mapping[str, Any]) -> dict[str, Extent]:
    found = {}
    for layer, values in part.items():
        count, peak, largest, mean, squares, unit = (np.asarray(value, np.float64) for value in values)
        found[layer] = Extent(float(count), peak, float(largest / unit), float(mean / unit), float(squares / unit**2))
    return found


def _joined(a: Extent, b: Extent) -> Extent:
    # Chan, Golub and LeVeque's rule for parts (1979, eq. 2.1).
    count = a.count + b.count
    share = b.count / count if count else 0.0
    mean = a.mean + share * (b.mean - a.mean)
    squares = a.squares + b.squares + a.count * share * (b.mean - a.mean) ** 2
    return Extent(count, np.maximum(a.peak, b.peak), max(a.largest, b.largest), mean, squares)


def find_temperatures(run: Pass, smoothings: Smoothings, extents: Mapping[str, Extent]) -> dict[str, float]:
    """Return the temperature of each layer, as `smoothing.find_temperature` does."""
    found = {
        layer: 1.0 if s.temperature == "auto" or s.axes is None else s.temperature for layer, s in smoothings.items()
    }
    brackets = {
        layer: SEARCH_START
        for layer, s in smoothings.items()
        if s.axes is not None and s.temperature == "auto" and extents[layer].squares > 0
    }
    searched = dict(brackets)
    for _ in range(SEARCH_STEPS):
        if not searched:
            break
        arguments = {
            layer: (jnp.float32(bracket[1]), jnp.asarray(extents[layer].peak, jnp.float32), extents[layer].deviation)
            for layer, bracket in searched.items()
        }
        own = tuple((layer, smoothings[layer]) for layer in searched)
        parts = list(run(functools.partial(_divergences, smoothings=own), arguments))
        for layer, bracket in list(searched.items()):
            sums = [sum(np.asarray(part[layer][i], np.float64) for part in parts) for i in range(3)]
            divergence, slope = _divergence_of(sums, float(bracket[1]), smoothings[layer], extents[layer])
            brackets[layer] = searched[layer] = newton_step(bracket, jnp.float32(divergence), jnp.float32(slope))
            if abs(float(searched[layer][1]) / float(bracket[1]) - 1) < _PRECISE:
                del searched[layer]
    return found | {layer: extents[layer].deviation / float(bracket[1]) for layer, bracket in brackets.items()}


def _divergences(network, arguments, windows, inner, masks, *, smoothings) -> dict[str, Any]:
    """Return sums of u = exp(beta x), x u and x^2 u; or of positions, and their divergences and variances."""
    found = {}
    for layer, smoothing, features, own in _features(network, windows, inner, smoothings):
        beta, peak, deviation = arguments[layer]
        axes = GLOBAL_AXES.get(smoothing.kind)
        if axes is not None:
            x = jnp.where(own, (features - at_positions(peak)) / deviation, -jnp.inf)
            u = jnp.exp(beta * x)
            x = jnp.where(own, x, 0)
            found[layer] = u.sum(axes), (x * u).sum(axes), (x * x * u).sum(axes)
        else:
            x = (features - features.max(-1, keepdims=True)) / deviation
            p = jax.nn.softmax(beta * x, axis=-1)
            mean = (p * x).sum(-1, keepdims=True)
            variance = (p * (x - mean) ** 2).sum(-1)
            log_sum = jax.nn.logsumexp(beta * x, axis=-1)
            divergence = math.log(x.shape[-1]) + beta * mean[..., 0] - log_sum
            inside = own[..., 0]
            kept = [jnp.where(inside, y, 0).sum() for y in (jnp.ones_like(divergence), divergence, variance)]
            found[layer] = tuple(kept)
    return found


def _divergence_of(sums: Sequence[Any], beta: float, smoothing: Smoothing, extent: Extent) -> tuple[float, float]:
    """Return the divergence from uniform and its derivative by beta, averaged over the softmax's groups."""
    if smoothing.kind not in GLOBAL_AXES:
        positions, divergence, variance = sums
        return max(float(divergence / positions), 0.0), float(beta * variance / positions)
    total, first, second = sums
    mean = first / total
    count = extent.count / np.size(total)
    divergence = math.log(count) + beta * mean - np.log(total)
    return max(float(np.mean(divergence)), 0.0), float(beta * np.mean(second / total - mean**2))


def find_content(
    run: Pass, smoothings: Smoothings, shapes: Mapping[str, tuple[int, ...]], *, relative: bool
) -> dict[str, ContentPart]:
    """Return what the content's layers ask for, in relative losses or others; the shapes are those of the features."""
    extents = find_extents(run, smoothings)
    temperatures = find_temperatures(run, smoothings, extents)
    sums: Any = {}
    if any(smoothing.axes is not None for smoothing in smoothings.values()):
        arguments = {layer: jnp.float32(t) for layer, t in temperatures.items()}
        sums = functools.reduce(
            together, run(functools.partial(_content_sums, smoothings=tuple(smoothings.items())), arguments)
        )
    return {
        layer: _content_part(sums.get(layer), smoothing, temperatures[layer], extents[layer], shapes[layer], relative)
        for layer, smoothing in smoothings.items()
    }


def _content_sums(network, arguments, windows, inner, masks, *, smoothings) -> dict[str, Sums]:
    found = {}
    for layer, smoothing, features, own in _features(network, windows, inner, smoothings):
        u, peak, total = unnormalized(features, own[..., 0], arguments[layer], smoothing, None)
        found[layer] = Sums(peak, total, squares=(widen(u) ** 2).sum(GLOBAL_AXES.get(smoothing.kind)))
    return found


def _content_part(
    sums: Any, smoothing: Smoothing, temperature: float, extent: Extent, shape: tuple[int, ...], relative: bool
) -> ContentPart:
    none = jnp.zeros((), jnp.float32)
    if smoothing.axes is None:
        spread, unit = extent.spread() if relative else (1.0, 1.0)
        scale = smoothing.scale if smoothing.kind == "scale" else 1.0
        return ContentPart(
            jnp.float32(temperature), none, none, none, jnp.float32(spread * scale**2), jnp.float32(unit)
        )
    axes = GLOBAL_AXES.get(smoothing.kind)
    factor = 1.0 if axes is None else entries(shape, axes) / sums.total
    squares = factor**2 * sums.squares
    # The mean is one.
    raw = float(np.sum(squares))
    spread = max(raw - entries(shape, (0, 1, 2)), 1e-6 * raw + float(jnp.finfo(jnp.float32).tiny))
    values = temperature, sums.peak, factor, squares, spread, 1.0
    return ContentPart(*(jnp.asarray(value, jnp.float32) for value in values))


def _features(
    network: Backbone, windows: Sequence[Image], inner: Inner, smoothings: Sequence[tuple[str, Smoothing]]
) -> list[tuple[str, Smoothing, AnyFeatures, Array]]:
    (window,), of_layer = windows, dict(smoothings)
    return [
        (layer, of_layer[layer], widen(x), own_positions(network, layer, x, inner)[..., None])
        for layer, x in extract(network, window, layers=of_layer).items()
    ]
