"""The squared distance of content and style losses, its unit, and the smoothing of two images alike."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._numerics import power_of_two, widen
from swag_jax._types import Features, Scalar, StyleFeatures
from swag_jax.smoothing import Smoothing, find_temperature, smooth


def squared_distance(values: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Scalar:
    r"""Return :math:`\|v - t\|^2`, accumulated in float32 at least."""
    return ((widen(values) - widen(target)) ** 2).sum()


def spread(target: Float[Array, "..."]) -> Scalar:
    r"""Return :math:`\|t - \bar t\|^2`, but at least a millionth of :math:`\|t\|^2` and never zero."""
    target = widen(target)
    floor = 1e-6 * (target**2).sum() + float(jnp.finfo(jnp.float32).tiny)
    return jnp.maximum(((target - target.mean()) ** 2).sum(), floor)


def relative_distance(values: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Scalar:
    r"""Return :math:`\|v - t\|^2 / \|t - \bar t\|^2`, for activations of any scale; see `spread`."""
    unit = power_of_two(target)  # keeps squares of tiny and huge activations in float32's range
    target = unit * widen(target)
    return squared_distance(unit * widen(values), target) / spread(target)


def smoothed(
    features: Features, target: StyleFeatures, smoothing: Smoothing, layer: str
) -> tuple[Features, StyleFeatures]:
    """Smooth both features as `layer` is smoothed, at the target's temperature."""
    own = smoothing.at(layer)
    temperature = find_temperature(target, own)
    return smooth(features, own, temperature=temperature), smooth(target, own, temperature=temperature)
