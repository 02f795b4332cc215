"""The methods by name, and how their generators are built."""

import functools
from collections.abc import Collection, Mapping

import jax
import numpy as np
from flax import nnx

from swag_jax import devices
from swag_jax._checks import error
from swag_jax.backbones import Compute
from swag_jax.generators import adaattn, adain, johnson, sanet
from swag_jax.generators.method import Config, Generator, Method, Published
from swag_jax.params import tree

METHODS: dict[str, Method] = {
    method.name: method for method in (johnson.METHOD, adain.METHOD, sanet.METHOD, adaattn.METHOD)
}
"""Every kind of generator by its name; a further one is one entry more."""

PUBLISHED: Mapping[str, Published] = {
    name: found for method in METHODS.values() for name, found in method.published.items()
}
"""Every kind of published checkpoint, by the name that the command line has for it."""


def method_of(config: Config) -> Method:
    """Return the method that a configuration is for."""
    for method in METHODS.values():
        if type(config) is method.config:
            return method
    raise error(f"a configuration must be a generator's ({', '.join(METHODS)})", got=type(config).__name__)


def kinds_of(keys: Collection[str]) -> tuple[str, ...]:
    """Name the kinds of generator that a published file with these keys may belong to.

    Example:
        >>> kinds_of(["deconv1.conv2d.weight"]), kinds_of(["sanet4_1.f.bias"]), kinds_of(["features.0.weight"])
        (('johnson',), ('sanet',), ())
    """
    return tuple(kind for kind, published in PUBLISHED.items() if keys and all(map(published.layout.knows, keys)))


@devices.moves_arrays
def create(config: Config, *, seed: int = 0, compute: Compute | None = None) -> Generator:
    """Return a generator with random weights, as its authors' code initializes it.

    Args:
        config: What it is made of; its type says which generator.
        seed: Equal seeds give equal weights.
        compute: Precision and kernels of its convolutions; default: float32. Parameters are float32 always.

    Example:
        >>> create(johnson.JohnsonConfig(channels=2, blocks=1), seed=3).config.channels
        2
    """
    return method_of(config).network(config, compute=compute, rngs=nnx.Rngs(seed))


@functools.lru_cache(maxsize=16)  # tracing one takes a fifth of a second, and loading a checkpoint needs it twice
def _outline(config: Config, compute: Compute) -> Generator:
    # Without arrays; all callers share it and none changes it.
    return nnx.eval_shape(lambda: create(config, compute=compute))


def parameter_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by its flat name, without allocating any."""
    return tree.shapes_of(_outline(config, Compute()))


def with_parameters(
    config: Config, arrays: Mapping[str, np.ndarray | jax.Array], *, compute: Compute | None = None
) -> Generator:
    """Return a generator made of an array for each of its flat names, or raise with a line for every misfit."""
    return tree.with_parameters(_outline(config, compute or Compute()), arrays)
