"""Images of many sizes in a handful of programs, with the results that each has in a program of its own.

An image is padded at its right and bottom up to a bucket, a size that it shares with others. Where it ends is an
argument of the bucket's program: there every convolution sees the border that it sees at a map's end, pools see
nothing, and norms leave out what lies beyond. So results are equal up to rounding, at the edge as well as inside.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Int

from swag_jax._types import Activations, Border, Kernel, Padding
from swag_jax.apply.settings import WHOLE_PIXELS
from swag_jax.apply.stylizer import Stylizer
from swag_jax.attention import StyleKeys
from swag_jax.backbones import Compute
from swag_jax.backbones.kernels import NO_PADDING, Prepared

Shape: TypeAlias = tuple[int, int]
"""Height and width in pixels."""

Ends: TypeAlias = Int[Array, "2"]
"""Height and width of the image inside a bucket, in pixels: multiples of `Stylizer.stride`."""

Module = TypeVar("Module", bound=nnx.Module)

_MOST_COMPARED = 32
"""Sizes of which every pair is compared; more are rounded up first. Our choice: it takes hundredths of a second."""


class UnevenError(Exception):
    """A map's positions do not divide the image evenly, so that it cannot be said where the image ends in it."""


def choose(shapes: Iterable[Shape], *, most: int, unit: int) -> dict[Shape, Shape]:
    """Return the buckets, at most `most`, of the images that share one, by the images' sizes.

    Those whose union adds the fewest pixels, over all images, are joined first. There may be more buckets if larger
    ones would have too many pixels to be painted at once.

    Args:
        unit: What all sides are multiples of.

    Example:
        >>> choose([(64, 96), (64, 88), (256, 256)], most=2, unit=8)
        {(64, 88): (64, 96), (64, 96): (64, 96)}
    """
    counts, step = Counter(shapes), unit
    while len({_rounded(shape, step) for shape in counts}) > max(most, _MOST_COMPARED):
        step *= 2
    members: dict[Shape, list[Shape]] = {}
    for shape in sorted(counts):
        members.setdefault(_rounded(shape, step) if step > unit else shape, []).append(shape)

    def added(a: Shape, b: Shape) -> float:
        high, wide = max(a[0], b[0]), max(a[1], b[1])
        if high * wide > WHOLE_PIXELS:
            return float("inf")
        return sum((high * wide - s[0] * s[1]) * sum(counts[m] for m in members[s]) for s in (a, b))

    while len(members) > most:
        a, b = min(itertools.combinations(members, 2), key=lambda pair: added(*pair))
        if added(a, b) == float("inf"):
            break
        joined = members.pop(a) + members.pop(b)
        members.setdefault((max(a[0], b[0]), max(a[1], b[1])), []).extend(joined)
    shared = [together for together in members.values() if len(together) > 1]
    return {own: (max(h for h, _ in together), max(w for _, w in together)) for together in shared for own in together}


def pad_kept(kept: Any) -> Any:
    """Return what was read of a style with keys and values, if it has any, in one of few numbers.

    Those that are added are not attended to. A number grows by a fifth at most, to the next power of 2^(1/4).
    """

    def padded(x: StyleKeys) -> StyleKeys:
        count = len(x.keys)
        more = math.ceil(2 ** (math.ceil(4 * math.log2(count) - 1e-9) / 4)) - count
        allowed = jnp.ones(count, bool) if x.allowed is None else x.allowed
        allowed = jnp.pad(allowed | ~allowed.any(), (0, more))  # an empty region restricts nothing
        return StyleKeys(jnp.pad(x.keys, ((0, more), (0, 0))), jnp.pad(x.values, ((0, more), (0, 0))), allowed)

    def is_kept(x: Any) -> bool:
        return isinstance(x, StyleKeys)

    return jax.tree.map(lambda x: jax.vmap(padded)(x) if is_kept(x) else x, kept, is_leaf=is_kept)


