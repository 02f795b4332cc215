"""From an upright Pillow image to its sRGB colors and its opacity (1 is opaque): float32 arrays in [0, 1].

Values are stored sRGB, never linear light. Pillow keeps 16 bits for gray images only; 16-bit color has 8 bits here.
"""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, TiffImagePlugin

from swag_jax._checks import error
from swag_jax._types import HostAlpha, HostImage

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's gray modes of more than 8 bits."""

INTEGER_WHITES = (2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)
"""White of a 32-bit integer image. Files do not tell it, so the least of these that holds every pixel is used."""

FLOAT_WHITES = (2**8 - 1, 2**16 - 1)
"""White of a floating-point image, by the same rule; above the last, the brightest pixel is white."""

UNIT_OVERSHOOT = 2.0
"""Floating-point images up to this are read as [0, 1] with brighter highlights, which are clipped."""

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""The TIFF tag PhotometricInterpretation and its value for inverted gray (TIFF 6.0, section 8)."""

SAMPLE_FORMAT, UNSIGNED = 339, 1
"""The TIFF tag SampleFormat and its default, unsigned integers (TIFF 6.0, section 19)."""


@contextlib.contextmanager
def readable_colors(path: object) -> Iterator[None]:
    """Turn what the colors of a file may raise into a `UserError`."""
    try:
        yield
    except (ValueError, OSError, MemoryError) as cause:
        raise error(f"{path} must hold readable colors", got=cause, cure="export the file again") from cause


def colors(image: Pillow.Image) -> HostImage:
    """Return the sRGB colors of an image, ignoring its opacity."""
    if image.mode in DEEP_MODES:
        return _deep_colors(image)
    return _unit(_to_srgb(_without_alpha(image), image.info.get("icc_profile")))


def over_white(image: Pillow.Image) -> Pillow.Image:
    """Return the sRGB colors of an image in 8 bits, over white where it is transparent."""
    if image.mode in DEEP_MODES:
        return Pillow.fromarray(np.floor(colors(image) * 255 + 0.5).astype(np.uint8))
    color = _to_srgb(_without_alpha(image), image.info.get("icc_profile"))
    if not image.has_transparency_data:
        return color
    white = Pillow.new("RGB", image.size, "white")
    return Pillow.composite(color, white, image.convert("RGBA").getchannel("A"))


def opacity(image: Pillow.Image) -> HostAlpha | None:
    """Return the opacity of an image, or `None` when every pixel is opaque."""
    if not image.has_transparency_data:
        return None
    if image.mode in DEEP_MODES:
        alpha = (np.asarray(image) != image.info["transparency"]).astype(np.float32)
    else:
        alpha = _unit(image.convert("RGBA").getchannel("A"))
    return None if alpha.all() and alpha.min() == 1 else alpha


def _unit(image: Pillow.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / np.float32(255)


def _without_alpha(image: Pillow.Image) -> Pillow.Image:
    # Stay in the color space that the embedded profile describes.
    if image.mode in ("L", "CMYK", "LAB", "RGB"):
        return image
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return image.convert("RGBA").convert("RGB") if image.has_transparency_data else image.convert("RGB")


def _to_srgb(image: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    # A profile that is broken or of another color space is ignored.
    if image.mode == "LAB":
        return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile:
        if image.mode == "L" and profile[16:20] == b"RGB ":  # ICC.1:2022, 7.2: the color space of the data
            image = image.convert("RGB")  # gray with an RGB profile is common in JPEG files
        try:
            return _converted(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # as every viewer does
    return image.convert("RGB")


def _converted(image: Pillow.Image, source: ImageCms.ImageCmsProfile) -> Pillow.Image:
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only inPlace returns None
    return converted


def _deep_colors(image: Pillow.Image) -> HostImage:
    # An embedded profile is applied to the 256 grays that Pillow can convert.
    gray = _deep_gray(image)
    profile = image.info.get("icc_profile")
    if profile is None:
        return np.repeat(gray[..., None], 3, axis=-1)
    ramp = Pillow.fromarray(np.arange(256, dtype=np.uint8)[None])
    curves = _unit(_to_srgb(ramp, profile))[0]
    channels = [np.interp(gray, np.linspace(0, 1, 256), curve) for curve in curves.T]
    return np.stack(channels, axis=-1).astype(np.float32)


def _deep_gray(image: Pillow.Image) -> HostAlpha:
    values = np.asarray(image)
    if image.mode == "I" and _tiff_tag(image, SAMPLE_FORMAT) in (None, (UNSIGNED,)):
        values = values.view(np.uint32)  # Pillow keeps unsigned integers as signed ones
    if not np.isfinite(values).all():
        raise ValueError("some pixels are not finite numbers")
    values = values.astype(np.float64)
    gray = np.clip(values / _white(image.mode, float(values.max())), 0, 1).astype(np.float32)
    return 1 - gray if _tiff_tag(image, PHOTOMETRIC) == WHITE_IS_ZERO else gray


def _tiff_tag(image: Pillow.Image, tag: int) -> object:
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _white(mode: str, brightest: float) -> int | float:
    if mode.startswith("I;16"):
        return 2**16 - 1
    if mode == "F" and brightest <= UNIT_OVERSHOOT:
        return 1
    whites = FLOAT_WHITES if mode == "F" else INTEGER_WHITES
    return next((white for white in whites if brightest <= white), brightest)
