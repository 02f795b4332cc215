"""Float32 sums, a scale that keeps squares in range, and a square root with a gradient everywhere."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def widen(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the values in float32, or unchanged if they are wider.

    Smoothing, statistics and losses are computed in float32 whatever the network's precision; float64 is for tests.
    """
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def power_of_two(*targets: Float[Array, "..."]) -> Float[Array, ""]:
    """Return the factor that scales the largest entry of all into [0.5, 1), without rounding; 1 if all are zero.

    The deepest Gram matrices of a random GoogLeNet are about 1e-22, those of a random Inception v3 about 1e24: in
    float32 their squares become 0 and infinity.
    """
    largest = jnp.stack([jnp.abs(widen(target)).max() for target in targets]).max()
    _, exponent = jnp.frexp(lax.stop_gradient(largest))
    return jnp.ldexp(jnp.ones_like(largest), -exponent.clip(-126, 126))


def root(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the square root of positive values; 0, with gradient 0, for all others.

    This is PyTorch's `sqrt(relu(x))`, whose backward pass multiplies the infinite slope at 0 by a hard 0.
    """
    positive = values > 0  # the inner `where` keeps the infinite slope out of the gradient
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)
