"""The style `dots`: a bright afternoon by a river in points of pure color, each beside its complement."""

import numpy as np
from PIL import Image, ImageDraw

from swag_jax.images.samples._brush import pick, scatter
from swag_jax.images.samples._field import (
    Canvas,
    Color,
    Field,
    clamp,
    f32,
    fractal,
    mix,
    noise,
    palette,
    ramp,
    solid,
    step,
    tint,
)

ASPECT = 1.25

_SKY = palette("8fc3ea b9dcf0 f3ecd2 ffe0b0")
_RIVER = palette("5aa0d0 8cc8e0 d6ecec 3f7fb8 79b8d8")
_LAWN = palette("3f7a2c 7fb53c c9d94f ecdf6b 5f9a35")
_SHADE = palette("1d3f5e 24604a 3c4f8a 2f7a4a")
_LEAVES = palette("1f5a34 2f8a3e 86b83a d8c84a 2a5f7a 173f4a")
_TREES = ((0.16, 0.24, 0.20), (0.33, 0.14, 0.16), (1.10, 0.20, 0.19), (0.96, 0.36, 0.11), (0.02, 0.10, 0.17))
"""Center x, center y, radius of the crowns."""
_SAILS = ((0.58, 0.43, 0.075), (0.71, 0.41, 0.055), (0.80, 0.45, 0.085))
_PEOPLE = (
    (0.47, 0.80, 0.24, tint("3b2a6b"), tint("e2452f")), (0.60, 0.76, 0.17, tint("c23a5a"), tint("f7c53a")),
    (0.77, 0.84, 0.27, tint("1f2f66"), tint("f08a2c")), (0.30, 0.72, 0.14, tint("e9e2d0"), tint("4a5fb0")),
    (0.93, 0.72, 0.13, tint("7a2f7a"), tint("ef6a5a")),
)  # fmt: skip
"""Foot x, foot y, height, color of the dress, color of the parasol."""
_PASSES = ((7000, 0.0100, 0.05), (15000, 0.0066, 0.09), (15000, 0.0046, 0.12))
"""Number of points, their radius, and the spread of their color, from the first pass to the last."""


def draw(canvas: Canvas) -> Field:
    """Set the points, coarse to fine."""
    rng = np.random.default_rng(23)
    target = _target(Canvas(400, 500, ASPECT))
    paint = Image.new("RGB", (canvas.width, canvas.height), (233, 222, 192))
    pen, scale = ImageDraw.Draw(paint), canvas.height
    for count, radius, spread in _PASSES:
        points = scatter(canvas, count, rng)
        inks = (255 * _split(pick(target, points, canvas), spread, rng)).astype(np.uint8)
        sizes = scale * radius * rng.uniform(0.75, 1.15, len(points))
        for (x, y), size, ink in zip((points * scale).tolist(), sizes.tolist(), inks.tolist(), strict=True):
            pen.ellipse((x - size, y - size, x + size, y + size), fill=tuple(ink))
    return np.asarray(paint, np.float32) / 255.0


def _split(colors: Field, spread: float, rng: np.random.Generator) -> Field:
    """Replace colors by purer neighbors: saturated, scattered, now and then the complement or a light."""
    gray = colors.mean(axis=-1, keepdims=True)
    pure = gray + 1.35 * (colors - gray) + rng.normal(0.0, spread, colors.shape)
    chance = rng.random((len(colors), 1))
    pure = np.where(chance < 0.07, gray - 0.75 * (colors - gray) + 0.06, pure)
    pure = np.where(chance > 0.88, 0.55 * pure + 0.45 * f32((1.0, 0.93, 0.66)), pure)
    return clamp(pure.astype(np.float32))


