"""Pooling as PyTorch does it."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from swag_jax._numerics import widen
from swag_jax._types import Activations, Padding
from swag_jax.backbones.kernels._choice import Kernels, uses_cpu_forms
from swag_jax.backbones.kernels._forms import slices


def max_pool(x: Activations, *, size: int, stride: int, padding: Padding, kernels: Kernels) -> Activations:
    """Take the maximum over whole windows; the gradient goes to the first of equal ones."""
    if not uses_cpu_forms(kernels, x):
        return _window_maximum(x, size, stride, padding)
    # On the CPU the gradient of `reduce_window` is slow, and so are comparisons of bfloat16.
    y, least = widen(x), float(jnp.finfo(x.dtype).min)
    for axis in (2, 1):
        y = functools.reduce(_first_larger, slices(y, axis, size, stride, padding[axis - 1], fill=least))
    return y.astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _window_maximum(x: Activations, size: int, stride: int, padding: Padding) -> Activations:
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), ((0, 0), *padding, (0, 0))
    )


@_window_maximum.defjvp
def _tangent_of_maximum(size, stride, padding, primals, tangents):
    # The gradient finds the maximum again. XLA's own, a select-and-scatter, moves twice as much through memory.
    (x,), (of_x,) = primals, tangents
    y = _window_maximum(x, size, stride, padding)

    def windows(x, *, fill):
        return [
            entry
            for row in slices(x, 1, size, stride, padding[0], fill=fill)
            for entry in slices(row, 2, size, stride, padding[1], fill=fill)
        ]

    of_y, found = jnp.zeros_like(y), jnp.zeros(y.shape, bool)
    for entry, change in zip(windows(x, fill=-jnp.inf), windows(of_x, fill=0.0), strict=True):
        is_first = (entry == y) & ~found
        of_y, found = of_y + jnp.where(is_first, change, 0), found | is_first
    return y, of_y


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
