"""A batch of maps in blocks that stay in the processor's cache: some rows of one image, or several whole images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swag_jax._types import Activations, Padding

Block: TypeAlias = Float[Array, "_ _ _ _"]
"""What one block sees: `images rows columns channels`."""

Halo: TypeAlias = tuple[int, int]
"""Rows and columns that a block sees beyond its own: those of the kernel less one."""


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of a batch lie, in cells of `side` times `side` pixels.

    Attributes:
        count: Blocks of an image, of `rows` times `columns` cells; its last one may be filled up with zeros.
        together: Images of a block; 1 if an image has several blocks.
    """

    images: int
    rows: int
    columns: int
    count: int
    together: int
    side: int

    @classmethod
    def of(cls, images: int, height: int, width: int, *, most: int, side: int = 1) -> "Blocks":
        """Divide a batch of images of height x width pixels into blocks of at most `most` cells, or one row of them."""
        down, columns = -(-height // side), -(-width // side)
        rows = min(down, max(1, most // columns))
        fitting = [n for n in range(1, images + 1) if images % n == 0 and n * down * columns <= most]
        return cls(images, rows, columns, -(-down // rows), max(fitting, default=1), side)

    @property
    def places(self) -> int:
        """How many blocks there are."""
        return self.images // self.together * self.count

    def padded(self, x: Activations, padding: Padding, halo: Halo = (0, 0)) -> Activations:
        """Add zeros: above and on the left as `padding` has it, on the other sides as many as the last block needs."""
        (top, _), (left, _) = padding
        below = self.count * self.rows * self.side + halo[0] - top - x.shape[1]
        right = self.columns * self.side + halo[1] - left - x.shape[2]
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0)])

    def taken(self, x: Activations, place: Any, halo: Halo = (0, 0)) -> Block:
        """Return what one block sees of `padded`."""
        if self.places == 1:
            return x
        rows = self.rows * self.side
        first = (place // self.count * self.together, place % self.count * rows, 0, 0)
        return lax.dynamic_slice(x, first, (self.together, rows + halo[0], *x.shape[2:]))

    def map(self, function: Callable[[Any], Block]) -> Activations:
        """Return what a function makes of every place, put together as the batch, not cut at the end."""
        y = function(0) if self.places == 1 else lax.map(function, jnp.arange(self.places, dtype=jnp.int32))
        return y.reshape(self.images, self.count * self.rows * self.side, *y.shape[-2:])

    def sum(self, function: Callable[[Any], Any]) -> Any:
        """Return the sum of what a function makes of every place: arrays, or a tree of them."""
        if self.places == 1:
            return function(0)

        def add(total, place):
            return jax.tree.map(jnp.add, total, function(place)), None

        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, 0))
        return lax.scan(add, start, jnp.arange(self.places, dtype=jnp.int32))[0]
