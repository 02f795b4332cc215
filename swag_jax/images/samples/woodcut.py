"""The style `woodcut`: a breaking wave in Prussian blue and cream, cut in ink lines, hatching and foam."""

import numpy as np
from PIL import Image, ImageDraw

from swag_jax.images.samples._field import (
    Canvas,
    Color,
    Field,
    clamp,
    fractal,
    mix,
    noise,
    palette,
    ramp,
    step,
    tint,
)

ASPECT = 1.4

_PAPER, _INK = tint("efe3c4"), tint("17213a")
_SKY = palette("d9c9a3 e9dcb9 efe3c4 dccfb0 b9b39f 8f9696")
_BLUES = palette("1b3a63 2a5a8c f0e6cc 16305a 5d8fb0 1f4877 f0e6cc 24507f a9c4c6 183660")
_FOAM, _FOAM_SHADE = tint("f6efdc"), tint("a9c7cf")
_SNOW, _MOUNTAIN = tint("f4ecd8"), tint("3d5876")

_GREAT = (
    ((-0.10, 0.62), (0.02, 0.42), (0.14, 0.22), (0.32, 0.10), (0.50, 0.11), (0.62, 0.20), (0.66, 0.33)),
    ((-0.10, 1.05), (0.22, 0.98), (0.40, 0.84), (0.46, 0.66), (0.45, 0.50), (0.50, 0.38), (0.63, 0.36)),
)
"""The back and the face of the great wave, as points from its root to its tip."""
_WAVES = (
    (((0.25, 0.80), (0.60, 0.74), (0.88, 0.71), (1.12, 0.62), (1.28, 0.56), (1.45, 0.60)),
     ((0.25, 0.95), (0.60, 0.86), (0.90, 0.82), (1.14, 0.76), (1.28, 0.72), (1.45, 0.76)), 9),
    (((0.30, 0.98), (0.62, 0.86), (0.86, 0.83), (1.08, 0.86), (1.28, 0.74), (1.46, 0.68)),
     ((0.30, 1.10), (0.66, 1.00), (0.90, 0.96), (1.10, 0.98), (1.28, 0.92), (1.46, 0.90)), 10),
    (((-0.05, 0.86), (0.16, 0.80), (0.38, 0.90), (0.66, 0.99), (1.00, 0.97), (1.46, 0.89)),
     ((-0.05, 1.10), (0.16, 1.06), (0.38, 1.10), (0.66, 1.12), (1.00, 1.12), (1.46, 1.10)), 10),
)  # fmt: skip
"""The other waves: upper and lower border, and number of bands."""


def draw(canvas: Canvas) -> Field:
    """Print the picture: sky, mountain, waves from back to front, foam, then the grain of block and paper."""
    rng = np.random.default_rng(3)
    sheet = Image.fromarray((255 * _background(canvas)).astype(np.uint8))
    pen = ImageDraw.Draw(sheet)
    scale = float(canvas.height)
    _hatch_sky(pen, scale, rng)
    for upper, lower, bands in _WAVES[:1]:
        _wave(pen, scale, _curve(upper), _curve(lower), bands, rng)
    _crest(pen, scale, _curve(_WAVES[0][0])[90:], 0.018, rng)
    _wave(pen, scale, _curve(_GREAT[0]), _curve(_GREAT[1]), 17, rng)
    _great_foam(pen, scale, rng)
    for upper, lower, bands in _WAVES[1:]:
        _wave(pen, scale, _curve(upper), _curve(lower), bands, rng)
        _crest(pen, scale, _curve(upper), 0.014, rng)
    return _grain(np.asarray(sheet, np.float32) / 255.0, canvas)


def _curve(points: tuple[tuple[float, float], ...], count: int = 140) -> Field:
    """Pass a smooth curve through some points, `(count, 2)`."""
    p = np.asarray(points, np.float32)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    place = np.linspace(0.0, len(points) - 1.001, count)
    k, t = place.astype(int), (place % 1.0)[:, None].astype(np.float32)
    a, b, c, d = p[k], p[k + 1], p[k + 2], p[k + 3]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def _flat(points: Field, scale: float) -> list[float]:
    """List the coordinates of points in pixels."""
    return [float(value) for value in (points * scale).reshape(-1)]


