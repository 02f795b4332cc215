"""Brushes: strokes that follow a flow, laid over each other as thick paint and lit from the side.

Paint is an RGBA picture whose fourth channel is the thickness of the paint, so one drawing call lays
color and relief together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from swag_jax.images.samples._field import Canvas, Color, Field, bump, clamp

_LIGHT = 2.3
"""Direction of the light on the paint, radians: from the upper left."""


@dataclass(frozen=True)
class Brush:
    """What the strokes of one pass have in common; lengths are fractions of the picture's height.

    Attributes:
        count: Number of strokes.
        length: Length of a stroke.
        width: Width of a stroke.
        bristles: Number of parallel hairs, each with a shade of its own.
        shade: Standard deviation of the lightness from hair to hair.
        jitter: Standard deviation of the color from stroke to stroke.
        bend: Number of points of a stroke.
    """

    count: int
    length: float
    width: float
    bristles: int = 3
    shade: float = 0.05
    jitter: float = 0.05
    bend: int = 6


def blank(canvas: Canvas, color: Color) -> Image.Image:
    """Prime a canvas: an even color of middle thickness."""
    paint = tuple(round(255 * channel) for channel in color)
    return Image.new("RGBA", (canvas.width, canvas.height), (*paint, 90))


def scatter(canvas: Canvas, count: int, rng: np.random.Generator) -> Field:
    """Draw about `count` points evenly over the canvas and slightly past its border, in random order."""
    columns = max(1, round((count * canvas.aspect) ** 0.5))
    rows = max(1, round(columns / canvas.aspect))
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    points = (cells + rng.uniform(0.0, 1.0, cells.shape)) / (columns, rows)
    points = points * 1.06 - 0.03
    return rng.permutation(points * (canvas.aspect, 1.0)).astype(np.float32)


def pick(picture: Field, points: Field, canvas: Canvas) -> Field:
    """Read a picture of the whole canvas at some points, the nearest pixel each."""
    height, width = picture.shape[:2]
    column = np.clip(points[..., 0] * (width / canvas.aspect), 0, width - 1).astype(np.int32)
    row = np.clip(points[..., 1] * height, 0, height - 1).astype(np.int32)
    return picture[row, column]


def follow(starts: Field, flow: Callable[[Field], Field], length: float, bend: int) -> Field:
    """Trace the flow from each start, half of `length` backward and half forward.

    Args:
        starts: Points `(strokes, 2)`.
        flow: Gives the direction at points `(strokes, 2)`; only its direction counts.
        length: Length of the traces.
        bend: Number of points of each trace.

    Returns:
        The traces, `(strokes, bend, 2)`.
    """
    stride = length / (bend - 1)
    point, path = starts, [starts]
    for index in range(1, bend):
        if index == (bend + 1) // 2:
            point, path, stride = starts, path[::-1], -stride
        direction = flow(point)
        norm = np.sqrt(np.sum(direction * direction, axis=-1, keepdims=True)) + 1e-6
        point = point + np.float32(stride) * direction / norm
        path.append(point)
    return np.stack(path, axis=1)


def _hairs(path: Field, width: float, bristles: int) -> Field:
    """Shift each trace sideways into parallel hairs, `(strokes, bristles, bend, 2)`."""
    along = np.gradient(path, axis=1)
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    across = across / (np.sqrt(np.sum(across * across, axis=-1, keepdims=True)) + 1e-6)
    offsets = (np.arange(bristles) - (bristles - 1) / 2) * (width / bristles)
    taper = np.sin(np.linspace(0.25, np.pi - 0.25, path.shape[1]))[:, None] ** 0.5
    return path[:, None] + offsets[None, :, None, None] * (across * taper)[:, None]


def lay(
    paint: Image.Image,
    canvas: Canvas,
    starts: Field,
    colors: Field,
    flow: Callable[[Field], Field],
    brush: Brush,
    rng: np.random.Generator,
) -> None:
    """Lay one stroke at each start, in order.

    Args:
        paint: The paint so far; changed in place.
        canvas: Its canvas.
        starts: The middles of the strokes, `(strokes, 2)`.
        colors: The color of each stroke, `(strokes, 3)`.
        flow: Gives the direction of the strokes at points `(strokes, 2)`.
        brush: The brush.
        rng: Random numbers, for shades and thickness.
    """
    draw, count, hairs = ImageDraw.Draw(paint), len(starts), brush.bristles
    path = follow(starts, flow, brush.length, brush.bend)
    lines = (_hairs(path, brush.width, hairs) * canvas.height).reshape(count * hairs, -1)
    spread = brush.jitter * (0.45 + 0.7 * colors.mean(axis=-1, keepdims=True))[:, None]
    tone = colors[:, None] + spread * rng.normal(0.0, 1.0, (count, 1, 3))
    tone = tone + rng.normal(0.0, brush.shade, (count, hairs, 1))
    thick = rng.uniform(0.25, 0.8, (count, 1, 1)) + rng.uniform(-0.25, 0.2, (count, hairs, 1))
    inks = (255 * np.clip(np.concatenate([tone, thick], axis=-1), 0, 1)).astype(np.uint8).reshape(-1, 4)
    width = max(1, round(brush.width * canvas.height / hairs * 1.35))
    for line, ink in zip(lines.tolist(), inks.tolist(), strict=True):
        draw.line(line, fill=tuple(ink), width=width, joint="curve" if width > 3 else None)


def finish(paint: Image.Image, canvas: Canvas, depth: float = 0.012) -> Field:
    """Light the relief of the paint and give the picture, `(height, width, 3)`."""
    soft = paint.getchannel("A").filter(ImageFilter.GaussianBlur(canvas.height / 900))
    light = bump(np.asarray(soft, np.float32) / 255.0, canvas, _LIGHT, depth)
    color = np.asarray(paint.convert("RGB"), np.float32) / 255.0
    return clamp(color * (1.0 + 0.38 * light[..., None]) + 0.05 * np.maximum(light, 0.0)[..., None])
