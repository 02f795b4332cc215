"""The content `still_life`: a painted jug, apples, a pear, a lemon and grapes, lit by a window.

The scene is solid: each thing is a signed distance function, met by marching along the lines of sight.
Shadows and the dimness between things come from a few balls that stand in for each thing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

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
    step,
    tint,
)

ASPECT = 4 / 3

_EYE = np.array([0.0, 2.05, -6.0], np.float32)
_AIM = np.array([0.05, 0.82, 0.0], np.float32)
_LENS = 1.78
_LAMP = np.array([-4.9, 3.9, -2.7], np.float32)
"""Place of the window that lights the scene."""
_LAMP_RADIUS = 0.75
_KEY, _FILL, _AMBIENT = (1.42, 1.20, 0.92), (0.07, 0.09, 0.14), (0.105, 0.11, 0.145)
_WALL_DEPTH = 2.3
_STEPS = 44
_CHUNKS = 24
"""Points are lit in so many parts, small enough for the processor's cache."""

_WOOD = palette("3a1d10 6b3a1c 94592c b57a41 7d4826")
_WALL = palette("4a5a54 6a7a6b 8f9a7e")
_GLAZE, _COBALT = tint("f1ede2"), palette("1c3f95 2f66c0 143070")

_RINGS = ((0.19, 0.05), (0.33, 0.03), (1.24, 0.035), (1.52, 0.05), (2.06, 0.035))
"""Height and half width of the painted rings of the jug."""
_GRAPES = np.array(
    [(0.0, 0.15, 0.0), (0.27, 0.15, 0.06), (0.53, 0.15, 0.0), (0.13, 0.15, -0.24), (0.40, 0.15, -0.23),
     (-0.25, 0.15, -0.10), (0.14, 0.38, -0.06), (0.39, 0.38, -0.05), (0.25, 0.36, 0.16), (-0.07, 0.37, 0.13),
     (0.70, 0.15, -0.20), (0.24, 0.57, 0.05), (-0.13, 0.15, -0.36), (0.78, 0.14, 0.08)], np.float32,
)  # fmt: skip
_GRAPE = 0.155


@dataclass(frozen=True)
class Thing:
    """One solid on the table.

    Attributes:
        place: Where its origin stands.
        distance: Signed distance from points `(3, n)` around its origin.
        color: Color from points and normals `(3, n)`, as `(n, 3)`.
        balls: Centers and radii, around its origin, that stand in for it in shadows.
        bound: Center and radius, around its origin, of a ball that holds it.
        gloss: Strength and sharpness of its highlight.
    """

    place: tuple[float, float, float]
    distance: Callable[[Field], Field]
    color: Callable[[Field, Field], Field]
    balls: tuple[tuple[float, float, float, float], ...]
    bound: tuple[float, float, float, float]
    gloss: tuple[float, float] = (0.5, 60.0)


def draw(canvas: Canvas) -> Field:
    """Meet each line of sight with the table, the wall and the things, then light what was met."""
    x, y = canvas.grid()
    ray = _rays(x, y, canvas.aspect).reshape(3, -1)
    point, normal, color, gloss, owner = _room(ray)
    nearest = np.sqrt(np.sum((point - _EYE[:, None]) ** 2, axis=0))
    for index, thing in enumerate(_THINGS):
        which, local, facing = _meet(thing, ray, nearest)
        point[:, which] = local + f32(thing.place)[:, None]
        normal[:, which], color[which] = facing, thing.color(local, facing)
        gloss[:, which] = f32(thing.gloss)[:, None]
        owner[which] = index
    parts = [np.array_split(field, _CHUNKS, axis=-1) for field in (ray, point, normal, gloss, owner, color.T)]
    light = np.concatenate([_light(*part) for part in zip(*parts, strict=True)])
    picture = light.reshape(canvas.height, canvas.width, 3)
    vignette = 1.0 - 0.22 * ((x / canvas.aspect - 0.45) ** 2 + (y - 0.5) ** 2) * 2.0
    return clamp(picture * vignette[..., None])


def _rays(x: Field, y: Field, aspect: float) -> Field:
    """Directions of the lines of sight, `(3, height, width)`."""
    ahead = (_AIM - _EYE) / np.linalg.norm(_AIM - _EYE)
    right = np.array([ahead[2], 0.0, -ahead[0]], np.float32)
    right = right / np.linalg.norm(right)
    up = np.cross(ahead, right)
    u, v = x - np.float32(aspect / 2), np.float32(0.5) - y
    ray = np.stack([right[i] * u + up[i] * v + ahead[i] * np.float32(_LENS) for i in range(3)])
    return ray / np.sqrt(np.sum(ray * ray, axis=0))