def _fill(color: Color) -> tuple[int, int, int]:
    """Give a color as three bytes."""
    return round(255 * color[0]), round(255 * color[1]), round(255 * color[2])


def _line(pen: ImageDraw.ImageDraw, scale: float, path: Field, width: float, color: Color = _INK) -> None:
    """Cut one line that swells in its middle and thins out to its ends."""
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], -1) / (np.hypot(along[:, 0], along[:, 1]) + 1e-6)[:, None]
    swell = width * (0.25 + 0.75 * np.sin(np.linspace(0.0, np.pi, len(path))) ** 0.7)
    side = 0.5 * across * swell[:, None]
    pen.polygon(_flat(np.concatenate([path + side, (path - side)[::-1]]), scale), fill=_fill(color))


def _background(canvas: Canvas) -> Field:
    """Shade the sky from the paper's cream to gray at the horizon, with clouds and the far mountain."""
    x, y = canvas.grid()
    color = ramp(clamp(y / 0.8), _SKY)
    cloud = step(fractal(x * 2.0, y * 6.0, 5, 4), 0.1, 0.14) * (y < 0.4)
    color = mix(color, _FOAM, 0.55 * cloud)
    slope = 0.52 + 0.62 * np.abs(x - 0.94) ** 1.12 + 0.006 * noise(x * 60, x * 0, 6)
    color = mix(color, _MOUNTAIN, step(y - slope, 0.0, 0.003))
    snow = slope + 0.055 + 0.025 * np.abs(((x * 26) % 1.0) - 0.5) * 2
    return mix(color, _SNOW, step(y - slope, 0.004, 0.007) * step(snow - y, 0.0, 0.003))


def _hatch_sky(pen: ImageDraw.ImageDraw, scale: float, rng: np.random.Generator) -> None:
    """Hatch the upper sky and the mountain's foot with fine horizontal lines."""
    for level in np.concatenate([np.linspace(0.015, 0.24, 22), np.linspace(0.60, 0.78, 16)]):
        for _ in range(5):
            start, length = rng.uniform(0.0, ASPECT), rng.uniform(0.12, 0.4)
            x = np.linspace(start, start + length, 12)
            path = np.stack([x, level + 0.003 * np.sin(x * 25.0 + level * 90)], -1)
            _line(pen, scale, path, 0.0026, tint("7d8890"))


def _wave(
    pen: ImageDraw.ImageDraw, scale: float, upper: Field, lower: Field, bands: int, rng: np.random.Generator
) -> None:
    """Print one wave: colored bands between its borders, an ink line at each, fine hatching within."""
    shares = np.cumsum(np.concatenate([[0.0], rng.uniform(0.5, 1.5, bands)]))
    shares = shares / shares[-1]
    curves = [upper + (lower - upper) * share for share in shares]
    for index in range(bands):
        ring = np.concatenate([curves[index], curves[index + 1][::-1]])
        pen.polygon(_flat(ring, scale), fill=_fill(_BLUES[index % len(_BLUES)]))
        for share in np.linspace(0.2, 0.8, 3):
            _dashes(pen, scale, curves[index] + (curves[index + 1] - curves[index]) * share, index, rng)
    for curve in curves:
        _line(pen, scale, curve, 0.0065)


def _dashes(pen: ImageDraw.ImageDraw, scale: float, curve: Field, index: int, rng: np.random.Generator) -> None:
    """Cut some short fine lines along a curve: light ones in dark bands, dark ones in light bands."""
    light = sum(_BLUES[index % len(_BLUES)]) < 1.4
    for _ in range(4):
        start, length = int(rng.integers(0, len(curve) - 24)), int(rng.integers(12, 44))
        color = _BLUES[8] if light else _BLUES[1]
        _line(pen, scale, curve[start : start + length], 0.0034, color)


