"""The style `swirls`: a night sky of short thick strokes that turn around stars, over hills and a cypress."""

import numpy as np
from PIL import Image

from swag_jax.images.samples._brush import Brush, blank, finish, lay, pick, scatter
from swag_jax.images.samples._field import (
    Canvas,
    Field,
    clamp,
    f32,
    fractal,
    mix,
    noise,
    palette,
    ramp,
    step,
    tint,
)

ASPECT = 1.25

_NIGHT = palette("0b1436 14286a 1f47a0 3c74c4 7fb2da c9dfd8 2b5cb4 12225c 0d1b4b")
_GLOW = palette("fff6c0 ffe169 f7b733 d99a2b 7fa37a 2e62a8")
_HILLS = palette("0d2340 16405e 2a6f7c 4d9a83 143a66 0a1c3c")
_CYPRESS = palette("080d14 14241c 2b3f22 4a4a24 0c1512")
_WINDOW = tint("ffc94a")
_VORTICES = ((0.56, 0.33, 0.17, 1.0), (0.86, 0.43, 0.11, -1.0), (0.30, 0.12, 0.08, -1.0))
"""Center x, center y, radius, sense of turning."""
_STARS = (
    (1.10, 0.14, 0.105), (0.47, 0.10, 0.045), (0.70, 0.09, 0.050), (0.88, 0.19, 0.045), (0.08, 0.10, 0.055),
    (0.37, 0.30, 0.050), (0.10, 0.38, 0.042), (1.17, 0.45, 0.045), (0.36, 0.52, 0.055), (0.72, 0.56, 0.034),
)  # fmt: skip
"""Center x, center y, radius; the first is the moon."""
_HOUSES = ((0.52, 0.86), (0.60, 0.89), (0.67, 0.85), (0.76, 0.88), (0.84, 0.86), (0.93, 0.89), (1.03, 0.87))


def draw(canvas: Canvas) -> Field:
    """Paint the picture: three passes from broad to fine, then stars and lights."""
    rng = np.random.default_rng(7)
    target = _target(Canvas(360, 450, ASPECT))
    paint = blank(canvas, _NIGHT[1])
    passes = (
        Brush(2600, 0.13, 0.024, bristles=4, jitter=0.035, shade=0.05),
        Brush(6000, 0.075, 0.012, bristles=3, jitter=0.045, shade=0.06),
        Brush(5000, 0.042, 0.0075, bristles=2, jitter=0.05, shade=0.07),
    )
    for brush in passes:
        starts = scatter(canvas, brush.count, rng)
        lay(paint, canvas, starts, pick(target, starts, canvas), _flow, brush, rng)
    _rings(paint, canvas, rng)
    _village(paint, canvas, target, rng)
    return finish(paint, canvas)


def _ridge(x: Field, level: float, seed: int) -> Field:
    """Height of the crest of a row of hills, as y."""
    return level + 0.06 * np.sin(x * 5.2 + seed) + 0.05 * noise(x * 3.0, x * 0.0, seed)


def _cypress(x: Field, y: Field) -> Field:
    """Give 1 inside the cypress, a flame on the left, and 0 outside."""
    sway = 0.205 + 0.022 * np.sin(y * 9.0) + 0.03 * (y - 1.0)
    rise = clamp((y - 0.16) / 0.84)
    half = 0.105 * rise**0.75 * (1.0 + 0.35 * noise(x * 0.0, y * 16.0, 5))
    second = step(0.05 * clamp((y - 0.45) / 0.55) ** 0.7 - np.abs(x - sway - 0.1), -0.005, 0.005)
    return np.maximum(step(half - np.abs(x - sway), -0.006, 0.006), second)


def _flow(points: Field) -> Field:
    """Direction of the strokes at points `(n, 2)`."""
    x, y = points[..., 0], points[..., 1]
    dx, dy = 1.0 + 0.0 * x, 0.35 * np.sin(x * 6.0 + y * 4.0) + 0.5 * fractal(x * 2.5, y * 4.0, 11, 2)
    for cx, cy, radius, sense in (*_VORTICES, *((*star, 1.0) for star in _STARS)):
        ox, oy = x - cx, y - cy
        pull = 5.0 * np.exp(-(ox * ox + oy * oy) / (1.4 * radius * radius))
        norm = np.sqrt(ox * ox + oy * oy) + 1e-4
        dx, dy = dx - sense * pull * oy / norm, dy + sense * pull * ox / norm
    crest = np.float32(0.045)
    slope = (_ridge(x + crest, 0.76, 3) - _ridge(x - crest, 0.76, 3)) / (2 * crest)
    land, tree = step(y - _ridge(x, 0.70, 3), -0.02, 0.02), _cypress(x, y)
    flow = mix(np.stack([dx, dy], -1), np.stack([0.0 * x + 1.0, slope * 1.6], -1), land)
    return mix(flow, np.stack([0.35 * np.sin(y * 22.0 + x * 9.0), 0.0 * x - 1.0], -1), tree)