def _room(ray: Field) -> tuple[Field, Field, Field, Field, Field]:
    """Meet the table and the wall: points, normals, colors, gloss, and -1 as the owner."""
    floor = np.where(ray[1] < -1e-4, -_EYE[1] / np.minimum(ray[1], -1e-4), np.float32(99.0))
    wall = (_WALL_DEPTH - _EYE[2]) / ray[2]
    behind = wall < floor
    point = _EYE[:, None] + np.minimum(floor, wall) * ray
    normal = np.zeros_like(ray)
    normal[1], normal[2] = ~behind, -behind.astype(np.float32)
    color = np.empty((ray.shape[1], 3), np.float32)
    color[behind] = _plaster(point[:, behind])
    table = ~behind
    color[table], normal[:, table] = _table(point[:, table])
    gloss = np.empty((2, ray.shape[1]), np.float32)
    gloss[0], gloss[1] = np.where(behind, 0.0, 0.10), 24.0
    return point, normal, color, gloss, np.full(ray.shape[1], -1.0, np.float32)


def _plaster(point: Field) -> Field:
    """Color of the wall: old plaster."""
    blotch = 0.5 + 0.45 * fractal(point[0] * 0.9, point[1] * 0.9, 201, 5)
    return ramp(clamp(blotch), _WALL)


def _table(point: Field) -> tuple[Field, Field]:
    """Color and normal of the table: planks with grain, and a striped cloth that lies in folds."""
    across, along = point[0], point[2]
    plank = np.floor(along * 1.15 + 0.3)
    grain = fractal(across * 0.9 + plank * 7.3, along * 16.0 + 0.8 * noise(across * 1.5, along * 3, 211), 212, 4)
    ring = np.sin(34.0 * (along + 0.06 * noise(across * 0.8 + plank * 3, along * 2.0, 216)) + 3 * grain)
    color = ramp(clamp(0.5 + 0.26 * grain + 0.10 * ring + 0.12 * np.sin(plank * 2.4)), _WOOD)
    gap = np.abs((along * 1.15 + 0.3) % 1.0 - 0.5)
    color = color * (0.35 + 0.65 * step(0.5 - gap, 0.004, 0.022))[..., None]
    side = across * 0.87 - along * 0.5
    edge = 0.72 + 0.07 * np.sin(along * 4.0) + 0.05 * noise(along * 2.0, along * 0, 218)
    cloth = step(side - edge, -0.01, 0.01)
    fold = fractal(side * 2.2 + 0.4 * along, along * 0.9 + side, 221, 3)
    reach = np.float32(0.02)
    slope_x = (fractal((side + reach) * 2.2 + 0.4 * along, along * 0.9 + side + reach, 221, 3) - fold) / reach
    stripe = step(np.abs((side * 3.3) % 1.0 - 0.5), 0.36, 0.39)
    weave = 0.95 + 0.05 * np.sin(side * 190) * np.sin(along * 190)
    linen = mix(tint("ece3cf"), tint("a33a30"), stripe) * weave[..., None]
    shade = 1.0 - 0.6 * step(edge - side, -0.02, 0.10) * step(side - edge, -0.10, 0.0)
    normal = np.stack([-0.22 * slope_x * cloth, np.ones_like(side), 0.06 * slope_x * cloth])
    normal = normal / np.sqrt(np.sum(normal * normal, axis=0))
    return mix(color * shade[..., None], linen, cloth), normal


def _meet(thing: Thing, ray: Field, nearest: Field) -> tuple[Int[np.ndarray, " hits"], Field, Field]:
    """March the lines of sight to one thing.

    Args:
        thing: The thing.
        ray: All directions `(3, n)`.
        nearest: How far each line of sight has been seen to reach; shortened in place where it meets it.

    Returns:
        Which lines meet it, the points around its origin, and the normals there.
    """
    origin = _EYE - f32(thing.place)
    center = f32(thing.bound[:3]) - origin
    closest = center @ ray
    gap = float(center @ center) - closest * closest
    which = np.flatnonzero(gap < thing.bound[3] ** 2)
    travel = closest[which] - np.sqrt(np.maximum(thing.bound[3] ** 2 - gap[which], 0.0))
    active = np.arange(len(which))
    for _ in range(_STEPS):
        reach = thing.distance(origin[:, None] + travel[active] * ray[:, which[active]])
        travel[active] += reach
        active = active[(reach > 4e-4) & (travel[active] < closest[which[active]] + thing.bound[3])]
    local = origin[:, None] + travel * ray[:, which]
    met = (thing.distance(local) < 6e-3) & (travel < nearest[which])
    which, local = which[met], local[:, met]
    nearest[which] = travel[met]
    return which, local, _normal(thing.distance, local)


