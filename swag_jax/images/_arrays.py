"""Images and masks passed as arrays, or as functions that read them: their checks."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike
from PIL import Image as Pillow

from swag_jax._checks import UserError, error
from swag_jax._numerics import widen
from swag_jax._types import HostAlpha, HostImage, Image

ImageSource: TypeAlias = ArrayLike | Callable[[], ArrayLike]
"""An image, or a function that reads one. Of several pairs, functions that compare equal are called once."""

MaskSource: TypeAlias = ArrayLike | Callable[[], ArrayLike]
"""A mask, or a function that reads one."""

NEAR = (-0.5, 1.5)
"""Values that functions of arrays accept: computed images overshoot a little. Beyond, the range is a wrong one."""

OVERSHOOT = (-1.0, 2.0)
"""Values that are clipped when an image is written; beyond, the range is a wrong one."""

_WHITES = {"uint8": "255", "uint16": "65535"}


def host_image(image: ArrayLike, what: str, *, copy: bool = True) -> HostImage:
    """Return a float32 host image; a `UserError` unless it has floating-point values `height width 3` in [0, 1].

    Args:
        copy: Whether an array of the caller's, who may change it, is always copied.
    """
    name = f"the {what} image"
    return _checked(_image_array(image, name), name, copy=copy)


def as_image(image: Any, what: str, *, values: bool = True) -> Image:
    """Return an image for a function of arrays that may be traced: at least float32, about in [0, 1]."""
    name = f"the {what} image"
    found = _image_array(image, name)
    # Values of tracers, and those that lie on other processes' devices, are not at hand.
    if values and not isinstance(found, Tracer) and getattr(found, "is_fully_addressable", True):
        _checked(jax.device_get(found), name, limits=NEAR)
    return widen(jnp.asarray(found))


def check_sides(image: Any, least: int, reader: str, *, cure: str | None = None) -> None:
    """Raise unless both sides of an image have as many pixels as its reader needs."""
    if min(image.shape[:2]) < least:
        raise error(
            f"both sides must be at least {least} px for {reader}", got="{} x {}".format(*image.shape), cure=cure
        )


def as_mask(mask: Any, what: str) -> HostAlpha:
    """Return a float32 host mask of floating-point values in [0, 1], or of truth values, `height width`."""
    name = f"the {what} mask"
    found = as_array(mask, name)
    if len(found.shape) != 2 or 0 in found.shape:
        raise error(f"{name} must have shape (height, width)", got=tuple(found.shape), cure="take one channel of it")
    if found.dtype != np.bool_:
        _check_type(found.dtype, name)
    return _checked(found, name)


def to_write(values: Any, name: str, *, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return float32 values clipped to [0, 1]: an image or, if its `shape` (height, width) is given, its opacity."""
    if shape is None:
        found = _image_array(values, name)
    else:
        found = as_array(values, name)
        if tuple(found.shape) != shape:
            raise error(f"the alpha of this image must have shape {shape}", got=tuple(found.shape))
        _check_type(found.dtype, name)
    return np.clip(_checked(found, name, limits=OVERSHOOT), 0, 1)


def as_array(value: Any, what: str) -> Any:
    """Return an array of JAX or NumPy unchanged, anything else with numbers as a NumPy array."""
    if isinstance(value, str | bytes | os.PathLike):
        raise error(f"{what} must be an array", got=f"the path {value!r}", cure="read it with swag_jax.read_image")
    if isinstance(value, Pillow.Image):
        cure = 'pass np.asarray(image.convert("RGB"), np.float32) / 255'
        raise error(f"{what} must be an array", got=f"a PIL image of mode {value.mode}", cure=cure)
    if isinstance(value, np.ndarray | jax.Array):
        return value
    try:
        found = np.asarray(value)
    except Exception as problem:  # every array library has its own errors
        raise error(f"{what} must be an array", got=f"{type(value).__name__} ({problem})") from problem
    if found.dtype == object:
        raise error(f"{what} must be an array", got=type(value).__name__, cure="pass a NumPy or JAX array")
    return found


def _image_array(image: Any, name: str) -> Any:
    found = as_array(image, name)
    shape = tuple(found.shape)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise error(f"{name} must have shape (height, width, 3)", got=shape, cure=_shape_cure(shape))
    _check_type(found.dtype, name)
    return found


def _shape_cure(shape: tuple[int, ...]) -> str | None:
    if 0 in shape:
        return None
    if len(shape) == 2 or shape[-1:] == (1,):
        return "repeat the gray values as three channels"
    if len(shape) == 4:
        return "pass the images of a batch one by one, or use stylize_batch or jax.vmap"
    if len(shape) == 3 and shape[2] == 4:
        return "leave out the fourth channel, the opacity"
    if len(shape) == 3 and shape[0] == 3:
        return "move the channels to the end: np.moveaxis(image, 0, -1)"
    return None


def _check_type(dtype: Any, name: str) -> None:
    if not jnp.issubdtype(dtype, jnp.floating):
        white = _WHITES.get(str(dtype))
        cure = f"divide by {white}" if white else "convert it to float32 values in [0, 1]"
        raise error(f"{name} must have floating-point values in [0, 1]", got=dtype, cure=cure)


def _checked(found: Any, name: str, *, limits: tuple[float, float] = (0, 1), copy: bool = True) -> np.ndarray:
    """Return float32 host values if all are finite and lie within the limits."""
    values = np.asarray(found).astype(np.float32, copy=copy)
    least, most = float(values.min()), float(values.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        broken = np.count_nonzero(~np.isfinite(values))
        raise error(f"{name} must be finite", got=f"{broken} of {values.size} values that are NaN or infinite")
    if limits[0] <= least and most <= limits[1]:
        return values
    if most > OVERSHOOT[1]:
        cure = f"divide by {255 if most <= 255 else 65535}"
    else:
        cure = "clip it, or map [-1, 1] by (x + 1) / 2" if least < 0 else "clip it"
    raise error(f"{name} must lie in [0, 1]", got=f"[{least:g}, {most:g}]", cure=cure)


def called(read: Callable[[], ArrayLike], what: str, kind: str = "image") -> ArrayLike:
    """Return what `read` returns; whatever fails in it becomes a `UserError`."""
    try:
        return read()
    except UserError:
        raise
    except Exception as problem:
        raise error(f"the {what} {kind} must be readable", got=f"{type(problem).__name__}: {problem}") from problem
