"""Read and write image files.

Images are float32 `height width 3` arrays of sRGB values in [0, 1]; a file's opacity is read and written
separately, as `height width` in [0, 1] where 1 is opaque. Reading handles orientation, color profiles, palettes,
CMYK, 16 bits and transparency; writing is all or nothing.
"""

import io
import os
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

from swag_jax._checks import check_range, error
from swag_jax._files import target_of, write_whole
from swag_jax._types import HostAlpha, HostImage
from swag_jax.images import _pixels
from swag_jax.images._arrays import to_write
from swag_jax.images._decode import decode, unusable_path
from swag_jax.images.color import luminance
from swag_jax.images.resize import fitted, resize

OUTPUT_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""The format of an output file by its suffix."""

DEFAULT_QUALITY = 95
"""Pillow's documentation advises against JPEG qualities above 95: files grow, the image hardly gains."""

_OPAQUE_SUFFIXES = (".jpg", ".jpeg")
_ENCODING_FAILURES = (ValueError, SystemError, MemoryError, OSError, RuntimeError)


def read_image(path: str | PathLike[str], *, size: int | None = None) -> HostImage:
    """Read an image as sRGB, upright, over white where it is transparent; the first frame of an animation.

    Args:
        path: A PNG, JPEG, WebP, TIFF, GIF, BMP or AVIF file of any Pillow mode.
        size: The longer side wanted in pixels, smaller or larger than the file's; `None` keeps the size.

    Returns:
        Float32 sRGB values in [0, 1].

    Raises:
        UserError: If the file is missing, unreadable, no image, damaged, too small or too large.
    """
    color, alpha = _read(path, size)
    if alpha is not None:
        color = color * alpha[..., None] + (1 - alpha[..., None])
    return _fit(color, size)


def read_alpha(path: str | PathLike[str], *, size: int | None = None) -> HostAlpha | None:
    """Read the opacity of an image, turned and sized as `read_image` does.

    Returns:
        A float32 array `height width` in [0, 1], 1 is opaque; `None` when the whole image is opaque.
    """
    _, alpha = _read(path, size)
    return None if alpha is None else _fit(alpha, size)


def read_mask(path: str | PathLike[str], *, size: int | None = None) -> HostAlpha:
    """Read an image as a mask: luminance times opacity, so that what is transparent counts as black.

    Returns:
        A float32 array `height width` in [0, 1], turned and sized as `read_image` does.
    """
    color, alpha = _read(path, size)
    light = np.asarray(luminance(jax.numpy.asarray(color)))
    return _fit(light if alpha is None else light * alpha, size)


def _read(path: str | PathLike[str], size: int | None) -> tuple[HostImage, HostAlpha | None]:
    image = decode(path, size)
    with _pixels.readable_colors(path):
        return _pixels.colors(image), _pixels.opacity(image)


def _fit(values: np.ndarray, size: int | None) -> np.ndarray:
    height, width = values.shape[:2]
    return values if size is None else resize(values, *fitted(height, width, size))


def check_output(path: str | PathLike[str], *, alpha: bool = False) -> None:
    """Check, before long work starts, that an image, perhaps with `alpha`, can be written to a path."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in OUTPUT_FORMATS:
        rule = f"the name of an output image must end in one of {', '.join(OUTPUT_FORMATS)}"
        raise error(rule, got=repr(path.name), cure="change the suffix, which chooses the format")
    if alpha and suffix in _OPAQUE_SUFFIXES:
        able = ", ".join(known for known in OUTPUT_FORMATS if known not in _OPAQUE_SUFFIXES)
        raise error(f"{path} cannot hold transparency, JPEG has none", cure=f"write one of {able}")
    try:
        target = target_of(path)
        if target.is_dir():
            raise error(f"{target} must be a file to write", got="a folder", cure="name a file in it")
        if not target.parent.exists():
            raise error(f"the folder of {target} must exist", got="no such folder", cure=f"create {target.parent}")
        if not target.parent.is_dir():
            raise error(f"the folder of {target} must be a folder", got="a file", cure="choose another folder")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise error(f"the folder of {target} must be writable", got="permission denied", cure="choose another")
    except OSError as cause:
        raise unusable_path(path, cause) from cause


def write_image(
    path: str | PathLike[str],
    image: np.ndarray | jax.Array,
    *,
    alpha: np.ndarray | jax.Array | None = None,
    quality: int = DEFAULT_QUALITY,
) -> None:
    """Write an image with 8 bits per channel and the sRGB profile, all or nothing.

    Args:
        path: The output file; its suffix, one of `OUTPUT_FORMATS`, chooses the format.
        image: Floating-point sRGB values `height width 3` in [0, 1]; values a little outside are clipped.
        alpha: Opacity `height width` in [0, 1], for every format but JPEG.
        quality: Of JPEG and WebP, 1 to 100; PNG and TIFF are lossless.

    Example:
        >>> write_image("glass.png", np.ones((64, 48, 3), np.float32), alpha=np.zeros((64, 48), np.float32))
        >>> read_image("glass.png", size=32).shape, read_alpha("glass.png").max()
        ((32, 24, 3), np.float32(0.0))
    """
    check_range(quality, what="quality", low=1, high=100)
    check_output(path, alpha=alpha is not None)
    write_whole(Path(path), _encoded(_to_image(image, alpha), quality, target=Path(path)))


def _to_image(image: np.ndarray | jax.Array, alpha: np.ndarray | jax.Array | None) -> Pillow.Image:
    channels = _to_bytes(to_write(image, "an image to write"))
    if alpha is None:
        return Pillow.fromarray(channels)
    opacity = _to_bytes(to_write(alpha, "an alpha to write", shape=channels.shape[:2]))
    return Pillow.fromarray(np.concatenate([channels, opacity[..., None]], axis=-1))


def _to_bytes(unit: np.ndarray) -> np.ndarray:
    # Halves up.
    return np.floor(unit * 255 + 0.5).astype(np.uint8)


def _encoded(image: Pillow.Image, quality: int, *, target: Path) -> bytes:
    # In memory, since encoders that write files ignore a full disk.
    buffer = io.BytesIO()
    try:
        image.save(buffer, **_save_options(target, quality))
    except _ENCODING_FAILURES as cause:
        got, cure = f"{type(cause).__name__}: {cause}", "check the largest sides of the format"
        raise error(f"{target} could not be written", got=got, cure=cure) from cause
    return buffer.getvalue()


def _save_options(path: Path, quality: int) -> dict[str, Any]:
    name = OUTPUT_FORMATS[path.suffix.lower()]
    options = {
        "PNG": {"compress_level": 4},  # of 9; beyond it files shrink little and writing slows down
        "JPEG": {"quality": quality, "subsampling": 0},  # full chroma: stylization adds fine color detail
        "WEBP": {"quality": quality},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    return {"format": name, "icc_profile": _srgb_profile(), **options[name]}


def _srgb_profile() -> bytes:
    # Without its creation time, so that equal images give equal files.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # ICC.1:2022, 7.2: bytes 24 to 35 hold date and time
