"""Pooling as PyTorch does it."""

import functools

import jax.numpy as jnp
from jax import lax

from swag_jax._numerics import widen
from swag_jax._types import Activations, Padding
from swag_jax.backbones.kernels._choice import Kernels, uses_cpu_forms
from swag_jax.backbones.kernels._forms import slices


def max_pool(x: Activations, *, size: int, stride: int, padding: Padding, kernels: Kernels) -> Activations:
    """Take the maximum over whole windows; the gradient goes to the first of equal ones."""
    if not uses_cpu_forms(kernels, x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), ((0, 0), *padding, (0, 0))
        )
    # On the CPU the gradient of `reduce_window` is slow, and so are comparisons of bfloat16.
    y, least = widen(x), float(jnp.finfo(x.dtype).min)
    for axis in (2, 1):
        y = functools.reduce(_first_larger, slices(y, axis, size, stride, padding[axis - 1], fill=least))
    return y.astype(x.dtype)


def _first_larger(a, b):
    return jnp.where((a < b) | (b != b), b, a)  # NaN wins


def average_pool(
    x: Activations, *, size: int, stride: int, padding: int = 0, counts_padding: bool = True
) -> Activations:
    """Average whole windows, in float32 at least: by all of their positions, or by those inside the map."""

    def sums(x):
        for axis in (2, 1):
            # Not a reduction: after a bfloat16 convolution and a ReLU, jaxlib 0.12 fuses that to NaN on the CPU.
            x = functools.reduce(jnp.add, slices(x, axis, size, stride, (padding, padding), fill=0.0))
        return x

    wide = widen(x)
    count = size**2 if counts_padding else sums(jnp.ones((1, *x.shape[1:3], 1), wide.dtype))
    return (sums(wide) / count).astype(x.dtype)
