"""From an upright Pillow picture to float32 arrays in [0, 1]: its sRGB colors and its opacity.

Colors are `height width 3`, the opacity (1 is opaque) is `height width`. Values are stored sRGB, never linear
light. Pillow keeps 16 bits for gray pictures only; 16-bit color arrives here with 8 bits.
"""

import io

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, TiffImagePlugin

from swag_jax._types import HostAlpha, HostImage

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's gray modes of more than 8 bits."""

INTEGER_WHITES = (2**8 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)
"""White of a 32-bit integer picture: the files do not say which, so the least that holds every pixel."""

FLOAT_WHITES = (2**8 - 1, 2**16 - 1)
"""White of a floating-point picture, by the same rule; beyond the last, the brightest pixel is white."""

UNIT_OVERSHOOT = 2.0
"""Floating-point pictures up to this are read as [0, 1] with highlights beyond white, which are clipped."""

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""The TIFF tag PhotometricInterpretation and its value for inverted gray (TIFF 6.0, section 8)."""

SAMPLE_FORMAT, UNSIGNED = 339, 1
"""The TIFF tag SampleFormat and its default, unsigned integers (TIFF 6.0, section 19)."""


def colors(picture: Pillow.Image) -> HostImage:
    """Return the sRGB colors of a picture, ignoring its opacity.

    Raises:
        ValueError: If a pixel of a floating-point picture is not finite.
    """
    if picture.mode in DEEP_MODES:
        return _deep_colors(picture)
    return _unit(_to_srgb(_without_alpha(picture), picture.info.get("icc_profile")))


def over_white(picture: Pillow.Image) -> Pillow.Image:
    """Return the sRGB colors of a picture in 8 bits, over white where it is transparent.

    Raises:
        ValueError: If a pixel of a floating-point picture is not finite.
    """
    if picture.mode in DEEP_MODES:
        return Pillow.fromarray(np.uint8(np.floor(colors(picture) * 255 + 0.5)))
    color = _to_srgb(_without_alpha(picture), picture.info.get("icc_profile"))
    if not picture.has_transparency_data:
        return color
    white = Pillow.new("RGB", picture.size, "white")
    return Pillow.composite(color, white, picture.convert("RGBA").getchannel("A"))


def opacity(picture: Pillow.Image) -> HostAlpha | None:
    """Return the opacity of a picture, or `None` when every pixel is opaque."""
    if not picture.has_transparency_data:
        return None
    if picture.mode in DEEP_MODES:
        alpha = (np.asarray(picture) != picture.info["transparency"]).astype(np.float32)
    else:
        alpha = _unit(picture.convert("RGBA").getchannel("A"))
    return None if alpha.all() and alpha.min() == 1 else alpha


def _unit(picture: Pillow.Image) -> np.ndarray:
    """Map 8-bit values to [0, 1]."""
    return np.asarray(picture, np.float32) / np.float32(255)


def _without_alpha(picture: Pillow.Image) -> Pillow.Image:
    """Drop the opacity and the palette; stay in the color space that the embedded profile speaks of."""
    if picture.mode in ("L", "CMYK", "LAB", "RGB"):
        return picture
    if picture.mode in ("1", "LA"):
        return picture.convert("L")
    return picture.convert("RGBA").convert("RGB") if picture.has_transparency_data else picture.convert("RGB")


def _to_srgb(picture: Pillow.Image, profile: bytes | None) -> Pillow.Image:
    """Convert to sRGB by the embedded profile; one that is broken or of another color space is ignored."""
    if picture.mode == "LAB":
        return _converted(picture, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile:
        try:
            return _converted(_in_space_of(profile, picture), ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # every viewer shows such a picture as if it had no profile
    return picture.convert("RGB")


def _in_space_of(profile: bytes, picture: Pillow.Image) -> Pillow.Image:
    """Turn gray into RGB where the profile describes RGB, a common pair in gray JPEG files."""
    describes_rgb = profile[16:20] == b"RGB "  # ICC.1:2022, 7.2: the color space of the data
    return picture.convert("RGB") if picture.mode == "L" and describes_rgb else picture


def _converted(picture: Pillow.Image, source: ImageCms.ImageCmsProfile) -> Pillow.Image:
    converted = ImageCms.profileToProfile(
        picture,
        source,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None  # only inPlace returns None
    return converted


def _deep_colors(picture: Pillow.Image) -> HostImage:
    """Return deep gray as colors; an embedded profile acts through the 256 grays that Pillow can convert."""
    gray = _deep_gray(picture)
    profile = picture.info.get("icc_profile")
    if profile is None:
        return np.repeat(gray[..., None], 3, axis=-1)
    ramp = Pillow.fromarray(np.arange(256, dtype=np.uint8)[None])
    curves = _unit(_to_srgb(ramp, profile))[0]
    channels = [np.interp(gray, np.linspace(0, 1, 256), curve) for curve in curves.T]
    return np.stack(channels, axis=-1).astype(np.float32)


def _deep_gray(picture: Pillow.Image) -> HostAlpha:
    """Scale gray of 16 or 32 bits to [0, 1]."""
    values = _deep_values(picture)
    gray = np.clip(values / _white(picture.mode, float(values.max())), 0, 1).astype(np.float32)
    return 1 - gray if _tiff_tag(picture, PHOTOMETRIC) == WHITE_IS_ZERO else gray


def _deep_values(picture: Pillow.Image) -> np.ndarray:
    """Return the stored numbers; Pillow keeps 32-bit unsigned integers as signed ones."""
    values = np.asarray(picture)
    if picture.mode == "I" and _tiff_tag(picture, SAMPLE_FORMAT) in (None, (UNSIGNED,)):
        values = values.view(np.uint32)
    if not np.isfinite(values).all():
        raise ValueError("some pixels are not finite numbers")
    return values.astype(np.float64)


def _tiff_tag(picture: Pillow.Image, tag: int) -> object:
    """Read a tag of a TIFF file; `None` when it is absent, or the file of another format."""
    return picture.tag_v2.get(tag) if isinstance(picture, TiffImagePlugin.TiffImageFile) else None


def _white(mode: str, brightest: float) -> int | float:
    """Choose the value that stands for white."""
    if mode.startswith("I;16"):
        return 2**16 - 1
    if mode == "F" and brightest <= UNIT_OVERSHOOT:
        return 1
    whites = FLOAT_WHITES if mode == "F" else INTEGER_WHITES
    return next((white for white in whites if brightest <= white), brightest)
