"""Images and masks that arrive as arrays, or as what reads them: what they must be, and how to mend what is not."""

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
"""An image, or what reads one. Pairs call those that compare equal once."""

NEAR = (-0.5, 1.5)
"""Where a function of arrays takes values, as they may come of computing; beyond, they are of another range."""

OVERSHOOT = (-1.0, 2.0)
"""What is clipped where an image is written; beyond, values are of another range."""

_WHITES = {"uint8": "255", "uint16": "65535"}


def host_image(image: ArrayLike, what: str) -> HostImage:
    """Return a float32 host image.

    Args:
        image: Floating-point values of any precision, `height width 3` in [0, 1].
        what: What to call it: the `what` image.

    Raises:
        UserError: If it is anything else.
    """
    name = f"the {what} image"
    found = as_array(image, name)
    _check_shape(found.shape, name)
    _check_type(found.dtype, name)
    values = np.asarray(found).astype(np.float32)
    _check_values(values, name)
    return values


def as_image(image: Any, what: str, *, values: bool = True) -> Image:
    """Return an image for a function of arrays that may be traced: float32, or wider where it is wider.

    Values are looked at only where they are at hand: those of an argument under `jax.jit` are not.

    Args:
        image: Floating-point values `height width 3`, about in [0, 1].
        what: What to call it: the `what` image.
        values: Whether to look at the values at all.

    Raises:
        UserError: If it is anything else.
    """
    name = f"the {what} image"
    found = as_array(image, name)
    _check_shape(found.shape, name)
    _check_type(found.dtype, name)
    if values and not isinstance(found, Tracer) and getattr(found, "is_fully_addressable", True):
        _check_values(np.asarray(jax.device_get(found), np.float32), name, limits=NEAR)
    return widen(jnp.asarray(found))


def as_mask(mask: Any, what: str) -> HostAlpha:
    """Return a float32 host mask.

    Args:
        mask: Floating-point values `height width` in [0, 1], or truth values.
        what: What to call it: the `what` mask.

    Raises:
        UserError: If it is anything else.
    """
    name = f"the {what} mask"
    found = as_array(mask, name)
    if len(found.shape) != 2 or 0 in found.shape:
        raise error(f"{name} must have shape (height, width)", got=tuple(found.shape), cure="take one channel of it")
    if found.dtype != np.bool_:
        _check_type(found.dtype, name)
    values = np.asarray(found).astype(np.float32)
    _check_values(values, name)
    return values


def to_write(values: Any, name: str, *, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return float32 values in [0, 1] to be written: those of an image or, given its shape, of its opacity.

    Args:
        values: Floating-point values, which are clipped where they are a little outside.
        name: What to call them, with the article.
        shape: Height and width of the image.

    Raises:
        UserError: If they are anything else.
    """
    found = as_array(values, name)
    if shape is None:
        _check_shape(found.shape, name)
    elif tuple(found.shape) != shape:
        raise error(f"the alpha of this image must have shape {shape}", got=tuple(found.shape))
    _check_type(found.dtype, name)
    unit = np.asarray(found).astype(np.float32)
    _check_values(unit, name, limits=OVERSHOOT)
    return np.clip(unit, 0, 1)


def as_array(value: Any, what: str) -> Any:
    """Return what has a shape and a type of numbers, as it is or as a NumPy array.

    Args:
        value: An array of any library, or nested lists.
        what: What to call it, with its article.

    Raises:
        UserError: If it is no array: a path, an image of Pillow's, nothing, or something else.
    """
    if isinstance(value, str | bytes | os.PathLike):
        raise error(f"{what} must be an array", got=f"the path {value!r}", cure="read it with swag_jax.read_image")
    if isinstance(value, Pillow.Image):
        cure = 'pass np.asarray(image.convert("RGB"), np.float32) / 255'
        raise error(f"{what} must be an array", got=f"a PIL image of mode {value.mode}", cure=cure)
    if isinstance(value, np.ndarray | jax.Array):
        return value
    try:
        found = np.asarray(value)
    except Exception as problem:  # arrays of other libraries fail in ways of their own
        raise error(f"{what} must be an array", got=f"{type(value).__name__} ({problem})") from problem
    if found.dtype == object:
        raise error(f"{what} must be an array", got=type(value).__name__, cure="pass a NumPy or JAX array")
    return found


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise error(f"{name} must have shape (height, width, 3)", got=tuple(shape), cure=_shape_cure(shape))


def _shape_cure(shape: tuple[int, ...]) -> str | None:
    """Say how to turn an array into an image, where its shape tells what it is."""
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


def _check_values(values: np.ndarray, name: str, *, limits: tuple[float, float] = (0, 1)) -> None:
    """Raise unless all values are finite and in range."""
    least, most = float(values.min()), float(values.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        broken = np.count_nonzero(~np.isfinite(values))
        raise error(f"{name} must be finite", got=f"{broken} of {values.size} values that are NaN or infinite")
    if limits[0] <= least and most <= limits[1]:
        return
    if most > OVERSHOOT[1]:
        cure = f"divide by {255 if most <= 255 else 65535}"
    else:
        cure = "clip it, or map [-1, 1] by (x + 1) / 2" if least < 0 else "clip it"
    raise error(f"{name} must lie in [0, 1]", got=f"[{least:g}, {most:g}]", cure=cure)


def called(read: Callable[[], ArrayLike], what: str) -> ArrayLike:
    """Return what `read` reads; whatever goes wrong in it is a `UserError`."""
    try:
        return read()
    except UserError:
        raise
    except Exception as problem:
        raise error(f"the {what} image must be readable", got=f"{type(problem).__name__}: {problem}") from problem
