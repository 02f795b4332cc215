"""Frozen dataclasses that are pytrees."""

import dataclasses
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree_dataclass(cls: type[T]) -> type[T]:
    """Make a frozen dataclass a pytree of all its fields, as `jax.tree_util.register_dataclass` does."""
    names = tuple(field.name for field in dataclasses.fields(cls))  # pyright: ignore[reportArgumentType]
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in names)

    def flatten(value: Any) -> tuple[tuple, None]:
        return tuple(getattr(value, name) for name in names), None

    def flatten_with_keys(value: Any) -> tuple[tuple, None]:
        return tuple(zip(keys, flatten(value)[0], strict=True)), None

    # Unlike JAX's own, this bypasses the constructor: what JAX puts into the fields for a moment (placeholders,
    # batches) is not what their annotations promise, and is not checked.
    def unflatten(_: None, leaves: Any) -> Any:
        value = object.__new__(cls)
        for name, leaf in zip(names, leaves, strict=True):
            object.__setattr__(value, name, leaf)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
