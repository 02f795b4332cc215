"""The generators by name, and how each is built."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import numpy as np
from flax import nnx

from swag_jax import devices
from swag_jax._checks import check_name
from swag_jax.backbones import Compute
from swag_jax.generators._layers import Generator
from swag_jax.generators.adaattn import AdaAttN, AdaAttNConfig
from swag_jax.generators.adain import AdaIN, AdaINConfig
from swag_jax.generators.johnson import Johnson, JohnsonConfig
from swag_jax.generators.sanet import SANet, SANetConfig
from swag_jax.params import tree

Config: TypeAlias = AdaAttNConfig | AdaINConfig | JohnsonConfig | SANetConfig

_KINDS: Mapping[str, tuple[type, type]] = {
    "johnson": (JohnsonConfig, Johnson),
    "adain": (AdaINConfig, AdaIN),
    "sanet": (SANetConfig, SANet),
    "adaattn": (AdaAttNConfig, AdaAttN),
}

KINDS: tuple[str, ...] = tuple(_KINDS)
"""Every generator's name."""


def config_type(kind: str) -> type:
    """Return the class of the configurations of a kind of generator.

    Args:
        kind: One of `KINDS`.

    Raises:
        UserError: If there is none, with near names.
    """
    return _KINDS[check_name(kind, KINDS, what="generator")][0]


def kind_of(config: Config) -> str:
    """Return the name of the generators that a configuration is for.

    Args:
        config: Of any generator.

    Example:
        >>> kind_of(AdaINConfig())
        'adain'
    """
    return next(kind for kind, (cls, _) in _KINDS.items() if type(config) is cls)


@devices.moves_arrays
def create(config: Config, *, seed: int = 0, compute: Compute | None = None) -> Generator:
    """Build a generator with random weights, as its authors' code initializes it.

    Args:
        config: What it is made of; its type says which generator.
        seed: Seed of the initialization; equal seeds give equal weights.
        compute: Precision and kernels; default: float32.

    Returns:
        The generator, with float32 parameters.

    Example:
        >>> create(JohnsonConfig(channels=2, blocks=1), seed=3).config.channels
        2
    """
    _, cls = _KINDS[kind_of(config)]
    return cls(config, compute=compute, rngs=nnx.Rngs(seed))


def parameter_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its flat name, without allocating any.

    Args:
        config: What the generator is made of.

    Example:
        >>> parameter_shapes(AdaINConfig())["decoder.conv1_1.kernel"]
        (3, 3, 64, 3)
    """
    return tree.shapes_of(nnx.eval_shape(lambda: create(config)))


def with_parameters(
    config: Config, arrays: Mapping[str, np.ndarray | jax.Array], *, compute: Compute | None = None
) -> Generator:
    """Return a generator made of its arrays.

    Args:
        config: What it is made of.
        arrays: An array for each of its flat names.
        compute: Precision and kernels; default: float32.

    Raises:
        UserError: If names or shapes differ; one line for every misfit.
    """
    return tree.with_parameters(nnx.eval_shape(lambda: create(config, compute=compute)), arrays)
