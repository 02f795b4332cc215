"""The precision that sums are taken in."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def widen(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the values in float32, or as they are where they are wider already.

    Smoothing, statistics and losses are computed in float32 whatever the network's precision; float64 stays float64,
    which is how the tests compare gradients with finite differences.

    Example:
        >>> import jax.numpy as jnp
        >>> widen(jnp.ones(3, jnp.bfloat16)).dtype
        dtype('float32')
    """
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
