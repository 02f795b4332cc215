"""A network to be measured: how it is built, and which of its layers represent its stages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from swag_jax import backbones
from swag_jax._checks import check_name
from swag_jax.backbones import Backbone
from swag_jax.backbones.zoo import entry, reached_layers, stage_layers
from swag_jax.params import Source

CHOICES = ("stages", "all")
"""Choices of layers instead of names: the last layer of each stage, or all."""

Choice: TypeAlias = str | tuple[str, ...]
"""One of `CHOICES`, or layers by name."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network to be measured.

    Attributes:
        name: The name to report.
        backbone: The network's name in the zoo.
        weights: `random`, as in the paper's figure, or another value that `backbones.load` takes.
        options: Names and values of the network's own options, such as fields of a residual network's `Architecture`.

    Example:
        >>> NetworkSpec("no additions", "resnet50", options=(("residual", False), ("depths", (2, 2, 2, 2)))).weights
        'random'
    """

    name: str
    backbone: str
    weights: str = "random"
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network with the layers to be read, shallow to deep."""

    spec: NetworkSpec
    network: Backbone
    source: Source
    layers: tuple[str, ...]
    stages: dict[int, str]  # the last layer of each that the weights reach


def load_network(spec: NetworkSpec, layers: Choice, *, seed: int = 0) -> LoadedNetwork:
    """Return a network down to the deepest layer that will be read; random weights are drawn from the seed."""
    if isinstance(layers, str):
        check_name(layers, CHOICES, what="choice of layers")
    name, weights, options = spec.backbone, spec.weights, dict(spec.options)
    known = entry(name)
    for option in options:
        check_name(option, known.options, what=f"option of {name}")
    names, ends = backbones.layer_names(name, **options), stage_layers(name, **options)
    reached = reached_layers(name, weights=weights, **options)
    marks = {*ends, *known.style_layers} if isinstance(layers, str) else set(layers)
    stages = {_stage(layer, ends, names): layer for layer in reached if layer in marks}
    read = layers if isinstance(layers, tuple) else (reached if layers == "all" else tuple(stages.values()))
    network, source = backbones.load(name, weights=weights, layers=read, seed=seed, **options)
    return LoadedNetwork(spec, network, source, network.check_layers(read), stages)


def _stage(layer: str, ends: Iterable[str], names: Sequence[str]) -> int:
    # How many stages end before it; layers after the last stage belong to it.
    places = [names.index(end) for end in ends]
    return min(sum(place < names.index(layer) for place in places), len(places) - 1)