def _bubbles(pen: ImageDraw.ImageDraw, scale: float, bubbles: Field) -> None:
    """Draw round foam `(count, 3)` of x, y and radius: one ink outline around all, shade, then white."""
    for grow, shift, color in ((0.0042, 0.0, _INK), (0.0, 0.0, _FOAM_SHADE), (-0.12, -0.18, _FOAM)):
        for x, y, radius in bubbles.tolist():
            reach = radius + (grow if grow >= 0 else grow * radius)
            cx, cy = x + shift * radius * 0.5, y + shift * radius
            box = ((cx - reach) * scale, (cy - reach) * scale, (cx + reach) * scale, (cy + reach) * scale)
            pen.ellipse(box, fill=_fill(color))


def _claw(root: Field, angle: float, size: float, curl: float, depth: int, rng: np.random.Generator) -> list[Field]:
    """Grow one hooked finger of foam as a chain of bubbles, with smaller fingers on its outer side."""
    found, point = [], np.array(root, np.float64)
    for k in range(8):
        radius = size * 0.20 * (1.0 - k / 9.0)
        found.append(np.array([[point[0], point[1], radius]], np.float32))
        if depth and k % 2 == 1:
            found += _claw(point, angle - rng.uniform(0.5, 1.1), size * 0.45, curl * 1.1, depth - 1, rng)
        point = point + size * 0.15 * np.array([np.cos(angle), np.sin(angle)])
        angle += curl
    return found


def _great_foam(pen: ImageDraw.ImageDraw, scale: float, rng: np.random.Generator) -> None:
    """Crown the great wave with claws of foam from its shoulder to its tip, and spray drops around them."""
    edge = _curve(_GREAT[0])
    claws: list[Field] = []
    for place in range(66, 140, 5):
        heading = edge[min(place + 3, 139)] - edge[place - 3]
        angle = float(np.arctan2(heading[1], heading[0]))
        size = 0.075 + 0.05 * (place - 66) / 74 + rng.uniform(-0.01, 0.02)
        claws += _claw(edge[place], angle - 0.35, size, 0.24, 1, rng)
    face = _curve(_GREAT[1])
    for place in range(104, 140, 6):
        claws += _claw(face[place], 1.2 + rng.uniform(-0.3, 0.3), 0.075, 0.16, 1, rng)
    _bubbles(pen, scale, np.concatenate(claws))
    drops = np.stack([rng.uniform(0.45, 1.0, 90), rng.uniform(0.03, 0.62, 90), rng.uniform(0.002, 0.006, 90)], -1)
    drops = drops[drops[:, 1] > 0.12 + 0.5 * (drops[:, 0] - 0.55)]
    _bubbles(pen, scale, drops[drops[:, 0] > 0.62])


def _crest(pen: ImageDraw.ImageDraw, scale: float, edge: Field, size: float, rng: np.random.Generator) -> None:
    """Edge a wave with a row of small foam."""
    edge = np.repeat(edge, 2, axis=0)
    places = edge + np.abs(rng.normal(0.0, size * 0.5, edge.shape)) * (0.3, -1.0) + (0.0, size * 0.4)
    radius = size * (0.12 + 0.8 * rng.random((len(places), 1)) ** 2)
    _bubbles(pen, scale, np.concatenate([places, radius], -1))


def _grain(color: Field, canvas: Canvas) -> Field:
    """Let the grain of the block and the fibers of the paper show through the print."""
    x, y = canvas.grid()
    wood = fractal(x * 5.0, y * 130.0 + 5.0 * noise(x * 3, y * 3, 8), 9, 3)
    dark = clamp(1.2 - np.mean(color, axis=-1))
    color = color + (0.055 * dark * wood)[..., None]
    return clamp(color * (1.0 + 0.03 * fractal(x * 120, y * 120, 12, 2))[..., None])
