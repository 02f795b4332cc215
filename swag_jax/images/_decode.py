"""From a file to an upright Pillow image; the one place that meets broken, hostile or missing files.

Every way a file can be wrong becomes a `UserError` that names the file. The header (sides, number of pixels) is
checked before any pixel is decoded.
"""

import contextlib
import ctypes
import difflib
import functools
import math
import warnings
from collections import Counter
from os import PathLike
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError, _imaging, features

from swag_jax._checks import UserError, check_range, error, near
from swag_jax._files import what_is_missing
from swag_jax.images.resize import fitted

_AVIF = ("AVIF",) if "avif" in features.modules and features.check("avif") else ()

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", *_AVIF)
"""What is read. The list is closed: other Pillow plugins start programs (EPS). Some builds of Pillow lack AVIF."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".avif")
"""Suffixes by which images in a folder are found; reading itself goes by content."""

_EXPORT = "export it as JPEG or PNG"

# Other formats: the first bytes of their files, the name, and the cure.
_SIGNS = (
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL", _EXPORT),
    (b"\xff\x0a", "JPEG XL", _EXPORT),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000", _EXPORT),
    (b"8BPS", "Photoshop", _EXPORT),
    (b"gimp xcf", "GIMP", _EXPORT),
    (b"v/1\x01", "OpenEXR", _EXPORT),
    (b"#?RADIANCE", "Radiance HDR", _EXPORT),
    (b"%PDF", "PDF", _EXPORT),
    (b"%!PS", "PostScript", _EXPORT),
    (b"<svg", "SVG", _EXPORT),
    (b"<?xml", "SVG or other XML", _EXPORT),
    (b"\x00\x00\x01\x00", "icon", _EXPORT),
    (b"\x1aE\xdf\xa3", "video", "export its frames as PNG"),
    (b"<!DOCTYPE", "web page", "download the image itself"),
    (b"<html", "web page", "download the image itself"),
    (b"version https://git-lfs", "Git LFS pointer", "fetch the file itself: git lfs pull"),
)

# Brands of ISO media files (ISO/IEC 14496-12, 4.3) that hold images; other brands hold videos.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    b"crx ": "Canon raw",
}

_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)
"""The EXIF tag Orientation, and its values for images whose sides are exchanged (Exif 2.32, 4.6.4)."""

MINIMUM_SIDE = 16
"""Shortest side in pixels: VGG19 halves it four times before `conv5_1`, which leaves one position."""

MAXIMUM_PIXELS = 2 * (1024**3 // 4 // 3)
"""178,956,970 pixels: above it, Pillow's default raises `DecompressionBombError`."""


def decode(path: str | PathLike[str], size: int | None, *, shorter: int | None = None) -> Pillow.Image:
    """Decode the first frame of an image file and turn it upright; `size` is only checked, not applied.

    With `shorter`, a JPEG file may be decoded smaller, by a power of two, but with a shorter side of at least that.
    """
    if not isinstance(path, str | PathLike):
        raise error("an image is read from a path", got=type(path).__name__, cure="pass arrays as they are")
    path = Path(path)
    if size is not None:
        check_range(size, what="size", low=MINIMUM_SIDE)
    _check_file(path)
    _silence_libtiff()
    with warnings.catch_warnings():
        # Pillow warns of broken metadata and, below MAXIMUM_PIXELS, of many pixels: neither harms the pixels.
        warnings.simplefilter("ignore")
        return _decode_first_frame(path, size, shorter)


def header_shape(path: Path) -> tuple[int, int] | None:
    """Return height and width of an image file, upright, without decoding it; `None` if its header does not tell."""
    try:
        _check_file(path)
        with warnings.catch_warnings(), Pillow.open(path, formats=FORMATS) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            is_turned = image.getexif().get(_ORIENTATION) in _TURNED and image.format != "TIFF"  # turned by Pillow
            return (width, height) if is_turned else (height, width)
    except Exception:  # as `decode` will say when the image is read
        return None


@functools.cache
def _silence_libtiff() -> None:
    # If the library exposes its handler; the exception says the same.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _decode_first_frame(path: Path, size: int | None, shorter: int | None) -> Pillow.Image:
    try:
        # From an open file, not a path: Pillow 13 memory-maps uncompressed TIFF by path and turns it wrongly.
        with path.open("rb") as file, Pillow.open(file, formats=FORMATS) as image:
            _check_sides(path, *image.size, size)
            if shorter is not None:
                factor = shorter / min(image.size)
                image.draft(None, (math.ceil(image.width * factor), math.ceil(image.height * factor)))
            image.load()
            try:
                ImageOps.exif_transpose(image, in_place=True)
            except MemoryError:
                raise
            except Exception:  # broken EXIF; the pixels are fine
                pass
            return image
    except UserError:
        raise
    except PermissionError as cause:
        raise _no_permission(path) from cause
    except Pillow.DecompressionBombError as cause:
        raise _too_many_pixels(path, str(cause)) from cause
    except UnidentifiedImageError as cause:
        raise _unknown_format(path) from cause
    except Exception as cause:  # a broken file can raise nearly anything from inside Pillow's decoders
        if (found := _recognized(path)) and found[0] not in FORMATS:  # HEIC looks like AVIF at first
            raise _unknown_format(path) from cause
        rule, got = f"{path} must be a whole, undamaged image", f"a decoding failure ({cause!r})"
        raise error(rule, got=got, cure="copy or export the file again") from cause


