"""How an image is cut into tiles, each with a window around it, so wide that nothing beyond can reach the tile."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import numpy as np

from swag_jax import devices


@dataclass(frozen=True)
class Span:
    """A tile along one axis, and the window around it."""

    start: int
    stop: int
    window: int  # its first pixel

    @property
    def inner(self) -> slice:
        """Where in its window the tile is."""
        return slice(self.start - self.window, self.stop - self.window)


def spans(length: int, *, side: int, halo: int, stride: int = 1) -> tuple[tuple[Span, ...], int]:
    """Return tiles of a side, each with a window that reaches `halo` beyond it or to the end, and the windows' length.

    Side and halo are multiples of the stride; so is the first pixel of every window, whatever the length.

    Example:
        >>> spans(96, side=32, halo=16)
        ((Span(start=0, stop=32, window=0), Span(start=32, stop=64, window=16), Span(start=64, stop=96, window=32)), 64)
        >>> [span.window for span in spans(101, side=32, halo=16, stride=16)[0]]
        [0, 16, 32, 32]
    """
    # A network sees at every window's end as many pixels beyond its last whole stride as at the image's.
    window = min(side + 2 * halo + length % stride, length)
    starts = range(0, length, side)
    return tuple(Span(s, min(s + side, length), min(max(s - halo, 0), length - window)) for s in starts), window


Tile: TypeAlias = tuple[Span, Span]
"""Down and across."""


@dataclass(frozen=True)
class Grid:
    """The tiles of an image, along its height and its width, and the sides of every window."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    window: tuple[int, int]

    @property
    def tiles(self) -> list[Tile]:
        """Every tile."""
        return list(itertools.product(self.rows, self.columns))

    def cut(self, image: np.ndarray, tile: Tile) -> np.ndarray:
        """Return a tile's window of the whole image, `height width ...`; a view."""
        row, column = tile
        return image[row.window : row.window + self.window[0], column.window : column.window + self.window[1]]


def grid(height: int, width: int, *, side: int, halo: int, stride: int) -> Grid:
    """Cut an image into tiles that begin at multiples of the stride; side and halo are rounded up to them."""
    side, halo = (math.ceil(length / stride) * stride for length in (side, halo))
    cut = (spans(length, side=side, halo=halo, stride=stride) for length in (height, width))
    # All windows have one size and begin at multiples of the stride, so that one program makes them all.
    (rows, high), (columns, wide) = cut
    return Grid(rows, columns, (high, wide))


def each(
    program: Any, shared: Sequence[Any], tiles: Sequence[Tile], arguments: Callable[[Tile], Any]
) -> Iterator[tuple[Tile, Any]]:
    """Yield each tile with what a program of `devices.map_batch` makes of it; one is on each device at a time."""
    for start in range(0, len(tiles), devices.count()):
        group = tiles[start : start + devices.count()]
        filled = devices.pad([arguments(tile) for tile in group], size=1)
        batch = jax.tree.map(lambda *x: np.stack(x), *filled)
        found = devices.gather(program(*shared, *devices.split(batch)), length=len(group))
        for i, tile in enumerate(group):
            yield tile, jax.tree.map(lambda x, i=i: x[i], found)


def inside(tile: Tile) -> np.ndarray:
    """Return where in its window a tile is: `(top, bottom), (left, right)`."""
    return np.array([(span.inner.start, span.inner.stop) for span in tile], np.int32)
