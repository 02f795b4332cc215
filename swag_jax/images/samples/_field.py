"""Fields: smooth functions of the plane that the sample pictures are made of.

A canvas spans x in [0, aspect] rightward and y in [0, 1] downward, whatever its number of pixels, so a
picture is the same scene at every size. Colors are sRGB values in [0, 1]; fields are float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

Field: TypeAlias = Float[np.ndarray, "..."]
"""Values at some points of the plane, any shape."""

Color: TypeAlias = tuple[float, float, float]
"""One sRGB color, each channel in [0, 1]."""

Shape: TypeAlias = tuple[Field, Sequence[float]]
"""One polygon: its corners `(n, 2)` and its color."""

_TABLE = 128
_MASK_OVERSAMPLING = 2


@dataclass(frozen=True)
class Canvas:
    """The pixels of one picture and the plane that they cover.

    Attributes:
        height: Number of rows.
        width: Number of columns.
        aspect: The extent of the plane along x, its extent along y being 1.
    """

    height: int
    width: int
    aspect: float

    def grid(self) -> tuple[Field, Field]:
        """Give the coordinates x and y of all pixel centers, each `(height, width)`."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5) * np.float32(self.aspect / self.width)
        y = (np.arange(self.height, dtype=np.float32) + 0.5) / np.float32(self.height)
        return np.broadcast_to(x, (self.height, self.width)), np.broadcast_to(y[:, None], (self.height, self.width))

    def mask(self, *polygons: Sequence[tuple[float, float]] | Field) -> Field:
        """Give the coverage in [0, 1] of some polygons, with soft edges."""
        scale = _MASK_OVERSAMPLING
        image = Image.new("L", (self.width * scale, self.height * scale))
        draw = ImageDraw.Draw(image)
        for polygon in polygons:
            points = np.asarray(polygon, np.float32) * np.float32(self.height * scale)
            draw.polygon([(float(px), float(py)) for px, py in points], fill=255)
        return np.asarray(image.reduce(scale), np.float32) / 255.0

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Give the rows and columns of a rectangle, so that a small thing costs little."""
        rows = slice(max(0, int(top * self.height)), max(0, int(bottom * self.height)) + 1)
        scale = self.width / self.aspect
        return rows, slice(max(0, int(left * scale)), max(0, int(right * scale)) + 1)

    def paint(self, picture: Field, shapes: Sequence[Shape]) -> Field:
        """Paint many small polygons over a picture, in order."""
        image = Image.fromarray((255.0 * clamp(picture) + 0.5).astype(np.uint8))
        draw = ImageDraw.Draw(image)
        for corners, color in shapes:
            points = (np.asarray(corners) * self.height).reshape(-1).tolist()
            draw.polygon(points, fill=(int(255 * color[0]), int(255 * color[1]), int(255 * color[2])))
        return np.asarray(image, np.float32) / np.float32(255.0)


def f32(values: Sequence[float] | Sequence[Sequence[float]] | Field) -> Field:
    """Make a float32 array, of a color or of points."""
    return np.asarray(values, np.float32)


def solid(condition: np.ndarray) -> Field:
    """Give 1 where a condition holds and 0 elsewhere."""
    return condition.astype(np.float32)


def clamp(field: Field, low: float = 0.0, high: float = 1.0) -> Field:
    """Limit a field to an interval."""
    return np.clip(field, np.float32(low), np.float32(high))


def step(field: Field, low: float, high: float) -> Field:
    """Rise smoothly from 0 where the field is at most `low` to 1 where it is at least `high`."""
    t = clamp((field - np.float32(low)) * np.float32(1.0 / (high - low)))
    return t * t * (3.0 - 2.0 * t)


def mix(first: Field | Color, second: Field | Color, amount: Field) -> Field:
    """Go from the first color to the second as the amount, a field without channels, goes from 0 to 1."""
    first, second = f32(first), f32(second)
    return first + (second - first) * amount[..., None]


def ramp(field: Field, colors: Sequence[Color], stops: Sequence[float] | None = None) -> Field:
    """Color a field by a gradient: `colors` at `stops`, by default spread evenly over [0, 1]."""
    places = np.linspace(0.0, 1.0, len(colors)) if stops is None else stops
    channels = [np.interp(field, places, [color[c] for color in colors]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def tint(code: str) -> Color:
    """Read a color from its six hexadecimal digits.

    Example:
        >>> tint("ff0000")
        (1.0, 0.0, 0.0)
    """
    red, green, blue = (int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    return red, green, blue


def palette(codes: str) -> tuple[Color, ...]:
    """Read several colors, separated by spaces."""
    return tuple(tint(code) for code in codes.split())


def _corners(x: Field, y: Field, seed: int) -> tuple[list[Field], Field, Field]:
    """Look up the random values at the four lattice points around each point, and its offset."""
    table = np.random.default_rng(seed).uniform(-1.0, 1.0, _TABLE * _TABLE).astype(np.float32)
    column, row = np.floor(x), np.floor(y)
    left, top = column.astype(np.int32) % _TABLE, (row.astype(np.int32) % _TABLE) * _TABLE
    right, bottom = (left + 1) % _TABLE, (top + _TABLE) % (_TABLE * _TABLE)
    values = [table[top + left], table[top + right], table[bottom + left], table[bottom + right]]
    return values, x - column, y - row


def noise(x: Field, y: Field, seed: int) -> Field:
    """Smooth noise in [-1, 1] with features of size 1."""
    (a, b, c, d), u, v = _corners(x, y, seed)
    u, v = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    upper = a + (b - a) * u
    return upper + (c + (d - c) * u - upper) * v


def noise_slopes(x: Field, y: Field, seed: int) -> tuple[Field, Field, Field]:
    """Smooth noise as `noise` gives it, with its derivatives along x and y."""
    (a, b, c, d), u, v = _corners(x, y, seed)
    su, sv = u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v)
    du, dv = 6.0 * u * (1.0 - u), 6.0 * v * (1.0 - v)
    right, down, twist = b - a, c - a, a - b - c + d
    return a + right * su + down * sv + twist * su * sv, du * (right + twist * sv), dv * (down + twist * su)


def fractal(x: Field, y: Field, seed: int, octaves: int = 5, gain: float = 0.5) -> Field:
    """Sum noise over octaves, each turned, twice as fine and `gain` times as strong; about [-1, 1]."""
    total, weight, norm = np.zeros_like(x), 1.0, 0.0
    for octave in range(octaves):
        total = total + np.float32(weight) * noise(x, y, seed + octave)
        x, y = 1.6 * x - 1.2 * y + 17.3, 1.2 * x + 1.6 * y + 9.1
        norm, weight = norm + weight, weight * gain
    return total * np.float32(1.6 / norm)


def bump(field: Field, canvas: Canvas, angle: float, depth: float) -> Field:
    """Light a height field from the direction `angle` (radians, 0 from the right, growing upward).

    Returns:
        The cosine-like brightness around 0: positive on slopes that face the light.
    """
    rows, columns = np.gradient(field)
    scale = np.float32(depth * canvas.height)
    lit = scale * (rows * np.float32(np.sin(angle)) - columns * np.float32(np.cos(angle)))
    return lit / np.sqrt(1.0 + lit * lit)
