"""Parts that the objectives of generators share: distances by name, families of terms, checks of weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp

from swag_jax._checks import check_range, error
from swag_jax._types import Features, LayerFeatures, Scalar
from swag_jax.losses import content, moments
from swag_jax.losses._distance import smoothed
from swag_jax.losses.objective import LARGEST_WEIGHT, Terms
from swag_jax.smoothing import Smoothing
from swag_jax.statistics import instance_norm

Normalization: TypeAlias = Literal["averaged", "summed", "relative"]

FEATURES = {"averaged": content.released, "summed": content.released, "relative": content.relative}
"""Distances of features; no published recipe of a generator sums them."""

MOMENTS = {"averaged": moments.averaged, "summed": moments.summed, "relative": moments.relative}


@dataclass(frozen=True)
class Family:
    """Terms that differ only in their layer: `weight` · `distance` of smoothed `features` from `targets`."""

    name: str  # before the layer's in a term's name
    distance: Callable[..., Scalar]
    weight: float  # 0 leaves the family out
    layers: tuple[str, ...]
    features: LayerFeatures
    targets: LayerFeatures
    smoothed: bool = True


def evaluate_families(smoothing: Smoothing, *families: Family) -> tuple[Scalar, Terms]:
    """Return the sum of all terms, and each by its name; terms of one name are added up."""
    terms: Terms = {}
    for family in families:
        for layer in family.layers if family.weight else ():
            name, applied = f"{family.name}/{layer}", smoothing if family.smoothed else Smoothing()
            pair = smoothed(family.features[layer], family.targets[layer], applied, layer)
            term = family.weight * family.distance(*pair)
            terms[name] = terms[name] + term if name in terms else term
    return jnp.stack(list(terms.values())).sum(), terms


def of_normalized(distance: Callable[[Features, Features], Scalar]) -> Callable[[Features, Features], Scalar]:
    """Return the distance of instance-normalized features: SANet's and AdaAttN's content loss."""
    return lambda features, target: distance(instance_norm(features), instance_norm(target))


def check_objective(objective: Any, *weights: str) -> None:
    """Raise unless the weights are in range and not all zero."""
    for name in weights:
        check_range(getattr(objective, name), what=name.replace("_", " "), low=0, high=LARGEST_WEIGHT)
    if not any(getattr(objective, name) for name in weights):
        named = ", ".join(name.replace("_", " ") for name in weights)
        raise error(f"one of {named} must be greater than 0", got="0 for all")
