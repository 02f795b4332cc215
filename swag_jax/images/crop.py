"""Crops for training: a random window of an image, resized, in 8 bits, as fast as Pillow is."""

import math
from os import PathLike

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from swag_jax._checks import check_range
from swag_jax.images import _pixels
from swag_jax.images._decode import decode


def read_crop(
    path: str | PathLike[str],
    *,
    size: int,
    crop: int,
    where: tuple[float, float] = (0.5, 0.5),
    squash: bool = False,
    flip: bool = False,
) -> UInt8[np.ndarray, "crop crop 3"]:
    """Read a square of a resized image as 8-bit sRGB over white.

    Only the pixels of the square are resized; JPEG files are decoded no larger than that needs.

    Args:
        size: The shorter side after resizing, or both sides with `squash`, in pixels.
        crop: The side of the square, at most `size`.
        where: The square's place down and across, from 0 (first) to 1 (last).
    """
    check_range(crop, what="crop", low=1)
    check_range(size, what="size", low=crop)
    image = decode(path, None, shorter=size)
    with _pixels.readable_colors(path):
        image = _pixels.over_white(image)
    scale = (size / image.width, size / image.height)
    if not squash:
        scale = (max(scale), max(scale))
    box = []
    for side, factor, place in zip(image.size, scale, reversed(where), strict=True):
        check_range(place, what="a place", low=0, high=1)
        room = max(round(side * factor), crop) - crop  # the square has room + 1 places, in resized pixels
        start = min(math.floor(place * (room + 1)), room) / factor
        box.append((start, min(start + crop / factor, side)))
    # Pillow resizes the box only, as if it had resized the whole image and cropped it.
    (left, right), (upper, lower) = box
    found = image.resize((crop, crop), Pillow.Resampling.BICUBIC, box=(left, upper, right, lower))
    return np.asarray(found.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT) if flip else found)
