"""Sizes and resampling: fit an image to a size, and the sequence of sizes from coarse to fine.

A *size* is the length of the longer side in pixels; the aspect ratio is kept.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from PIL import Image as Pillow

from swag_jax._checks import check_name, check_range

SMALLEST_SIZE = 128
"""The coarsest scale: `min_scale` of https://github.com/crowsonkb/style-transfer-pytorch."""

SCALE_RATIO = 2**0.5
"""Growth from one scale to the next, as in https://github.com/crowsonkb/style-transfer-pytorch."""

METHODS = ("bicubic", "linear")
"""Interpolations of `resample`: `bicubic` is sharper and may overshoot, `linear` never leaves the range."""


def fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the height and width, in pixels, of an image whose longer side becomes `size`; the shorter is at least 1.

    Example:
        >>> fitted(300, 400, 200)
        (150, 200)
    """
    _check_sides(height=height, width=width, size=size)
    longer = max(height, width)
    # In whole numbers: halves up, no float rounding.
    new_height, new_width = (max(1, (2 * side * size + longer) // (2 * longer)) for side in (height, width))
    return new_height, new_width


def _check_sides(**sides: int) -> None:
    for name, side in sides.items():
        check_range(side, what=name, low=1)


def resize(
    image: Float[np.ndarray, "height width *channels"], height: int, width: int
) -> Float[np.ndarray, "new_height new_width *channels"]:
    """Return a host image or its alpha in [0, 1], resampled by Pillow's Lanczos filter in floating point.

    It is the sharpest of Pillow's filters and does not alias when an image shrinks. Its small overshoot at edges is
    clipped.
    """
    _check_sides(height=height, width=width)
    image = np.asarray(image, np.float32)
    if image.shape[:2] == (height, width):
        return np.clip(image, 0, 1)
    if image.ndim == 2:  # Pillow has no float images of several channels
        return _resize_channel(image, height, width)
    channels = [_resize_channel(image[..., index], height, width) for index in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def _resize_channel(
    channel: Float[np.ndarray, "height width"], height: int, width: int
) -> Float[np.ndarray, "new_height new_width"]:
    image = Pillow.fromarray(np.ascontiguousarray(channel))
    return np.clip(np.asarray(image.resize((width, height), Pillow.Resampling.LANCZOS)), 0, 1)


def resample(
    image: Float[Array, "height width *channels"], height: int, width: int, *, method: str = "bicubic"
) -> Float[Array, "new_height new_width *channels"]:
    """Return an array on the device resampled, such as the image under optimization; antialiased when it shrinks.

    Values of any range are not clipped. Height and width are static under `jax.jit`; the method is one of `METHODS`.
    """
    check_name(method, METHODS, what="resampling method")
    _check_sides(height=height, width=width)
    shape = (height, width, *image.shape[2:])
    return jax.image.resize(image, shape, method, antialias=True)


def nearest(
    features: Float[Array, "height width channels"], height: int, width: int
) -> Float[Array, "new_height new_width channels"]:
    """Return features resampled by picking sample floor(i · old / new) on each axis: PyTorch's `nearest`."""
    _check_sides(height=height, width=width)
    # `jax.image.resize` picks the sample under each new one's center, which differs when shrinking.
    return _nearest_along(_nearest_along(features, 0, height), 1, width)


def _nearest_along(features: Float[Array, "_ _ channels"], axis: int, new: int) -> Float[Array, "_ _ channels"]:
    old = features.shape[axis]
    # Whole ratios by repetition and strides: their gradients are sums, not scatters.
    if new % old == 0:
        return jnp.repeat(features, new // old, axis)
    if old % new == 0:
        return lax.slice_in_dim(features, 0, old, old // new, axis)
    return jnp.take(features, np.arange(new) * old // new, axis)


def scales(size: int, *, smallest: int = SMALLEST_SIZE, ratio: float = SCALE_RATIO) -> tuple[int, ...]:
    """Return the sizes of a coarse-to-fine run, strictly increasing and ending exactly at `size`.

    They are size / ratio^i, rounded, as long as at least `smallest`: the rule of `gen_scales` in
    https://github.com/crowsonkb/style-transfer-pytorch. A `size` below `smallest` stands alone; the ratio is at least
    1.1.

    Example:
        >>> scales(512)
        (128, 181, 256, 362, 512)
    """
    _check_sides(size=size, smallest=smallest)
    check_range(ratio, what="ratio", low=1.1)
    shrinking = (round(size / ratio**step) for step in itertools.count())
    return tuple(sorted({size, *itertools.takewhile(lambda scale: scale >= smallest, shrinking)}))