def _unknown_format(path: Path) -> UserError:
    if found := _recognized(path):
        return error(f"{path} must hold an image", got=f"content of another kind ({found[0]})", cure=found[1])
    cure = f"name an image file ({', '.join(FORMATS)}); renaming another file does not convert it"
    return error(f"{path} must hold an image", got="content of no known format", cure=cure)


def _recognized(path: Path) -> tuple[str, str] | None:
    """Return the name of a file's format, and the cure."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return None
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4])), 4))]
        kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        # The general brand `mif1` comes first in files of either kind.
        kind = "AVIF" if "AVIF" in kinds else next(iter(kinds), None)
        return (kind, _EXPORT) if kind else ("video", "export its frames as PNG")
    return next((sign[1:] for sign in _SIGNS if head.lower().startswith(sign[0].lower())), None)


def left_out(folder: Path, *, deep: bool = False) -> str | None:
    """Count the files of a folder that are no images, by suffix, in one line; `None` if there are none."""
    entries = folder.rglob("*") if deep else folder.iterdir()
    others = [p for p in entries if p.suffix.lower() not in SUFFIXES and not p.name.startswith(".") and not p.is_dir()]
    if not others:
        return None
    counts = Counter(path.suffix.lower() or "without a suffix" for path in others).most_common()
    parts = [f"{n} {suffix}{': export as JPEG' * (suffix in _PHOTOGRAPHS)}" for suffix, n in counts[:_SHOWN]]
    more = [f"{len(counts) - _SHOWN} other suffixes"] * (len(counts) > _SHOWN)
    files = "1 file that is no image" if len(others) == 1 else f"{len(others)} files that are no images"
    return f"left out of {folder}: {files} ({'; '.join([*parts, *more])})"


# Suffixes of photographs in formats that are not read.
_PHOTOGRAPHS = (".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".psd")

_SHOWN = 5  # suffixes that `left_out` lists


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise error(f"{path} must be an image file", got="a folder", cure="name one file in it")
        if not path.exists():
            raise _missing(path)
        if not path.is_file():
            raise error(f"{path} must be a regular file", got="a device or pipe", cure="save it to a file")
        if path.stat().st_size == 0:
            raise error(f"{path} must hold an image", got="an empty file (0 bytes)", cure="copy it again")
    except PermissionError as cause:
        raise _no_permission(path) from cause
    except OSError as cause:
        raise unusable_path(path, cause) from cause


def unusable_path(path: Path, cause: OSError) -> UserError:
    return error(f"{str(path)[:80]!r} must name a file", got=cause.strerror, cure="check the path")


def _missing(path: Path) -> UserError:
    if got := what_is_missing(path):
        return error(f"{path} must exist", got=got, cure="mend the link, or name the file itself")
    if not path.parent.is_dir():
        return error(f"{path} must exist", got=f"no folder {path.parent}", cure="check the path")
    images = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in SUFFIXES]
    if not images:
        return error(f"{path} must exist", got=f"no image at all in {path.parent}", cure="check the path")
    lowered = {name.lower(): name for name in images}
    closest = difflib.get_close_matches(path.name.lower(), lowered, n=5, cutoff=0.0)
    return UserError(f"{path} does not exist; {near(path.name, map(lowered.__getitem__, closest))}")


def _no_permission(path: Path) -> UserError:
    cure = "change the permissions of the file or its folder"
    return error(f"{path} must be readable", got="permission denied", cure=cure)


def _check_sides(path: Path, width: int, height: int, size: int | None) -> None:
    got = f"{width} x {height} (width x height)"
    if min(width, height) < MINIMUM_SIDE:
        rule = f"{path}: both sides must be at least {MINIMUM_SIDE} px"
        raise error(rule, got=got, cure="choose a larger or less elongated image")
    if width * height > MAXIMUM_PIXELS:
        raise _too_many_pixels(path, got)
    if size is None:
        return
    shorter, longer = sorted(fitted(height, width, size))
    got = f"{longer} x {shorter} at size {size}"
    if shorter < MINIMUM_SIDE:
        least = -(-MINIMUM_SIDE * max(width, height) // min(width, height))
        rule = f"{path}: the shorter side must stay at least {MINIMUM_SIDE} px"
        raise error(rule, got=got, cure=f"pass size {least} or more")
    if shorter * longer > MAXIMUM_PIXELS:
        raise _too_many_pixels(path, got, cure="pass a smaller size")


def _too_many_pixels(path: Path, got: str, *, cure: str = "shrink the image first") -> UserError:
    return error(f"{path}: an image may have at most {MAXIMUM_PIXELS:,} pixels", got=got, cure=cure)