def _normal(distance: Callable[[Field], Field], point: Field) -> Field:
    """Direction in which the distance grows, from differences at the corners of a tetrahedron."""
    corners = f32([(1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0)])
    total = sum(corner[:, None] * distance(point + np.float32(2e-3) * corner[:, None]) for corner in corners)
    normal = np.asarray(total, np.float32)
    return normal / (np.sqrt(np.sum(normal * normal, axis=0)) + 1e-9)


def _light(ray: Field, point: Field, normal: Field, gloss: Field, owner: Field, color: Field) -> Field:
    """Light points: window with soft shadows, dim sky between things, highlight; gives sRGB `(n, 3)`."""
    toward = _LAMP[:, None] - point
    far = np.sqrt(np.sum(toward * toward, axis=0))
    toward = toward / far
    facing = np.sum(normal * toward, axis=0)
    shadow, open_sky = _shade(point, normal, toward, far, owner)
    key = clamp(0.92 * facing + 0.08) * shadow * (44.0 / (far * far))
    fill = clamp(0.5 + 0.5 * normal[0]) * open_sky
    half = toward - ray
    half = half / np.sqrt(np.sum(half * half, axis=0))
    spark = gloss[0] * clamp(np.sum(normal * half, axis=0)) ** gloss[1] * shadow
    rim = 0.13 * gloss[0] * clamp(1.0 + np.sum(normal * ray, axis=0)) ** 4 * open_sky
    energy = sum(
        part[:, None] * f32(tone)
        for part, tone in ((key, _KEY), (fill, _FILL), (open_sky * (0.75 + 0.25 * normal[1]), _AMBIENT))
    )
    linear = color.T**2.2 * energy + (1.1 * spark + rim)[:, None] * f32((1.0, 0.96, 0.88))
    return clamp(1.0 - np.exp(-1.45 * linear)) ** np.float32(1 / 2.2)


def _shade(point: Field, normal: Field, toward: Field, far: Field, owner: Field) -> tuple[Field, Field]:
    """Give how much of the window and of the sky each point sees past the balls of the other things."""
    shadow, open_sky = np.ones_like(far), np.ones_like(far)
    for index, thing in enumerate(_THINGS):
        other = owner != index
        for bx, by, bz, radius in thing.balls:
            place = f32((bx, by, bz)) + f32(thing.place)
            to_ball = place[:, None] - point
            along = np.sum(to_ball * toward, axis=0)
            square = np.sum(to_ball * to_ball, axis=0)
            miss = np.sqrt(np.maximum(square - along * along, 1e-6))
            blur = _LAMP_RADIUS * clamp(along, 0.02, 9.0) / far
            seen = step((miss - radius) / (2 * blur), -0.5, 0.5)
            shadow = np.where(other & (along > 0), np.minimum(shadow, seen), shadow)
            cover = clamp(np.sum(to_ball * normal, axis=0)) * radius**2 / (square * np.sqrt(square) + 1e-6)
            open_sky = open_sky * (1.0 - 0.8 * clamp(cover) * other)
    return shadow, open_sky


def _jug_width(height: Field) -> Field:
    """Radius of the jug at a height: foot, belly, neck, lip."""
    belly = 0.68 * np.exp(-(((height - 0.80) / 0.62) ** 2))
    lip = 0.16 * step(height, 1.72, 2.12) ** 2
    return 0.19 + belly * step(height, -0.35, 0.35) + lip + 0.05 * step(-height, -0.10, 0.0)


def _jug(p: Field) -> Field:
    """Distance from the jug: a turned body, hollow at the top, and a bowed handle."""
    around = np.sqrt(p[0] * p[0] + p[2] * p[2])
    body = np.maximum((around - _jug_width(p[1])) * 0.72, np.abs(p[1] - 1.05) - 1.05)
    hollow = np.maximum((_jug_width(p[1]) - 0.045 - around) * 0.72, 1.5 - p[1])
    body = np.where(p[1] > 1.5, np.maximum(body, hollow), body)
    ring = np.sqrt(((p[0] - 0.50) / 0.80) ** 2 + ((p[1] - 1.42) / 1.12) ** 2) - 0.40
    handle = np.sqrt((ring * 0.85) ** 2 + p[2] * p[2]) - 0.062
    return np.minimum(body, np.where(p[0] > 0.15, handle * 0.85, np.float32(9.0)))