def _rounded(shape: Shape, step: int) -> Shape:
    return -(-shape[0] // step) * step, -(-shape[1] // step) * step


def ending(stylizer: Stylizer, size: Shape, ends: Ends) -> Stylizer:
    """Return a stylizer for contents of a size that takes them to end earlier, at `ends`."""
    encoder = None if stylizer.encoder is None else _ending(stylizer.encoder, size, ends)
    return Stylizer(encoder, _ending(stylizer.generator, size, ends))


def _ending(module: Module, size: Shape, ends: Ends) -> Module:
    copy = nnx.merge(*nnx.split(module))
    for _, part in nnx.iter_modules(copy):
        compute = getattr(part, "compute", None)
        if compute is not None:
            own = Ending(compute.precision, compute.kernels, size, ends)
            part.compute = own  # pyright: ignore[reportAttributeAccessIssue]
    return copy


def can_end(stylizer: Stylizer) -> bool:
    """Tell whether all maps have positions that divide an image evenly, so that it is known where the image ends."""

    def check(stylizer, images, ends):
        inner = ending(stylizer, images.shape[1:3], ends)
        for x in inner.generator.normed(inner.generator.encode(inner.encoder, images), {}).values():
            inner.generator.compute.region(*x.shape[1:3])

    side = 4 * stylizer.stride
    try:
        jax.eval_shape(check, stylizer, jnp.zeros((1, side, side, 3)), jnp.zeros(2, jnp.int32))
    except UnevenError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class Ending(Compute):
    """Computes as if maps ended where the image does.

    Attributes:
        size: Of the bucket: the height and width in pixels of which maps show every so many.
        ends: Where the image ends in it.
    """

    size: Shape = (1, 1)
    ends: Any = None

    def region(self, rows: int, columns: int) -> Bool[Array, "rows columns"]:
        """Return which positions of a map are the image's."""
        down, across = self._counts(rows, columns)
        return (jnp.arange(rows) < down)[:, None] & (jnp.arange(columns) < across)[None]

    def _counts(self, rows: int, columns: int) -> tuple[Any, Any]:
        if self.size[0] % rows or self.size[1] % columns:
            raise UnevenError(f"{rows} x {columns} positions of {self.size[0]} x {self.size[1]} pixels")
        return self.ends[0] // (self.size[0] // rows), self.ends[1] // (self.size[1] // columns)

    def convolve(
        self,
        x: Activations,
        kernel: Kernel | Prepared,
        *,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        border: Border = "zeros",
    ) -> Activations:
        """As `Compute.convolve`, with the border at the image's end."""
        if padding != NO_PADDING and border == "zeros":
            x = self._filled(x, 0.0)
        elif padding != NO_PADDING:
            x, padding = self._bordered(x, padding, border), NO_PADDING
        return super().convolve(x, kernel, stride=stride, padding=padding)

    def max_pool(
        self, x: Activations, *, size: int, stride: int, padding: int = 0, partial: bool = False
    ) -> Activations:
        """As `Compute.max_pool`, of windows that end with the image."""
        x = self._filled(x, float(jnp.finfo(x.dtype).min)) if size > stride else x
        return super().max_pool(x, size=size, stride=stride, padding=padding, partial=partial)

    def _filled(self, x: Activations, fill: float) -> Activations:
        region = self.region(x.shape[1], x.shape[2])[None, ..., None]
        return jnp.where(region, x, jnp.asarray(fill, x.dtype))

    def _bordered(self, x: Activations, padding: Padding, border: Border) -> Activations:
        counts = self._counts(x.shape[1], x.shape[2])
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)), mode=border)
        for axis, (count, (before, after)) in enumerate(zip(counts, padding, strict=True), start=1):
            if border == "reflect":
                beyond = jnp.flip(lax.dynamic_slice_in_dim(x, before + count - 1 - after, after, axis), axis)
            else:
                beyond = jnp.repeat(lax.dynamic_slice_in_dim(x, before + count - 1, 1, axis), after, axis)
            x = lax.dynamic_update_slice_in_dim(x, beyond, before + count, axis)
        return x
