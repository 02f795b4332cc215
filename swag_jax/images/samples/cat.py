"""The content `cat`: a tabby's face in soft window light, drawn hair by hair along the lie of its fur."""

import numpy as np

from swag_jax.images.samples._brush import follow, pick, scatter
from swag_jax.images.samples._field import (
    Canvas,
    Color,
    Field,
    Shape,
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

ASPECT = 1.0

_ROOM = palette("20343a 35545a 6f8f86 c9c6a2")
_FUR = palette("2e1f16 5a3c24 96663a c8925a e8c596")
_WHITE_FUR, _PINK, _DARK = tint("f3e8d8"), tint("c98578"), tint("1c1310")
_IRIS = palette("e6cf62 b4b548 7d9040 3f5428")
_EYES = ((0.395, 0.445), (0.625, 0.445))
_EYE = 0.063
"""Half width of an eye."""
_NOSE = (0.51, 0.605)
_PASSES = ((5000, 0.075, 0.0042), (13000, 0.052, 0.0026), (9000, 0.036, 0.0020))
"""Number of hairs, their length and their width, from undercoat to the finest."""


def draw(canvas: Canvas) -> Field:
    """Draw the room, then the fur, then the eyes, the nose and the whiskers over it."""
    rng = np.random.default_rng(29)
    x, y = canvas.grid()
    fine = Canvas(400, 400, ASPECT)
    coat, cover = _coat(*fine.grid())
    picture = _room(x, y)
    picture = canvas.paint(picture, _fur(fine, coat, cover, rng))
    for index, eye in enumerate(_EYES):
        picture = _eye(picture, x, y, *eye, toward=-1.0 if index else 1.0)
    picture = _nose(picture, x, y)
    return clamp(canvas.paint(picture, _whiskers(rng)))


def _room(x: Field, y: Field) -> Field:
    """Blur a room behind the cat: a bright window on the left, a few soft lights."""
    tone = 0.30 + 0.25 * (0.6 - y) + 0.20 * fractal(x * 2, y * 2, 301, 3)
    color = ramp(clamp(tone), _ROOM)
    window = step(0.30 - np.abs(x - 0.02), -0.12, 0.12) * step(0.42 - np.abs(y - 0.30), -0.15, 0.15)
    color = mix(color, tint("f2ead0"), 0.75 * window)
    for cx, cy, radius, tone in ((0.86, 0.16, 0.07, 0.4), (0.97, 0.34, 0.09, 0.3), (0.78, 0.05, 0.05, 0.35)):
        disc = step(radius - np.hypot(x - cx, y - cy), -0.012, 0.012)
        color = mix(color, tint("e9b870"), tone * disc)
    return color


def _ears(x: Field, y: Field) -> tuple[Field, Field]:
    """Give the outer ears and, within them, their pink hollows, both in [0, 1]."""
    side = np.abs(x - 0.51)
    rise = clamp((0.42 - y) / 0.36)
    axis = 0.180 + 0.085 * rise**1.2
    outer = step(0.112 * (1.0 - rise**1.5) - np.abs(side - axis), -0.01, 0.01) * step(0.44 - y, 0.0, 0.02)
    hollow = step(0.062 * (1.0 - rise**1.2) - np.abs(side - axis - 0.008), -0.02, 0.02) * step(rise, 0.15, 0.4)
    return outer * step(rise, 0.0, 0.02) * step(0.999 - rise, 0.0, 0.02), hollow * step(0.9 - rise, 0.0, 0.1)


def _coat(x: Field, y: Field) -> tuple[Field, Field]:
    """Color of the fur at each point, lit from the left, and where there is fur."""
    side = x - 0.51
    head = step(1.0 - np.hypot(side / 0.325, (y - 0.49) / 0.285), 0.0, 0.03)
    body = step(1.0 - np.hypot(side / 0.42, (y - 1.05) / 0.42), 0.0, 0.03)
    outer, hollow = _ears(x, y)
    ragged = 0.30 * fractal(x * 9, y * 9, 311, 3)
    tone = 0.60 + 0.16 * ragged - 0.34 * _stripes(np.abs(side), y)
    color = ramp(clamp(tone), _FUR)
    muzzle = np.exp(-(((np.abs(side) - 0.055) / 0.085) ** 2) - (((y - 0.655) / 0.075) ** 2))
    chin = np.exp(-((side / 0.15) ** 2) - (((y - 0.86) / 0.13) ** 2))
    blaze = np.exp(-((side / (0.018 + 0.10 * clamp(y - 0.45))) ** 2)) * step(y, 0.42, 0.58)
    rims = sum(np.exp(-(((np.hypot((x - ex) / 1.2, y - ey) - 0.062) / 0.016) ** 2)) for ex, ey in _EYES)
    white = clamp(1.15 * muzzle + chin + 0.7 * blaze + 0.55 * rims)
    color = mix(color, _WHITE_FUR, white)
    color = mix(color, _PINK, 0.75 * hollow)
    light = 0.98 - 0.55 * side - 0.30 * step(y, 0.72, 0.80) * (1.0 - 0.6 * chin) + 0.12 * (0.5 - y)
    round_ = np.hypot(side / 0.325, (y - 0.49) / 0.285)
    light = light - 0.28 * step(round_, 0.65, 1.05) * step(0.85 - y, 0.0, 0.2)
    return clamp(color * light[..., None]), np.maximum.reduce([head, body, outer])


def _stripes(side: Field, y: Field) -> Field:
    """Dark stripes of a tabby: the M on the brow, bands on the cheeks, rings on the chest."""
    bend = 0.012 * noise(side * 20, y * 20, 321)
    brow = (
        step(np.cos((side + bend) * 92.0 + 0.3), 0.25, 0.75) * step(0.40 - y, 0.0, 0.05) * step(0.17 - side, 0.0, 0.03)
    )
    fan = y - 0.50 - 0.55 * (side - 0.2) + 3.0 * (side - 0.25) ** 2 + bend
    cheek = (
        step(np.cos(fan * 78.0), 0.35, 0.8) * step(side, 0.165, 0.215) * step(y, 0.38, 0.43) * step(0.74 - y, 0.0, 0.05)
    )
    chest = (
        step(np.cos((y - 0.9 * side * side * 2 + bend) * 55.0), 0.2, 0.7) * step(y, 0.80, 0.86) * step(side, 0.10, 0.18)
    )
    lash = step(0.010 - np.abs(y - 0.46 - 0.35 * (side - 0.18) + bend), 0.0, 0.006) * step(side, 0.17, 0.19)
    return clamp(brow + cheek + chest + 0.8 * lash)


def _lie(points: Field) -> Field:
    """Direction in which the fur lies at points `(n, 2)`: away from the nose, down on the chest."""
    x, y = points[..., 0] - _NOSE[0], points[..., 1] - _NOSE[1] + 0.03
    away = np.stack([x, y - 0.02], -1) / (np.hypot(x, y) + 1e-3)[..., None]
    down = np.stack([0.6 * x, 0.0 * x + 1.0], -1)
    lie = mix(away, down, step(points[..., 1], 0.68, 0.82))
    turn = 0.5 * noise(points[..., 0] * 7, points[..., 1] * 7, 331)
    return lie + turn[..., None] * np.stack([-lie[..., 1], lie[..., 0]], -1)


def _fur(canvas: Canvas, coat: Field, cover: Field, rng: np.random.Generator) -> list[Shape]:
    """Give all hairs: slim tapering leaves that start in the fur and take its color."""
    shapes: list[Shape] = []
    for count, length, width in _PASSES:
        roots = scatter(canvas, count * 2, rng)
        roots = roots[pick(cover, roots, canvas) > rng.random(len(roots)) * 0.8 + 0.1]
        short = 0.45 + 0.55 * step(np.hypot(roots[:, 0] - _NOSE[0], roots[:, 1] - _NOSE[1]), 0.05, 0.30)
        path = follow(roots, _lie, length, 5)
        path = roots[:, None] + (path - path[:, :1]) * short[:, None, None]
        along = path[:, -1] - path[:, 0]
        across = np.stack([-along[:, 1], along[:, 0]], -1) / (np.hypot(along[:, 0], along[:, 1]) + 1e-6)[:, None]
        half = 0.5 * width * across[:, None] * f32([0.4, 1.0, 0.8, 0.45, 0.05])[None, :, None]
        corners = np.concatenate([path + half, (path - half)[:, ::-1]], axis=1)
        tones = clamp(pick(coat, roots, canvas) * (1.0 + rng.normal(0.0, 0.13, (len(roots), 1))))
        shapes += zip(corners, tones.tolist(), strict=True)
    return shapes


def _eye(color: Field, x: Field, y: Field, cx: float, cy: float, *, toward: float) -> Field:
    """Set an eye: dark rim, lit iris, slit pupil, two reflections; `toward` is the nose side."""
    u, v = (x - cx) / _EYE, (y - cy) / _EYE
    v = v - 0.22 * u * toward
    bulge = 0.80 * clamp(1.0 - np.abs(u) ** 2.1) ** 0.75
    lid = 0.97 * clamp(1.0 - np.abs(u / 1.17) ** 2.1) ** 0.75
    rim = step(lid - np.abs(v), 0.0, 0.08)
    color = mix(color, _DARK, rim)
    inside = step(bulge - np.abs(v), 0.0, 0.07)
    reach, turn = np.hypot(u, v), np.arctan2(v, u)
    iris = ramp(clamp(reach * 0.95 + 0.12 * noise(turn * 9, reach * 2, 341) - 0.22 * v), _IRIS)
    iris = iris * (1.0 - 0.55 * step(-v, 0.15, 0.75))[..., None]
    color = mix(color, iris, inside)
    color = mix(color, _DARK, inside * step(1.0 - np.hypot(u / 0.27, v / 0.78), 0.0, 0.12))
    color = mix(
        color,
        (1.0, 1.0, 0.98),
        inside * step(1.0 - np.hypot((u + 0.26) / 0.19, (v + 0.30) / 0.22), 0.0, 0.25),
    )
    return mix(
        color,
        (0.85, 0.9, 0.9),
        0.5 * inside * step(1.0 - np.hypot((u - 0.3) / 0.11, (v - 0.36) / 0.1), 0.0, 0.4),
    )


def _nose(color: Field, x: Field, y: Field) -> Field:
    """Add the nose and the line of the mouth."""
    u, v = (x - _NOSE[0]) / 0.042, (y - _NOSE[1]) / 0.034
    body = step(1.0 - np.maximum(np.abs(u) + 0.75 * v, -v * 1.35 + 0.18 * np.abs(u)), 0.0, 0.22) * step(
        1.1 - v, 0.0, 0.1
    )
    skin = ramp(clamp(0.55 - 0.5 * v - 0.25 * u + 0.2 * noise(x * 160, y * 160, 351)), palette("6e352e b46a5e dd9d8e"))
    color = mix(color, skin, body)
    holes = step(1.0 - np.hypot((np.abs(u) - 0.47) / 0.2, (v - 0.28 + 0.3 * np.abs(u)) / 0.16), 0.0, 0.5)
    color = mix(color, _DARK, 0.85 * holes)
    drop = step(0.0035 - np.abs(x - _NOSE[0]), 0.0, 0.002) * solid((y > _NOSE[1] + 0.03) & (y < _NOSE[1] + 0.062))
    side = np.abs(x - _NOSE[0])
    smile = _NOSE[1] + 0.060 + 0.030 * np.sin(np.minimum(side / 0.075, 1.0) * 2.5)
    mouth = step(0.0042 - np.abs(y - smile), 0.0, 0.003) * step(0.078 - side, 0.0, 0.02)
    return mix(color, tint("4a2a22"), 0.85 * np.maximum(drop, mouth))


def _whiskers(rng: np.random.Generator) -> list[Shape]:
    """Give the whiskers and the hairs above the eyes: long arcs that thin out."""
    shapes: list[Shape] = []
    t = np.linspace(0.0, 1.0, 16)[:, None]
    starts: list[tuple[float, float, float, float]] = []
    for side in (-1.0, 1.0):
        for k in range(6):
            place, reach = rng.uniform((0.06, 0.30), (0.10, 0.40)) * side
            starts.append((_NOSE[0] + place, _NOSE[1] + 0.035 + 0.012 * k, reach, 0.036 * k - 0.075))
        for k in range(3):
            reach = side * rng.uniform(0.05, 0.14)
            starts.append((_NOSE[0] + side * 0.12, 0.375, reach, -0.13 - 0.03 * k))
    for x, y, reach, rise in starts:
        path = f32([x, y]) + t * f32([reach, rise]) + t * t * f32([0.0, 0.05])
        half = f32([0.0, 0.0016]) * (1.0 - 0.8 * t)
        shade: Color = (0.97, 0.95, 0.90)
        shapes.append((np.concatenate([path - half, (path + half)[::-1]]), shade))
    return shapes
