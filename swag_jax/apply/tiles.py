r"""Images of any size in tiles that equal the whole.

A tile is painted in a window around it, so wide that nothing beyond the window can reach the tile. How far pixels reach
is measured: sums over `NaN` are `NaN` (`reach`). Moments for instance norms over the whole content are gathered before,
from all tiles: exactly, by Chan, Golub and LeVeque's rule for parts (1979, eq. 2.1).

"""

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from swag_jax import devices
from swag_jax._checks import error
from swag_jax._tiles import Grid, each, grid, inside
from swag_jax._types import ChannelMoments, Features, HostImage, Image, Mask
from swag_jax.apply.functional import Moments, StyleConditioning, paint
from swag_jax.apply.stylizer import Stylizer
from swag_jax.statistics import DEVIATION_EPSILON, centered_squares

HostMasks: TypeAlias = Float[np.ndarray, "height width styles"]
"""How much each style counts at each pixel, in [0, 1], in host memory."""

_DOUBLINGS = 6
"""Tries of `reach`, the last with strips of about 1,000 strides."""


def reach(stylizer: Stylizer, conditioning: StyleConditioning, *, own: Any = None, mixed: bool = False) -> int:
    """Return how many pixels of the content, at most, lie between a painted pixel and one that it depends on.

    Raises:
        UserError: If it is farther than any network's here; a convolution by Fourier transforms would look like that.
    """
    stride = stylizer.stride
    for side in (16 * stride * 2**i for i in range(_DOUBLINGS)):
        # A painted pixel that depends on a NaN is NaN.
        strip = np.full((2 * stride, 2 * side + stride, 3), 0.5, np.float32)
        strip[:, side : side + stride] = np.nan
        found = np.asarray(_painted_strip(stylizer, conditioning, jnp.asarray(strip), own, mixed))
        columns = np.flatnonzero(np.isnan(found).any((0, 2)))
        far = max(side - int(columns.min()), int(columns.max()) - (side + stride - 1))
        if far < side - stride:
            return far
    raise error("painted pixels must depend on near ones only to be painted in tiles", cure="paint the image whole")


@functools.partial(jax.jit, static_argnames="mixed")
def _painted_strip(stylizer, conditioning, strip, own, mixed):
    known: dict[str, Any] = {}
    while seen := _seen(stylizer, strip, known):
        # All moments are given: they would spread a NaN over the whole strip.
        sizes = {name: x.shape[-1] for name, x in seen.items()}
        known |= {name: (jnp.zeros(n, jnp.float32), jnp.ones(n, jnp.float32)) for name, n in sizes.items()}
    return paint(stylizer, conditioning, strip, own=own, mixed=mixed, known=known)


def _seen(stylizer: Stylizer, content: Any, known: Moments) -> dict[str, Any]:
    """Return what norms that are not known see of an image."""
    encoded = stylizer.generator.encode(stylizer.encoder, content[None])
    batch = jax.tree.map(lambda x: x[None], dict(known))
    return {name: x[0] for name, x in stylizer.generator.normed(encoded, batch).items()}


def paint_tiled(
    stylizer: Stylizer,
    conditioning: StyleConditioning,
    content: HostImage,
    *,
    side: int,
    masks: HostMasks | None = None,
    own: Any = None,
    mixed: bool = False,
) -> HostImage:
    """Return what `paint` does of an image in host memory, in tiles of this side, on every device."""
    halo = reach(stylizer, conditioning, own=own, mixed=mixed)
    cuts = grid(content.shape[0], content.shape[1], side=side, halo=halo, stride=stylizer.stride)
    shared = devices.replicate((stylizer, conditioning, own, gather_moments(stylizer, content, cuts)))
    result = np.empty_like(content)

    def one(stylizer, conditioning, own, known, window, masks):
        masks = None if masks is None else jnp.moveaxis(masks, -1, 0)
        return paint(stylizer, conditioning, window, masks=masks, own=own, mixed=mixed, known=known)

    def arguments(tile):
        return cuts.cut(content, tile), None if masks is None else cuts.cut(masks, tile)

    program = devices.map_batch(one, shared=["stylizer", "conditioning", "own", "known"])
    for (row, column), painted in each(program, shared, cuts.tiles, arguments):
        result[row.start : row.stop, column.start : column.stop] = painted[row.inner, column.inner]
    return result


def gather_moments(stylizer: Stylizer, content: HostImage, cuts: Grid) -> dict[str, ChannelMoments]:
    """Return mean and deviation of the whole image at every norm, from its tiles."""

    def one(stylizer, known, window, inner):
        seen = _seen(stylizer, window, known)
        return {name: centered_squares(x, region=_region(x, window, inner)) for name, x in seen.items()}

    def arguments(tile):
        return cuts.cut(content, tile), inside(tile)

    known: dict[str, ChannelMoments] = {}
    while True:
        # A new program each time: the more is known, the deeper it goes. AdaIN, SANet and AdaAttN need one pass;
        # Johnson's norms follow each other and take 15 passes over its first layers, about eight times the work of the
        # image.
        program = devices.map_batch(one, shared=["stylizer", "known"])
        shared = devices.replicate((stylizer, known))
        parts = [found for _, found in each(program, shared, cuts.tiles, arguments)]
        if not parts[0]:
            return known
        unbiased = stylizer.generator.unbiased
        known = known | {name: _together([p[name] for p in parts], unbiased=unbiased) for name in parts[0]}


def _region(features: Features, window: Image, inner: Int[Array, "2 2"]) -> Mask:
    # Which positions belong to the tile inside a window: each to that of its first pixel.
    sides = []
    for axis in (0, 1):
        stride = window.shape[axis] // features.shape[axis]
        pixels = stride * jnp.arange(features.shape[axis], dtype=jnp.int32)
        sides.append((pixels >= inner[axis, 0]) & (pixels < inner[axis, 1]))
    return sides[0][:, None] & sides[1][None]


def _together(parts: Sequence[tuple[Any, Any, Any]], *, unbiased: bool) -> ChannelMoments:
    # Chan, Golub and LeVeque's rule in float64; otherwise as `moments`.
    counts, means, squares = (np.stack([np.asarray(p[i], np.float64) for p in parts]) for i in range(3))
    total, weights = counts.sum(), counts[:, None]
    mean = (weights * means).sum(0) / total
    centered = squares.sum(0) + (weights * (means - mean[None]) ** 2).sum(0)
    deviation = np.sqrt(centered / max(total - unbiased, 1) + DEVIATION_EPSILON)
    return jnp.asarray(mean, jnp.float32), jnp.asarray(deviation, jnp.float32)