def _sky(x: Field, y: Field) -> Field:
    """Color of the sky: bands along the flow, spirals in the vortices, halos around the stars."""
    warp = fractal(x * 2.2, y * 3.4, 21, 3)
    band = 0.5 + 0.5 * np.sin(y * 21.0 + 5.0 * warp + 3.0 * np.sin(x * 5.0))
    for cx, cy, radius, sense in _VORTICES:
        distance = np.hypot(x - cx, y - cy)
        spiral = 0.5 + 0.5 * np.sin(distance * 75.0 - sense * 2.0 * np.arctan2(y - cy, x - cx))
        band = band + (spiral - band) * np.exp(-((distance / radius) ** 4))
    color = ramp(0.1 + 0.62 * band * (0.65 + 0.5 * y), _NIGHT)
    for index, (cx, cy, radius) in enumerate(_STARS):
        distance = np.hypot(x - cx, y - cy) / radius
        color = mix(color, ramp(distance / 1.9, _GLOW), clamp(1.3 * np.exp(-(distance**2) / 1.7)))
        if index == 0:
            hollow = np.hypot(x - cx + 0.022, y - cy + 0.008) / radius
            color = mix(color, _GLOW[2], 0.75 * step(-hollow, -0.42, -0.30))
    return color


def _target(canvas: Canvas) -> Field:
    """The picture that the strokes approach."""
    x, y = canvas.grid()
    color = _sky(x, y)
    for level, seed, shift in ((0.70, 3, 0.15), (0.80, 8, 0.45)):
        crest = _ridge(x, level, seed)
        tone = shift + 0.22 * np.sin((y - crest) * 60.0 + 6.0 * x) + 0.25 * fractal(x * 7, y * 12, seed, 3)
        color = mix(color, ramp(clamp(tone + 0.2), _HILLS), step(y - crest, 0.0, 0.008))
    for hx, hy in _HOUSES:
        color = _house(color, x, y, hx, hy)
    bark = 0.5 + 0.5 * np.sin(x * 95.0 + 7.0 * np.sin(y * 14.0))
    return mix(color, ramp(bark, _CYPRESS), _cypress(x, y))


def _house(color: Field, x: Field, y: Field, hx: float, hy: float) -> Field:
    """Set one house with a steep roof and a lit window into the picture."""
    wall = (np.abs(x - hx) < 0.032) & (np.abs(y - hy) < 0.024)
    roof = (y < hy - 0.02) & (np.abs(x - hx) < (y - hy + 0.066) * 0.85)
    window = (np.abs(x - hx) < 0.013) & (np.abs(y - hy) < 0.012)
    for shape, paint in ((wall, tint("3f6fa0")), (roof, tint("1a2c58")), (window, _WINDOW)):
        color = mix(color, paint, shape.astype(np.float32))
    return color


def _rings(paint: Image.Image, canvas: Canvas, rng: np.random.Generator) -> None:
    """Lay the bright rings of each star and the white of its heart."""
    for cx, cy, radius in _STARS:
        for ring in (1.0, 0.72, 0.45, 0.2):
            count = int(30 * ring + 5)
            angle = rng.uniform(0.0, 2 * np.pi, count)
            reach = radius * ring * rng.normal(1.0, 0.08, count)
            starts = np.stack([cx + reach * np.cos(angle), cy + reach * np.sin(angle)], -1).astype(np.float32)
            colors = ramp(np.full(count, ring * 0.42), _GLOW)
            brush = Brush(count, 0.030, 0.009, bristles=2, jitter=0.04, shade=0.05)
            lay(paint, canvas, starts, colors, _flow, brush, rng)


def _village(paint: Image.Image, canvas: Canvas, target: Field, rng: np.random.Generator) -> None:
    """Lay short upright strokes over the houses, so that their walls and windows stand out."""
    for hx, hy in _HOUSES:
        spread = rng.uniform((-0.034, -0.06), (0.034, 0.028), (110, 2))
        starts = (spread + f32((hx, hy))).astype(np.float32)
        colors = pick(target, starts, canvas)
        brush = Brush(110, 0.011, 0.0065, bristles=1, jitter=0.03, bend=2)
        lay(paint, canvas, starts, colors, lambda p: f32((0.2, 1.0)) + 0.0 * p, brush, rng)
