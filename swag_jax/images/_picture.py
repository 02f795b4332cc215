"""Pictures that arrive as arrays, or as what reads them: what they must be."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import ArrayLike

from swag_jax._checks import UserError, error
from swag_jax._types import HostImage

Picture: TypeAlias = ArrayLike | Callable[[], ArrayLike]
"""A picture, or what reads one. Pairs call those that compare equal once."""


def as_picture(image: ArrayLike, what: str) -> HostImage:
    """Return a float32 host picture; raise if it is not `height width 3` with finite values in [0, 1]."""
    picture = np.asarray(image)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise error(f"the {what} picture must have shape (height, width, 3)", got=picture.shape)
    if not np.issubdtype(picture.dtype, np.floating):
        raise error(
            f"the {what} picture must have floating-point values in [0, 1]",
            got=picture.dtype,
            cure="divide 8-bit values by 255",
        )
    low, high = float(picture.min()), float(picture.max())
    if not (low >= 0 and high <= 1):
        cure = "divide by 255" if high > 1 else "clip it"
        raise error(f"the {what} picture must lie in [0, 1]", got=f"[{low:g}, {high:g}]", cure=cure)
    return picture.astype(np.float32)


def called(read: Callable[[], ArrayLike], what: str) -> ArrayLike:
    """Return what `read` reads; whatever goes wrong in it is a `UserError`."""
    try:
        return read()
    except UserError:
        raise
    except Exception as problem:
        raise error(f"the {what} picture must be readable", got=f"{type(problem).__name__}: {problem}") from problem
