"""Modes of JAX that change what a program may do: `jax.disable_jit`, and meshes that are part of arrays' types."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array

Tree = TypeVar("Tree")


def is_jit_off() -> bool:
    """Tell whether `jax.disable_jit` is on: nothing can be compiled ahead of time or mapped over devices then."""
    return bool(getattr(jax.config, "jax_disable_jit"))  # noqa: B009 - pyright does not know JAX's flags


def has_mesh_types(*arrays: Array) -> bool:
    """Tell whether arrays' types say how they are split over a mesh, which only JAX's own primitives pass on.

    They do inside a `jax.shard_map` that checks, and on meshes with explicit axes.
    """
    kinds = [jax.typeof(array) for array in arrays]
    return any(kind.mat.varying or AxisType.Explicit in kind.sharding.mesh.axis_types for kind in kinds)


def as_carried(step: Callable[[Tree], Tree], state: Tree) -> Tree:
    """Return a state with the types that a step gives it, for `lax.scan`, whose carry must keep its type.

    Inside a `jax.shard_map` that checks, the type says over which axes of the mesh values differ: for a constant at the
    start none, after a step those of the images.
    """
    axes = jax.sharding.get_abstract_mesh().manual_axes
    if not axes or not jax.typeof(lax.pcast(jnp.zeros(()), axes, to="varying")).mat.varying:
        return state

    def cast(before: Array, after: jax.ShapeDtypeStruct) -> Array:
        missing = after.manual_axis_type.varying - jax.typeof(before).mat.varying
        return lax.pcast(before, tuple(missing), to="varying") if missing else before

    return jax.tree.map(cast, state, jax.eval_shape(step, state))
