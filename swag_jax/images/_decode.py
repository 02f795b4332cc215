"""From a file to an upright Pillow picture; the one place that meets broken, hostile or missing files.

Every way a file can be wrong leaves as a `UserError` that names the file. The header is judged (sides, number
of pixels) before any pixel is decoded.
"""

import difflib
import heapq
import math
import warnings
from os import PathLike
from pathlib import Path

from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as Pillow

from swag_jax._checks import UserError, check_range, error, near
from swag_jax.images.resize import fitted

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")
"""What is read. The list is closed: other Pillow plugins start programs (EPS) or vary by installation."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp")
"""The usual suffixes of `FORMATS`, to suggest neighbors of a missing file; reading goes by content."""

MINIMUM_SIDE = 16
"""Shortest side in pixels: VGG19 halves it four times before `conv5_1`, which leaves one position."""

MAXIMUM_PIXELS = 2 * (1024**3 // 4 // 3)
"""Most pixels of a picture, 178,956,970: where Pillow's default raises `DecompressionBombError`."""

_UPRIGHT = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
"""EXIF 2.32, tag 0x0112: what turns each orientation upright (1 is upright already)."""


def decode(path: str | PathLike[str], size: int | None, *, shorter: int | None = None) -> Pillow.Image:
    """Decode the first frame of a picture file and turn it upright; `size` is only checked, not applied.

    With `shorter`, a JPEG file may come smaller, by a power of two, if its shorter side keeps so many pixels.

    Raises:
        UserError: If the file is missing, unreadable, no picture, broken, too small or too large.
    """
    path = Path(path)
    _check_size(size)
    _check_file(path)
    with warnings.catch_warnings():
        # Pillow warns of broken metadata and, below MAXIMUM_PIXELS, of many pixels: neither harms the pixels.
        warnings.simplefilter("ignore")
        return _decode_first_frame(path, size, shorter)


def _decode_first_frame(path: Path, size: int | None, shorter: int | None) -> Pillow.Image:
    try:
        # From an open file, not a path: Pillow 13 memory-maps uncompressed TIFF by path and turns it wrongly.
        with path.open("rb") as file, Pillow.open(file, formats=FORMATS) as picture:
            _check_sides(path, *picture.size, size)
            if shorter is not None:
                factor = shorter / min(picture.size)
                picture.draft(None, (math.ceil(picture.width * factor), math.ceil(picture.height * factor)))
            picture.load()
            return _turned_upright(picture)
    except UserError:
        raise
    except PermissionError as cause:
        raise _no_permission(path) from cause
    except Pillow.DecompressionBombError as cause:
        raise _too_many_pixels(path, str(cause)) from cause
    except UnidentifiedImageError as cause:
        known = ", ".join(FORMATS)
        cure = f"name a picture file ({known}); renaming another file does not convert it"
        raise error(f"{path} must hold a picture", got="content of no known format", cure=cure) from cause
    except Exception as cause:  # a broken file can raise nearly anything from inside Pillow's decoders
        rule, got = f"{path} must be a whole, undamaged picture", f"a decoding failure ({cause!r})"
        raise error(rule, got=got, cure="copy or export the file again") from cause


def _turned_upright(picture: Pillow.Image) -> Pillow.Image:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF that cannot be parsed names no orientation; the pixels are fine
        orientation = 1
    transpose = _UPRIGHT.get(orientation)
    return picture if transpose is None else picture.transpose(transpose)


def _check_size(size: int | None) -> None:
    if size is not None:
        check_range(size, what="size", low=MINIMUM_SIDE)


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise error(f"{path} must be a picture file", got="a folder", cure="name one file in it")
        if not path.exists():
            raise _missing(path)
        if not path.is_file():
            raise error(f"{path} must be a regular file", got="a device or pipe", cure="save it to a file")
        if path.stat().st_size == 0:
            raise error(f"{path} must hold a picture", got="an empty file (0 bytes)", cure="copy it again")
    except PermissionError as cause:
        raise _no_permission(path) from cause
    except OSError as cause:
        raise unusable_path(path, cause) from cause


def unusable_path(path: Path, cause: OSError) -> UserError:
    """Explain a path that the file system refuses, such as one that is too long."""
    return error(f"{str(path)[:80]!r} must name a file", got=cause.strerror, cure="check the path")


def _missing(path: Path) -> UserError:
    if not path.parent.is_dir():
        return error(f"{path} must exist", got=f"no folder {path.parent}", cure="check the path")
    pictures = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES]
    if not pictures:
        return error(f"{path} must exist", got=f"no picture at all in {path.parent}", cure="check the path")
    closest = heapq.nlargest(5, pictures, key=lambda name: _similarity(name, path.name))
    return UserError(f"{path} does not exist; {near(path.name, closest)}")


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _no_permission(path: Path) -> UserError:
    cure = "change the permissions of the file or its folder"
    return error(f"{path} must be readable", got="permission denied", cure=cure)


def _check_sides(path: Path, width: int, height: int, size: int | None) -> None:
    """Raise unless the picture, as it is and once fitted to `size`, is neither too small nor too large."""
    got = f"{width} x {height} (width x height)"
    if min(width, height) < MINIMUM_SIDE:
        rule = f"{path}: both sides must be at least {MINIMUM_SIDE} px"
        raise error(rule, got=got, cure="choose a larger or less elongated picture")
    if width * height > MAXIMUM_PIXELS:
        raise _too_many_pixels(path, got)
    if size is not None:
        _check_fitted(path, width, height, size)


def _check_fitted(path: Path, width: int, height: int, size: int) -> None:
    shorter, longer = sorted(fitted(height, width, size))
    got = f"{longer} x {shorter} at size {size}"
    if shorter < MINIMUM_SIDE:
        least = -(-MINIMUM_SIDE * max(width, height) // min(width, height))
        rule = f"{path}: the shorter side must stay at least {MINIMUM_SIDE} px"
        raise error(rule, got=got, cure=f"pass size {least} or more")
    if shorter * longer > MAXIMUM_PIXELS:
        raise _too_many_pixels(path, got, cure="pass a smaller size")


def _too_many_pixels(path: Path, got: str, *, cure: str = "shrink the picture first") -> UserError:
    return error(f"{path}: a picture may have at most {MAXIMUM_PIXELS:,} pixels", got=got, cure=cure)
