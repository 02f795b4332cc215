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

TILE = 2
"""Rows and columns of a tile's outputs."""


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of a batch lie, in tiles of 2x2 pixels.

    Attributes:
        images: In the batch.
        rows: Of tiles in a block.
        columns: Of tiles, in a block as in an image.
        count: Blocks of an image; its last one may be filled up with zeros.
        together: Images of a block; 1 if an image has several blocks.
    """

    images: int
    rows: int
    columns: int
    count: int
    together: int

    @classmethod
    def of(cls, images: int, height: int, width: int, *, most: int) -> "Blocks":
        """Divide a batch of images of height x width pixels into blocks of at most `most` tiles, or one row of them."""
        down, columns = -(-height // TILE), -(-width // TILE)
        rows = min(down, max(1, most // columns))
        fitting = [n for n in range(1, images + 1) if images % n == 0 and n * down * columns <= most]
        return cls(images, rows, columns, -(-down // rows), max(fitting, default=1))

    @property
    def places(self) -> int:
        """How many blocks there are."""
        return self.images // self.together * self.count

    def padded(self, x: Activations, padding: Padding, halo: int = 0) -> Activations:
        """Add zeros: above and on the left as `padding` says, on the other sides as many as the last block needs.

        With a halo, a block sees that many rows and columns more than its own.
        """
        (top, _), (left, _) = padding
        below = self.count * self.rows * TILE + halo - top - x.shape[1]
        right = self.columns * TILE + halo - left - x.shape[2]
        return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0)])

    def taken(self, x: Activations, place: Any, halo: int = 0) -> Block:
        """Return what one block sees of `padded`."""
        if self.places == 1:
            return x
        rows = self.rows * TILE
        first = (place // self.count * self.together, place % self.count * rows, 0, 0)
        return lax.dynamic_slice(x, first, (self.together, rows + halo, *x.shape[2:]))

    def map(self, function: Callable[[Any], Block]) -> Activations:
        """Return what a function makes of every place, put together as the batch, not cut at the end."""
        y = function(0) if self.places == 1 else lax.map(function, jnp.arange(self.places, dtype=jnp.int32))
        return y.reshape(self.images, self.count * self.rows * TILE, *y.shape[-2:])

    def sum(self, function: Callable[[Any], Any]) -> Any:
        """Return the sum of what a function makes of every place: arrays, or a tree of them."""
        if self.places == 1:
            return function(0)

        def add(total, place):
            return jax.tree.map(jnp.add, total, function(place)), None

        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(function, 0))
        return lax.scan(add, start, jnp.arange(self.places, dtype=jnp.int32))[0]