def _target(canvas: Canvas) -> Field:
    """The scene that the points approach."""
    x, y = canvas.grid()
    color = ramp(clamp(y / 0.42 + 0.12 * fractal(x * 3, y * 6, 1, 3)), _SKY)
    far = 0.375 + 0.02 * noise(x * 9, x * 0, 2) + 0.01 * noise(x * 31, x * 0, 3)
    color = mix(color, ramp(clamp(0.5 + 0.5 * noise(x * 25, y * 30, 4)), palette("7fa08a 5f8f9a a9b87a")),
                step(y - far, 0.0, 0.006))  # fmt: skip
    ripple = 0.5 + 0.5 * np.sin(y * 120 + 3 * noise(x * 6, y * 20, 5)) * noise(x * 7, y * 40, 6)
    color = mix(color, ramp(ripple, _RIVER), step(y - 0.44, 0.0, 0.005))
    for place in _SAILS:
        color = _sail(color, x, y, *place)
    bank = 0.60 - 0.16 * step(x, 0.75, 1.3) - 0.10 * step(-x, -0.5, -0.1) + 0.012 * noise(x * 14, x * 0, 7)
    lawn = ramp(clamp(0.45 + 0.35 * fractal(x * 6, y * 16, 8, 3) + 0.3 * (y - 0.7)), _LAWN)
    shade = step(fractal(x * 2.2 + 2 * y, y * 7.0, 9, 2) + 1.6 * (y - 0.82), -0.06, 0.06)
    lawn = mix(lawn, ramp(clamp(0.5 + 0.5 * noise(x * 30, y * 40, 10)), _SHADE), 0.85 * shade)
    color = mix(color, lawn, step(y - bank, 0.0, 0.006))
    for crown in _TREES:
        color = _tree(color, x, y, *crown)
    for person in _PEOPLE:
        color = _person(color, x, y, *person)
    return color


def _sail(color: Field, x: Field, y: Field, cx: float, foot: float, height: float) -> Field:
    """Add a white sail with its hull and its reflection."""
    rise = (foot - y) / height
    half = 0.32 * height * (1.0 - rise)
    color = mix(color, (0.99, 0.96, 0.88), solid((np.abs(x - cx) < half) & (rise > 0) & (rise < 1)))
    mirror = (y - foot - 0.012) / height
    below = (np.abs(x - cx) < 0.32 * height * (1 - mirror)) & (mirror > 0) & (mirror < 1)
    color = mix(color, (0.93, 0.93, 0.9), 0.5 * below)
    hull = (np.abs(y - foot - 0.005) < 0.007) & (np.abs(x - cx) < 0.4 * height)
    return mix(color, tint("5a2d20"), solid(hull))


def _tree(color: Field, x: Field, y: Field, cx: float, cy: float, radius: float) -> Field:
    """Add a tree: a trunk down to the lawn and a crown lit from the right."""
    trunk = (np.abs(x - cx - 0.01 * np.sin(y * 20)) < 0.09 * radius) & (y > cy) & (y < 0.46 + radius)
    color = mix(
        color,
        ramp(clamp(0.5 + (x - cx) / radius * 5), palette("2a2244 6b4030 b8803f")),
        solid(trunk),
    )
    ragged = 1.0 + 0.28 * fractal(x * 14, y * 14, 13, 3)
    distance = np.hypot(x - cx, (y - cy) * 1.05) / (radius * ragged)
    light = 0.45 + 0.38 * (x - cx) / radius - 0.35 * (y - cy) / radius + 0.35 * fractal(x * 18, y * 18, 14, 2)
    return mix(color, ramp(clamp(0.75 - 0.75 * light), _LEAVES[::-1]), step(1.0 - distance, 0.0, 0.06))


def _person(
    color: Field, x: Field, y: Field, cx: float, foot: float, height: float, dress: Color, parasol: Color
) -> Field:
    """Add a person who stands with a parasol and casts a shadow on the lawn."""
    rise, side = (foot - y) / height, (x - cx) / height
    shadow = step(1.0 - np.hypot((side + 0.28) / 0.42, (rise - 0.0) / 0.05), 0.0, 0.3)
    color = mix(color, _SHADE[0], 0.85 * shadow)
    half = np.where(rise < 0.5, 0.17 - 0.2 * rise, 0.05 + 0.10 * np.sin(np.clip((rise - 0.5) * 9, 0, np.pi)))
    body = solid((np.abs(side) < half) & (rise > 0) & (rise < 0.80))
    lit = mix(dress, (1.0, 0.9, 0.7), 0.35 * step(side, 0.0, 0.15))
    color = mix(color, lit, body)
    head = solid(np.hypot(side, rise - 0.85) < 0.07)
    color = mix(color, tint("f0c49a"), head)
    dome = solid((np.hypot((side - 0.04) / 0.27, (rise - 0.90) / 0.22) < 1) & (rise > 0.90))
    bright = mix(parasol, (1.0, 0.95, 0.75), 0.5 * step(side, 0.0, 0.3))
    return mix(color, bright, dome)