def _jug_color(p: Field, _: Field) -> Field:
    """Cobalt bands, leaves and dots on a white glaze."""
    turn, height = np.arctan2(p[2], p[0]), p[1]
    brush = 0.5 + 0.5 * fractal(turn * 9, height * 9, 231, 3)
    color = f32(_GLAZE) * (0.97 + 0.03 * brush)[:, None]
    petal = np.cos(turn * 7.0 + 1.1 * np.sin((height - 0.8) * 6.0)) - np.abs(height - 0.82) * 3.4
    vine = 0.055 - np.abs(height - 0.82 - 0.16 * np.sin(turn * 7.0))
    dots = np.cos(turn * 22.0) - 16.0 * np.abs(height - 1.36)
    darts = np.cos(turn * 14.0) - 0.35 - np.abs(height - 1.78) * 9.0
    rings = [20.0 * (half - np.abs(height - level)) for level, half in _RINGS]
    marks = np.maximum.reduce([petal - 0.18, vine * 9.0, dots - 0.2, darts, *rings])
    return mix(color, ramp(brush, _COBALT), step(marks + 0.12 * (brush - 0.5), -0.04, 0.10))


def _apple(p: Field) -> Field:
    """Distance from an apple: a fat ring whose hole has closed to dimples, slimmer below, with a stem."""
    around = np.sqrt(p[0] * p[0] + p[2] * p[2])
    five = 0.012 * np.cos(5.0 * np.arctan2(p[2], p[0]))
    flesh = np.sqrt((around - 0.125 - 0.07 * p[1] + five) ** 2 + (p[1] * 0.97) ** 2) - 0.335
    bend = np.sqrt((p[0] - 0.12 * (p[1] - 0.2)) ** 2 + p[2] * p[2]) - 0.022
    stem = np.maximum(bend, np.abs(p[1] - 0.34) - 0.16)
    return np.minimum(flesh * 0.9, stem)


def _apple_color(ground: tuple[Color, ...], blush: tuple[Color, ...], side: float) -> Callable[[Field, Field], Field]:
    """Give the skin of an apple: ground color, blush in streaks toward one side, lenticels, brown stem."""

    def color(p: Field, normal: Field) -> Field:
        turn = np.arctan2(p[2], p[0])
        streak = fractal(turn * 11, p[1] * 1.5, 241, 4) + 0.5 * noise(turn * 30, p[1] * 3, 246)
        amount = step(streak * 0.55 + 0.9 * np.cos(turn - side) + 0.5 - 1.2 * clamp(p[1] - 0.2), -0.35, 0.75)
        skin = mix(ramp(clamp(0.5 + 0.5 * streak), ground), ramp(clamp(0.5 + 0.6 * streak), blush), amount)
        fleck = step(noise(turn * 26, p[1] * 42, 248), 0.72, 0.85)
        skin = mix(skin, tint("f4e2a0"), 0.45 * fleck)
        around = np.sqrt(p[0] * p[0] + p[2] * p[2])
        skin = mix(skin, tint("8d8a3a"), step(-around, -0.16, -0.04) * (p[1] > 0))
        return mix(skin, tint("4a3018"), ((p[1] > 0.26) & (around < 0.075)).astype(np.float32))

    return color


def _pear(p: Field) -> Field:
    """Distance from a pear: two balls that flow into each other, and a stem."""
    low = np.sqrt(p[0] ** 2 + (p[1] * 1.02 - 0.42) ** 2 + p[2] ** 2) - 0.43
    high = np.sqrt((p[0] - 0.06) ** 2 + (p[1] - 1.0) ** 2 + p[2] ** 2) - 0.19
    blend = clamp(0.5 + 0.5 * (high - low) / 0.42)
    flesh = high + (low - high) * blend - 0.42 * blend * (1.0 - blend)
    bend = np.sqrt((p[0] - 0.08 - 0.35 * (p[1] - 1.15)) ** 2 + p[2] * p[2]) - 0.026
    return np.minimum(flesh * 0.95, np.maximum(bend, np.abs(p[1] - 1.27) - 0.15))


def _pear_color(p: Field, normal: Field) -> Field:
    """Yellow-green skin with russet freckles and a warm cheek."""
    turn = np.arctan2(p[2], p[0])
    patch = fractal(turn * 2.2, p[1] * 3, 251, 4)
    skin = ramp(clamp(0.5 + 0.5 * patch), palette("93a136 c6bb45 e3cc5a"))
    skin = mix(skin, tint("c9653a"), 0.7 * step(np.cos(turn + 0.6) + 0.4 * patch - 0.5 * p[1], 0.15, 1.1))
    skin = mix(skin, tint("7a5a28"), 0.55 * step(noise(turn * 22, p[1] * 30, 256), 0.55, 0.75))
    return mix(skin, tint("4d3218"), step(p[1], 1.165, 1.19))


