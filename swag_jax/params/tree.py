"""Parameters by flat name, such as `conv2_1.conv1.kernel`, of networks and generators alike."""

import re
import sys
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from swag_jax._checks import misfits_error

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shape of every tensor by its key."""

Tensors: TypeAlias = dict[str, np.ndarray]
"""Tensors in host memory by their keys."""

Module = TypeVar("Module", bound=nnx.Module)


def flat_parameters(module: nnx.Module) -> dict[str, jax.Array]:
    """Return a network's or a generator's arrays by flat name; it must not be frozen."""
    return {name: variable.get_value() for name, variable in _variables(module)}


def shapes_of(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter and statistic by flat name, in the names' order.

    An abstract module (`nnx.eval_shape`) is enough.
    """
    return dict(sorted((name, variable.get_value().shape) for name, variable in _variables(module)))


def with_parameters(module: Module, arrays: Mapping[str, np.ndarray | jax.Array]) -> Module:
    """Return a network with every array replaced by the one of the same flat name, in float32.

    It must not be frozen; an abstract one (`nnx.eval_shape`) is enough.
    """
    definition, state = nnx.split(module)
    if wrong := misfits({name: array.shape for name, array in arrays.items()}, shapes_of(module)):
        raise misfits_error(f"arrays must fit {type(module).__name__}", wrong)
    leaves = [
        (path, variable.replace(jnp.asarray(arrays[_name(path)], jnp.float32)))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(definition, nnx.from_flat_state(leaves))


def _variables(module: nnx.Module) -> list[tuple[str, Any]]:
    return [(_name(path), variable) for path, variable in nnx.to_flat_state(nnx.state(module))]


def _name(path: tuple) -> str:
    return ".".join(map(str, path))


def misfits(found: Shapes, expected: Shapes) -> list[str]:
    """Say in one line each which parameters have another shape, should not be there, or are missing."""
    wrong = [
        f"{name} has shape {tuple(shape)}, expected {expected[name]}" if name in expected else f"unexpected {name}"
        for name, shape in found.items()
        if tuple(shape) != expected.get(name)
    ]
    return wrong + [f"missing {name}" for name in sorted(expected, key=depth_of) if name not in found]


def layer_of(name: str) -> str:
    """Return the layer of a parameter: `conv2_1` of `conv2_1.conv1.kernel`."""
    return name.split(".", 1)[0]


_IN_BLOCK = ("_expand", "_depthwise", "")
"""What the names of EfficientNet's layers end in, in each block from shallow to deep."""


def depth_of(name: str) -> tuple[int, ...]:
    """Return what sorts parameters and layers from shallow to deep.

    Example:
        >>> depth_of("conv2_1.conv1.kernel"), depth_of("conv3.kernel"), depth_of("inception3b.branch1.kernel")
        ((2, 1), (3,), (3, 2))
        >>> depth_of("stem") < depth_of("block3_expand") < depth_of("block3.kernel") < depth_of("head")
        True
    """
    layer = layer_of(name)
    if match := re.fullmatch(r"block(\d+)(_expand|_depthwise|)", layer):
        return int(match[1]), _IN_BLOCK.index(match[2])
    if layer == "head":
        return (sys.maxsize,)
    parts = re.findall(r"\d+|(?<=\d)[a-z]", layer)
    return tuple(int(part) if part.isdigit() else ord(part) - ord("a") + 1 for part in parts)
