"""Pictures that the package draws itself, for demonstrations and tests.

Each picture is computed from formulas and seeded random numbers: no files, no fonts, no downloads. The same
name gives the same scene at every size, as `HostImage`: float32 `(height, width, 3)`, sRGB in [0, 1].

Contents look like photographs: clear objects, depth, gradients of light, fine texture. Styles look like works
of art: one palette each, and strokes, lines, panes or points at several scales.
"""

from collections.abc import Callable

import numpy as np

from swag_jax import _checks
from swag_jax._types import HostImage
from swag_jax.images.samples import (
    cat,
    dots,
    embers,
    harbor,
    mosaic,
    mountains,
    still_life,
    swirls,
    woodcut,
)
from swag_jax.images.samples._field import Canvas, Field

CONTENTS: tuple[str, ...] = ("harbor", "cat", "mountains", "still_life")
"""Names of the samples that look like photographs."""

STYLES: tuple[str, ...] = ("swirls", "embers", "woodcut", "mosaic", "dots")
"""Names of the samples that look like works of art."""

_PICTURES: dict[str, tuple[float, Callable[[Canvas], Field]]] = {
    "harbor": (harbor.ASPECT, harbor.draw),
    "cat": (cat.ASPECT, cat.draw),
    "mountains": (mountains.ASPECT, mountains.draw),
    "still_life": (still_life.ASPECT, still_life.draw),
    "swirls": (swirls.ASPECT, swirls.draw),
    "embers": (embers.ASPECT, embers.draw),
    "woodcut": (woodcut.ASPECT, woodcut.draw),
    "mosaic": (mosaic.ASPECT, mosaic.draw),
    "dots": (dots.ASPECT, dots.draw),
}
"""Width over height, and the drawing, of each sample."""

_SMALLEST, _LARGEST = 16, 4096
_FINEST_DRAWING = 384
"""Pictures are drawn at least this large and averaged down, so that small ones do not lose thin lines."""


def sample(name: str, *, size: int = 256) -> HostImage:
    """Draw one of the package's own pictures.

    Args:
        name: One of `CONTENTS` or `STYLES`.
        size: The longer side in pixels, 16 to 4096; the shorter follows from the picture's own shape.

    Returns:
        The picture, float32 `(height, width, 3)`, sRGB in [0, 1]; equal in every call.

    Raises:
        UserError: If there is no such sample, or the size is out of range.

    Example:
        >>> sample("harbor", size=64).shape
        (48, 64, 3)
    """
    aspect, draw = _PICTURES[_checks.check_name(name, _PICTURES, what="sample")]
    size = int(_checks.check_range(size, what="size", low=_SMALLEST, high=_LARGEST))
    height, width = round(size / max(aspect, 1.0)), round(size * min(aspect, 1.0))
    fine = max(2, -(-_FINEST_DRAWING // size))
    drawing = draw(Canvas(height * fine, width * fine, aspect))
    blocks = drawing.reshape(height, fine, width, fine, 3)
    return np.clip(blocks.mean(axis=(1, 3)), 0.0, 1.0).astype(np.float32)