def _lemon(p: Field) -> Field:
    """Distance from a lemon that lies on its side: an egg with two tips and a pitted skin."""
    along, up, side = 0.86 * p[0] + 0.5 * p[2], p[1], -0.5 * p[0] + 0.86 * p[2]
    radius = np.sqrt(up * up + side * side)
    body = np.sqrt((along / 1.32) ** 2 + radius * radius) - 0.30
    tip = np.sqrt((np.abs(along) - 0.40) ** 2 * 0.5 + radius * radius) - 0.075
    blend = clamp(0.5 + 0.5 * (tip - body) / 0.14)
    return (tip + (body - tip) * blend - 0.14 * blend * (1.0 - blend)) * 0.85


def _lemon_color(p: Field, normal: Field) -> Field:
    """Yellow, pitted, greener at the tips."""
    pit = noise(p[0] * 34, p[1] * 34 + p[2] * 27, 261)
    along = np.abs(0.86 * p[0] + 0.5 * p[2])
    skin = ramp(clamp(0.5 + 0.5 * pit), palette("dba414 f2c81f fbe04a"))
    return mix(skin, tint("9aa02c"), 0.8 * step(along, 0.34, 0.46))


def _grapes(p: Field) -> Field:
    """Distance from a bunch of grapes."""
    nearest = np.full(p.shape[1], np.inf, np.float32)
    for x, y, z in _GRAPES.tolist():
        nearest = np.minimum(nearest, (p[0] - x) ** 2 + (p[1] - y) ** 2 + (p[2] - z) ** 2)
    return np.sqrt(nearest) - np.float32(_GRAPE)


def _grape_color(p: Field, normal: Field) -> Field:
    """Dark purple to wine red from grape to grape, with bloom on top."""
    bloom = clamp(0.35 + 0.5 * normal[1] + 0.5 * fractal(p[0] * 6, p[1] * 6 + p[2] * 5, 271, 3))
    base = ramp(clamp(0.5 + 0.5 * noise(p[0] * 3.5, p[2] * 3.5 + p[1] * 2, 276)), palette("2a1030 4a1640 6c1f3a"))
    return mix(base, tint("8d86b0"), 0.42 * bloom)


_RED = _apple_color(palette("d9a63a e6c04a"), palette("8e1420 b81e22 d23a2a"), 3.6)
_GREEN = _apple_color(palette("8fae3c b7c44c"), palette("b04a2c c9663a"), 1.2)
_APPLE_BALLS, _APPLE_BOUND = ((0.0, 0.0, 0.0, 0.45),), (0.0, 0.06, 0.0, 0.62)
_JUG_BALLS = (
    (0.0, 0.42, 0.0, 0.62),
    (0.0, 0.85, 0.0, 0.80),
    (0.0, 1.25, 0.0, 0.58),
    (0.0, 1.65, 0.0, 0.34),
    (0.0, 1.95, 0.0, 0.34),
)
_PEAR_BALLS = ((0.0, 0.42, 0.0, 0.44), (0.04, 0.90, 0.0, 0.27))
_LEMON_BALLS = ((0.13, 0.0, 0.08, 0.28), (-0.13, 0.0, -0.08, 0.28))
_GRAPE_BALLS = (
    (0.0, 0.16, -0.1, 0.26),
    (0.3, 0.2, 0.0, 0.30),
    (0.25, 0.42, 0.03, 0.26),
    (0.62, 0.14, -0.05, 0.24),
)
_THINGS = (
    Thing((-0.92, 0.0, 0.75), _jug, _jug_color, _JUG_BALLS, (0.1, 1.05, 0.0, 1.35), (0.9, 130.0)),
    Thing((0.38, 0.335, -0.55), _apple, _RED, _APPLE_BALLS, _APPLE_BOUND, (0.75, 70.0)),
    Thing((1.62, 0.335, 0.62), _apple, _GREEN, _APPLE_BALLS, _APPLE_BOUND, (0.7, 70.0)),
    Thing((0.62, 0.0, 0.72), _pear, _pear_color, _PEAR_BALLS, (0.05, 0.70, 0.0, 0.78), (0.45, 36.0)),
    Thing((-0.72, 0.30, -0.95), _lemon, _lemon_color, _LEMON_BALLS, (0.0, 0.0, 0.0, 0.52), (0.5, 40.0)),
    Thing((1.22, 0.0, -0.55), _grapes, _grape_color, _GRAPE_BALLS, (0.26, 0.3, -0.05, 0.80), (0.55, 60.0)),
)
