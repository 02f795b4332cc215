"""The content `harbor`: a lighthouse on its rock at sunset, a sailing boat, and light broken on the sea."""

import numpy as np

from swag_jax.images.samples._field import (
    Canvas,
    Field,
    Shape,
    bump,
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

_HORIZON = 0.60
_SUN = (0.40, 0.525)
_SKY = palette("24447e 3f6aa6 7d94b8 c9a6a0 f2b183 ffd08a")
_CLOUD_DARK, _CLOUD_LIT, _CLOUD_EDGE = tint("5d5a80"), tint("f3b99a"), tint("fff0c8")
_SEA = palette("0d2a3f 17435c 2c6478")
_ROCK = palette("1d1a20 40383a 6e5b50 a5866a d9b98c")
_GRASS = palette("2c3320 535a2b 8a8440")
_WHITE, _RED = tint("f4ece0"), tint("b8322a")
_TOWER = (1.03, 0.565, 0.405, 0.047, 0.030)
"""Center x, foot y, height, half widths at foot and top of the tower."""
_BOAT = (0.28, 0.735, 0.30)
"""Center x, waterline y and height of the sailing boat."""
_FAR_BOATS = ((0.62, 0.628, 0.045), (0.72, 0.617, 0.026), (0.10, 0.621, 0.032))
_GULLS = (
    (0.52, 0.20, 0.030),
    (0.60, 0.25, 0.022),
    (0.46, 0.29, 0.017),
    (0.70, 0.17, 0.020),
    (0.80, 0.29, 0.014),
)


def draw(canvas: Canvas) -> Field:
    """Draw the picture from far to near: sky, coast, sea, rock with lighthouse, boats, gulls."""
    x, y = canvas.grid()
    color = _coast(_sky(x, y), x, y)
    color = _sea(color, x, y, canvas)
    color = _island(color, x, y, canvas)
    color = _boats(color, canvas)
    return clamp(_gulls(color, canvas))


def _sky(x: Field, y: Field) -> Field:
    """Shade the evening sky around the sun and lay clouds before it, lit from the sun's side."""
    sun = np.hypot(x - _SUN[0], (y - _SUN[1]) * 1.25)
    color = ramp(clamp(y / _HORIZON + 0.10 * np.exp(-sun * 3) - 0.05 * (x - 0.4)), _SKY)
    color = mix(color, tint("ffe7a8"), clamp(0.95 * np.exp(-((sun / 0.20) ** 1.3))))
    color = mix(color, (1.0, 0.99, 0.90), step(-sun, -0.052, -0.044))
    depth = 0.42 / (_HORIZON + 0.13 - np.minimum(y, _HORIZON))
    u, v = (x - 0.5) * depth * 2.1 + 0.4, depth * 4.2
    cloud = fractal(u, v, 101, 6, 0.55)
    toward = fractal(u + (_SUN[0] - x) * 0.35, v + 0.22, 101, 4, 0.55)
    cover = step(cloud + 0.10 * np.sin(u * 1.3 + 1.0), 0.02, 0.42)
    light = clamp(0.5 + 1.1 * (cloud - toward) + 0.35 * np.exp(-sun * 2.2))
    shade = ramp(light, (_CLOUD_DARK, tint("a8839a"), _CLOUD_LIT, _CLOUD_EDGE))
    return mix(color, shade, 0.93 * cover * step(_HORIZON - y, 0.01, 0.12))


def _coast(color: Field, x: Field, y: Field) -> Field:
    """Raise two far headlands in the haze."""
    for level, reach, seed, tone in ((0.075, 0.55, 111, tint("9a86a0")), (0.055, 0.36, 112, tint("6c6584"))):
        line = x[0]
        rise = level * step(-line, -reach, -0.02) + 0.6 * level * step(line, 1.55 - reach, 1.5)
        crest = _HORIZON - rise * (1.0 + 0.35 * fractal(line * 7, line * 0, seed, 4)) + 0.002
        soft = mix(tone, _SKY[4], 0.45 * step(y, 0.52, 0.60))
        color = mix(color, soft, step(y - crest[None], -0.001, 0.002))
    return color


def _sea(color: Field, x: Field, y: Field, canvas: Canvas) -> Field:
    """Reflect the sky in waves that grow toward the eye, with the sun's path and white flecks."""
    below = clamp(y - _HORIZON, 5e-4)
    depth = 0.16 / below
    u = (x - 0.6) * depth
    swell = fractal(u * 2.2 + 0.4 * depth, depth * 9.0, 121, 2) + 0.6 * fractal(u * 8.0, depth * 30.0, 123, 3)
    fade = step(below, 0.0, 0.05)
    row = 2 * _HORIZON - y * 1.0 - 0.02 - (0.02 + 0.30 * below) * (0.6 + 0.55 * swell) * fade
    rows = np.clip(row * canvas.height, 0, _HORIZON * canvas.height - 2).astype(np.int32)
    columns = np.clip((x + 0.02 * swell * fade) / canvas.aspect * canvas.width, 0, canvas.width - 1).astype(np.int32)
    deep = ramp(clamp(0.35 + 0.60 * swell + 0.2 * fade), _SEA)
    facing = clamp(0.30 + 1.1 * below + 0.30 * swell * fade)
    water = mix(color[rows, columns], deep, facing)
    path = np.exp(-(((x - _SUN[0]) / (0.035 + 0.30 * below)) ** 2))
    sparkle = step(swell + 0.35 * noise(u * 30, depth * 70, 128), 0.10, 0.75)
    water = mix(water, tint("ffe3a0"), clamp(path * (0.25 + 1.3 * sparkle) * (1.0 - 0.8 * below)))
    crest = step(swell, 0.70, 1.25) * fade
    water = mix(water, tint("f3e3d8"), 0.55 * crest)
    return mix(color, water, step(y - _HORIZON, -0.001, 0.001))


def _outline(line: Field) -> tuple[Field, Field]:
    """Upper edge and waterline of the rock, as y along x."""
    rough = fractal(line * 9, line * 0, 131, 5)
    body = step(line, 0.66, 0.90) * (1.0 - 0.22 * step(line, 1.12, 1.33))
    return 0.785 - body * (0.225 + 0.035 * rough) + 0.01 * rough, 0.80 + 0.035 * body + 0.006 * rough


def _island(color: Field, x: Field, y: Field, canvas: Canvas) -> Field:
    """Set the rock into the sea with its foam and its dark mirror, then build on it."""
    rows, columns = canvas.window(0.60, 0.08, ASPECT, 1.0)
    part, u, v = color[rows, columns], x[rows, columns], y[rows, columns]
    part = _rock(part, u, v, canvas)
    part = _house(part, u, v)
    part = _tower(part, u, v)
    color[rows, columns] = part
    return color


def _rock(color: Field, x: Field, y: Field, canvas: Canvas) -> Field:
    """Carve the rock out of ridged noise, lit by the low sun, grassy above and wet below."""
    top, water = (edge[None] for edge in _outline(x[0]))
    wobble = 0.012 * noise(x * 22, y * 70, 140)
    ripple = noise(x * 9, y * 60, 142) + 0.6 * noise(x * 24, y * 130, 143)
    mirror = step(y - water, 0.0, 0.01) * step(x + 0.05 * ripple - 0.5 * (y - 0.8), 0.62, 0.98)
    color = mix(color, _SEA[0], 0.72 * mirror * (0.75 + 0.25 * step(ripple, -0.6, 0.2)))
    ridged = 1.0 - np.abs(fractal(x * 7 + 3 * y, y * 9, 141, 6, 0.6))
    relief = bump(ridged + 1.2 * (y - top), canvas, 2.7, 0.055)
    depth = clamp((y - top) / (water - top + 1e-3))
    tone = 0.42 + 0.42 * relief + 0.18 * fractal(x * 30, y * 30, 148, 3) - 0.28 * depth
    rock = ramp(clamp(tone), _ROCK)
    turf = step(0.30 - depth + 0.22 * fractal(x * 10, y * 16, 151, 4), 0.0, 0.12) * step(x, 0.80, 0.95)
    rock = mix(rock, ramp(clamp(0.5 + 0.6 * relief + 0.4 * noise(x * 70, y * 50, 155)), _GRASS), turf)
    rock = rock * (1.0 - 0.5 * step(depth, 0.72, 0.92))[..., None]
    inside = step(y - top, -0.001, 0.002) * step(water - y, -0.001, 0.002)
    color = mix(color, rock, inside)
    foam = np.abs(y - water - 0.006 + wobble) / (0.007 + 0.007 * noise(x * 14, y * 14, 157) ** 2)
    return mix(color, tint("f2e6dc"), 0.85 * np.exp(-(foam**2)) * step(x, 0.655, 0.69))


def _cylinder(x: Field, half: Field | float) -> Field:
    """Light on an upright cylinder of half width `half` around 0: sun from the left, sky from the right."""
    side = clamp(x / half, -1.0, 1.0)
    front = np.sqrt(1.0 - side * side)
    return 0.30 + 0.85 * clamp(-0.80 * side + 0.45 * front) + 0.16 * clamp(side) ** 2


def _inside(x: Field, half: Field | float, y: Field, low: float, high: float) -> Field:
    """Give 1 where |x| < half and low < y < high, with edges about a pixel wide."""
    return step(half - np.abs(x), -0.0008, 0.0008) * step(y - low, -0.0008, 0.0008) * step(high - y, -0.0008, 0.0008)


def _tower(color: Field, x: Field, y: Field) -> Field:
    """Build the lighthouse: banded tower, windows, gallery, glowing lantern, dome."""
    center, foot, tall, broad, slim = _TOWER
    u, rise = x - center, (foot + 0.02 - y) / tall
    half = broad + (slim - broad) * clamp(rise, 0.0, 1.2) ** 0.8
    band = step(np.sin((rise * 5.0 + 0.5) * np.pi), -0.06, 0.06)
    stone = 0.93 + 0.07 * noise(u / half * 9, y * 150, 161) + 0.06 * fractal(u * 60, y * 12, 162, 3)
    wall = mix(_WHITE, _RED, band)
    warm = f32((1.06, 0.96, 0.86))
    color = mix(color, wall * (stone * _cylinder(u, half))[..., None] * warm, _inside(u, half, rise, 0.0, 0.84))
    for place in (0.18, 0.40, 0.62):
        color = mix(color, tint("2b2026"), _inside(u + 0.004, 0.0055, rise, place, place + 0.045))
    iron = f32(tint("54434a"))
    for low, high, wide in ((0.835, 0.86, 0.044), (0.90, 0.908, 0.042), (0.985, 1.0, 0.031)):
        color = mix(color, iron * (1.35 * _cylinder(u, wide))[..., None], _inside(u, wide, rise, low, high))
    posts = step(np.abs(np.sin(u * 420.0)), 0.8, 0.95) * _inside(u, 0.042, rise, 0.86, 0.905)
    color = mix(color, iron, posts)
    glass = _inside(u, 0.021, rise, 0.86, 0.985)
    lamp = np.exp(-((u / 0.016) ** 2) - ((rise - 0.925) / 0.05) ** 2)
    color = mix(color, mix(tint("7c6f78"), tint("fff3b8"), lamp), glass)
    color = mix(color, iron, glass * step(np.abs(np.sin(u * 210.0 + 1.57)), 0.93, 0.99))
    dome = 0.030 * np.sqrt(clamp(1.0 - ((rise - 1.0) / 0.085) ** 2))
    color = mix(color, f32(_RED) * _cylinder(u, 0.03)[..., None], _inside(u, dome, rise, 1.0, 1.085))
    color = mix(color, iron, _inside(u, 0.0018, rise, 1.08, 1.14))
    halo = np.exp(-np.hypot(u, y - (foot + 0.02 - 0.925 * tall)) / 0.05)
    return color + (0.38 * halo)[..., None] * f32((1.0, 0.85, 0.5))


def _house(color: Field, x: Field, y: Field) -> Field:
    """Build the keeper's house beside the tower."""
    u, v = x - 1.165, 0.585 - y
    plaster = 0.9 + 0.12 * fractal(x * 50, y * 50, 171, 3)
    color = mix(color, f32(tint("d9c3a8")) * plaster[..., None], _inside(u, 0.062, v, 0.0, 0.055))
    color = mix(color, f32(tint("f6d9ae")) * plaster[..., None], _inside(u + 0.042, 0.020, v, 0.0, 0.055))
    tiles = 0.85 + 0.18 * np.sin(v * 900) + 0.2 * noise(x * 130, y * 60, 172)
    roof = _inside(u, 0.072 - 0.45 * clamp(v - 0.05), v, 0.05, 0.098)
    color = mix(color, f32(tint("9c4a35")) * tiles[..., None], roof)
    color = mix(color, tint("6a4a40"), _inside(u - 0.028, 0.007, v, 0.085, 0.118))
    for place in (-0.010, 0.020, 0.046):
        color = mix(color, tint("3a3440"), _inside(u - place, 0.0065, v, 0.018, 0.040))
    return mix(color, tint("ffcf77"), _inside(u - 0.020, 0.0045, v, 0.020, 0.038))


def _boats(color: Field, canvas: Canvas) -> Field:
    """Put the boats on the sea, far ones first, each with its broken mirror image."""
    places = (*_FAR_BOATS, _BOAT)
    broken = canvas.paint(color, [shape for place in places for shape in _mirror(*place)])
    color = color + np.float32(0.55) * (broken - color)
    return canvas.paint(color, [shape for place in places for shape in _boat(*place)])


def _boat(center: float, foot: float, tall: float) -> list[Shape]:
    """Give the shapes of one boat: paneled sails, mast, planked hull, crew."""

    def place(points: list[tuple[float, float]]) -> Field:
        return f32([(center + px * tall, foot - py * tall) for px, py in points])

    shapes: list[Shape] = []
    fine = tall > 0.1
    panels = 14 if fine else 3
    for k in range(panels):
        low, high = k / panels, (k + 1) / panels
        light = 0.72 + 0.28 * np.sin(0.6 + 2.2 * (low + high) / 2) - (0.05 if k % 2 else 0.0)
        main, jib = (
            (light * f32(tint("fbe9cc"))).tolist(),
            (light * f32(tint("e8a07a"))).tolist(),
        )
        shapes.append((place([_sail(low, 0), _sail(low, 1), _sail(high, 1), _sail(high, 0)]), tuple(main)))
        shapes.append((place([_jib(low, 0), _jib(low, 1), _jib(high, 1), _jib(high, 0)]), tuple(jib)))
    shapes.append((place([(-0.008, 0.08), (0.008, 0.08), (0.006, 0.99), (-0.006, 0.99)]), tint("4a2f22")))
    for k in range(7 if fine else 1):
        low, high = (k / 7, (k + 1) / 7) if fine else (0.0, 1.0)
        tone = (f32(tint("7c2f22")) * (1.15 - 0.6 * high) + 0.04 * (k == 1)).tolist()
        shapes.append((place([_hull(low, 0), _hull(low, 1), _hull(high, 1), _hull(high, 0)]), tuple(tone)))
    rim = [(-0.37, 0.105), (0.42, 0.135), (0.42, 0.118), (-0.37, 0.090)]
    shapes.append((place(rim), tint("f3ddb6")))
    if fine:
        for px in (-0.24, -0.16):
            shapes.append(
                (
                    place([(px - 0.02, 0.1), (px + 0.022, 0.1), (px + 0.012, 0.19), (px - 0.012, 0.19)]),
                    tint("27304f"),
                )
            )
            shapes.append(
                (
                    place([(px - 0.011, 0.19), (px + 0.011, 0.19), (px + 0.011, 0.218), (px - 0.011, 0.218)]),
                    tint("e0a77c"),
                )
            )
    return shapes


def _sail(rise: float, side: int) -> tuple[float, float]:
    """Border of the main sail: the mast (side 0) or the bellied outer edge (side 1), at a rise in [0, 1]."""
    return (
        (-0.015, 0.17 + 0.79 * rise)
        if side == 0
        else (-0.36 * (1 - rise) - 0.07 * np.sin(np.pi * rise), 0.15 + 0.81 * rise)
    )


def _jib(rise: float, side: int) -> tuple[float, float]:
    """Border of the fore sail: the edge near the mast (side 0) or the stay (side 1), at a rise in [0, 1]."""
    return (
        (0.03 + 0.05 * np.sin(np.pi * rise), 0.19 + 0.68 * rise)
        if side == 0
        else (0.42 - 0.40 * rise, 0.15 + 0.72 * rise)
    )


def _hull(drop: float, side: int) -> tuple[float, float]:
    """Border of the hull: stern (side 0) or bow (side 1), at a drop in [0, 1] below the rim."""
    return (-0.37 + 0.05 * drop, 0.10 - 0.12 * drop) if side == 0 else (0.42 - 0.14 * drop**0.7, 0.13 - 0.15 * drop)


def _mirror(center: float, foot: float, tall: float) -> list[Shape]:
    """Break the boat's image on the waves below it: short bars of sail color, dark ones at the hull."""
    rng = np.random.default_rng(round(1000 * center))
    shapes: list[Shape] = []
    for drop in np.sort(rng.uniform(0.0, 0.75, 70 if tall > 0.1 else 14)) * tall:
        share = drop / tall
        spread = tall * (0.30 * (1 - share) if share > 0.12 else 0.36)
        middle = center + tall * 0.03 * rng.normal() + tall * 0.05 * np.sin(drop * 130)
        wide, thick = spread * rng.uniform(0.25, 1.0), tall * (0.004 + 0.010 * share)
        tone = tint("4c2018") if share < 0.12 else (tint("e9c9a4") if rng.random() < 0.6 else tint("b98a78"))
        points = [(middle - wide, foot + drop), (middle, foot + drop - thick), (middle + wide, foot + drop),
                  (middle, foot + drop + thick)]  # fmt: skip
        shapes.append((f32(points), tone))
    return shapes


def _gulls(color: Field, canvas: Canvas) -> Field:
    """Let some gulls glide before the clouds."""
    wings = []
    for x, y, span in _GULLS:
        t = np.linspace(-1.0, 1.0, 21)
        lift = -0.42 * np.sin(np.abs(t) ** 0.8 * np.pi * 0.8)
        thick = 0.13 * (1 - np.abs(t)) + 0.015
        upper = np.stack([x + span * t, y + span * lift], -1)
        wings.append(np.concatenate([upper, (upper + np.stack([0 * t, span * thick], -1))[::-1]]))
    return mix(color, tint("3a3347"), 0.9 * canvas.mask(*wings))
