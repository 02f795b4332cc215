"""The style `embers`: a burning evening sky of long wavy strokes over a dark fjord and a slanting bridge."""

import numpy as np
from PIL import Image

from swag_jax.images.samples._brush import Brush, blank, finish, lay, pick, scatter
from swag_jax.images.samples._field import Canvas, Field, clamp, f32, fractal, mix, noise, palette, ramp, step

ASPECT = 1.0

_FIRE = palette("7c1d12 c8321a ea5a1c f58a24 fbbb42 fde08a f79a2e e0481c a92414 f3702a")
_WATER = palette("0c2230 14404e 1f6a6b 4f9a86 a9bf8a 2b5560 10283c")
_LAND = palette("10181f 2a3a2e 4d5630 6d4a28 1a2030")
_DECK = palette("2e1a12 5c3318 8f5524 b97a38 6b3f20 3a2016")
_SUN = (0.66, 0.34)


def draw(canvas: Canvas) -> Field:
    """Paint the picture: three passes from broad to fine."""
    rng = np.random.default_rng(19)
    target = _target(Canvas(400, 400, ASPECT))
    paint = blank(canvas, _FIRE[1])
    passes = (
        Brush(1800, 0.26, 0.026, bristles=5, jitter=0.03, shade=0.045, bend=9),
        Brush(3800, 0.17, 0.012, bristles=3, jitter=0.04, shade=0.06, bend=8),
        Brush(3200, 0.10, 0.006, bristles=2, jitter=0.06, shade=0.06, bend=7),
    )
    for brush in passes:
        starts = scatter(canvas, brush.count, rng)
        lay(paint, canvas, starts, pick(target, starts, canvas), _flow, brush, rng)
    _railing(paint, canvas, rng)
    return finish(paint, canvas, depth=0.010)


def _railing(paint: Image.Image, canvas: Canvas, rng: np.random.Generator) -> None:
    """Lay the rails of the bridge over the finished strokes."""
    for lift, width in ((0.14, 0.013), (0.075, 0.009), (0.0, 0.016)):
        x = rng.uniform(-0.05, 0.75, 60)
        starts = np.stack([x, 0.60 + 0.62 * x - lift + rng.normal(0.0, 0.002, 60)], -1).astype(np.float32)
        colors = ramp(rng.random(60) * 0.8, _DECK)
        brush = Brush(60, 0.16, width, bristles=2, jitter=0.02, shade=0.04)
        lay(paint, canvas, starts, colors, lambda p: f32((0.85, 0.53)) + 0.0 * p, brush, rng)


def _height(x: Field, y: Field) -> Field:
    """The function whose level lines the sky's and the water's bands follow."""
    wave = 0.055 * np.sin(x * 5.5 + 2.0 * y) + 0.03 * np.sin(x * 11.0 - 6.0 * y)
    curl = 0.10 * noise(x * 2.3, y * 2.6, 31) + 0.05 * noise(x * 4.5, y * 5.0, 32)
    sun = -0.16 * np.exp(-((x - _SUN[0]) ** 2 + (y - _SUN[1]) ** 2) / 0.030)
    eddy = 0.07 * np.exp(-((x - 0.42) ** 2 + (y - 0.63) ** 2) / 0.016)
    return y + wave + curl + sun + eddy


def _shore(x: Field) -> Field:
    """Line between sky and fjord, as y."""
    return 0.47 + 0.025 * np.sin(x * 6.0 + 1.0) + 0.03 * noise(x * 5.0, x * 0.0, 41) - 0.05 * x


def _deck(x: Field, y: Field) -> Field:
    """Give 1 on the bridge, which climbs from the lower right to the left, and 0 elsewhere."""
    return step(y - (0.60 + 0.62 * x), -0.004, 0.004)


def _flow(points: Field) -> Field:
    """Direction of the strokes at points `(n, 2)`."""
    x, y = points[..., 0], points[..., 1]
    reach = np.float32(0.004)
    across = _height(x + reach, y) - _height(x - reach, y)
    down = _height(x, y + reach) - _height(x, y - reach)
    flow = np.stack([down, -across], -1) / (2 * reach)
    return mix(flow, np.stack([0.0 * x + 0.85, 0.0 * x + 0.53], -1), _deck(x, y))


def _target(canvas: Canvas) -> Field:
    """The picture that the strokes approach."""
    x, y = canvas.grid()
    level = _height(x, y) + 0.012 * fractal(x * 6, y * 14, 51, 3)
    tone = 0.5 + 0.5 * np.sin(level * 34.0) * (0.7 + 0.3 * np.sin(level * 11.0))
    color = ramp(clamp(0.72 * tone + 0.45 * (y - 0.1)), _FIRE)
    glow = np.exp(-(((x - _SUN[0]) ** 2 + (y - _SUN[1]) ** 2) / 0.006))
    color = mix(color, (1.0, 0.93, 0.62), clamp(1.3 * glow))
    water = ramp(clamp(0.5 + 0.5 * np.sin(level * 46.0 + 2.0 * noise(x * 4, y * 9, 61))), _WATER)
    streak = clamp(1.0 - np.abs(x - _SUN[0] - 0.05 * np.sin(y * 40)) / 0.09) * step(np.sin(level * 95.0), 0.0, 0.6)
    water = mix(water, _FIRE[4], 0.75 * streak)
    shore = _shore(x)
    color = mix(color, water, step(y - shore, 0.0, 0.01))
    hill = shore - 0.05 - 0.10 * clamp(0.30 - x) - 0.04 * noise(x * 6, x * 0.0, 71) * step(x, 0.0, 0.3)
    land = ramp(clamp(0.5 + 0.5 * np.sin(level * 60.0)), _LAND)
    color = mix(color, land, step(y - hill, 0.0, 0.008) * (1.0 - step(y - shore, 0.0, 0.01)))
    return _bridge(color, x, y)


def _bridge(color: Field, x: Field, y: Field) -> Field:
    """Add the planks of the bridge."""
    plank = ramp(0.5 + 0.5 * np.sin((y - 0.62 * x) * 55.0 + 3.0 * noise(x * 8, y * 8, 81)), _DECK)
    return mix(color, plank, _deck(x, y))
