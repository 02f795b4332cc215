"""The content `mountains`: snowy ridges in morning haze above a still lake, with firs and a cabin.

The mountains are a height field that is looked at in perspective: for each column of pixels the terrain is
sampled along its line of sight, and each row takes the first sample that rises to it.
"""

import numpy as np

from swag_jax.images.samples._field import (
    Canvas,
    Field,
    Shape,
    clamp,
    f32,
    fractal,
    mix,
    noise,
    noise_slopes,
    palette,
    ramp,
    solid,
    step,
    tint,
)

ASPECT = 4 / 3

_HORIZON = 0.56
"""Height of the eye's level in the picture, and of the far edge of the lake."""
_EYE = 0.30
"""Height of the eye above the lake."""
_LENS = 1.05
_NEAR, _FAR, _SLICES = 5.0, 46.0, 420
_SUN = (-0.72, 0.60, -0.35)
"""Direction to the sun: from the left, behind the eye; x rightward, y upward, z into the picture."""
_SKY = palette("2f6fb5 5b98d2 9cc6e6 dfe9ea f8e6c8")
_HAZE_COOL, _HAZE_WARM = tint("a9c3dd"), tint("f3dcc0")
_SNOW, _ROCK, _EARTH = tint("fbfbff"), palette("4a4550 6f6660 8f8372"), palette("4b5a35 6f7b3e 8c8a4c")
_FOREST = palette("14261c 23402a 3a5a34")
_FIR = palette("0b1a14 16301f 284b2a 4a6f38 8a9a4e")
_BANK = palette("26301a 43502a 6d7436 96904c 5a4c34")
_CABIN = (0.94, 0.705, 0.085)
"""Left x, foot y and height of the cabin."""


def draw(canvas: Canvas) -> Field:
    """Draw the picture from the sky forward: mountains, lake, bank, cabin, firs."""
    x, y = canvas.grid()
    color = _land(_sky(x, y), canvas)
    color = _lake(color, x, y, canvas)
    color = _bank(color, x, y, canvas)
    window = canvas.window(0.9, 0.35, 1.3, 0.72)
    color[window] = _cabin(color[window], x[window], y[window])
    return clamp(_firs(color, canvas))


def _sky(x: Field, y: Field) -> Field:
    """Shade the sky from deep blue to warm haze, with thin high clouds."""
    rise = y / _HORIZON
    color = ramp(clamp(rise * 1.05 + 0.12 * (0.5 - x)), _SKY)
    depth = 1.0 / (0.75 - np.minimum(y, _HORIZON))
    cloud = fractal((x - 0.6) * depth * 1.1, depth * 2.6, 3, 6)
    cover = step(cloud + 0.25 * fractal(x * 3, y * 9, 13, 3), 0.05, 0.75)
    return mix(color, mix(np.full_like(color, 1.0), _HAZE_WARM, rise * 0.8), 0.75 * cover)


def _height(across: Field, depth: Field, octaves: int) -> Field:
    """Height of the terrain above the lake; slopes damp the finer octaves, as erosion does."""
    ridges = _eroded(across * 0.16 + 3.7, depth * 0.16 + 1.3, octaves)
    shore = step(depth, 10.0, 17.0)
    range_ = step(depth, 13.0, 30.0) * (1.0 + 0.25 * np.sin(across * 0.22 + 0.8))
    valley = 0.45 + 0.55 * step(np.abs(across + 0.12 * depth - 1.0), 1.0, 9.0)
    return -0.25 + shore * (0.55 + 1.1 * (ridges + 0.55)) + 5.0 * range_ * valley * (0.46 + ridges)


def _eroded(u: Field, v: Field, octaves: int) -> Field:
    """Fractal noise whose octaves fade on steep slopes; about [-0.6, 0.9]."""
    total, weight = np.zeros_like(u), 1.0
    slope_x, slope_y = np.zeros_like(u), np.zeros_like(u)
    for octave in range(octaves):
        value, dx, dy = noise_slopes(u, v, 40 + octave)
        slope_x, slope_y = slope_x + dx, slope_y + dy
        total = total + np.float32(weight) * value / (1.0 + 0.42 * (slope_x * slope_x + slope_y * slope_y))
        u, v, weight = 1.6 * u - 1.2 * v + 5.1, 1.2 * u + 1.6 * v + 2.7, weight * 0.52
    return total


def _visible(canvas: Canvas) -> Field:
    """Depth of the terrain seen by each pixel; infinite where the sky or the lake is seen."""
    depth = (_NEAR * (_FAR / _NEAR) ** np.linspace(0.0, 1.0, _SLICES, dtype=np.float32))[:, None]
    side = (np.arange(canvas.width, dtype=np.float32) + 0.5) * np.float32(canvas.aspect / canvas.width)
    across = (side - canvas.aspect / 2) / _LENS * depth
    row = _HORIZON - _LENS * (_height(across, depth, 8) - _EYE) / depth
    water = _HORIZON + _LENS * _EYE / depth
    rise = np.maximum.accumulate(-np.minimum(row, water), axis=0)
    rows = (np.arange(canvas.height, dtype=np.float32) + 0.5) / canvas.height
    found = np.full((canvas.height, canvas.width), np.inf, np.float32)
    for column in range(canvas.width):
        profile = rise[:, column]
        index = np.searchsorted(profile, -rows)
        hit = (index > 0) & (index < _SLICES)
        after = np.clip(index, 1, _SLICES - 1)
        part = (-rows - profile[after - 1]) / (profile[after] - profile[after - 1] + 1e-9)
        at = depth[after - 1, 0] + clamp(part) * (depth[after, 0] - depth[after - 1, 0])
        found[hit, column] = at[hit]
    return found


def _land(color: Field, canvas: Canvas) -> Field:
    """Color the visible terrain by height and slope, light it, and veil it by distance."""
    x, _ = canvas.grid()
    depth = _visible(canvas)
    seen = np.isfinite(depth)
    z = depth[seen]
    across = (x[seen] - canvas.aspect / 2) / _LENS * z
    reach = 0.004 * z
    here = _height(across, z, 9)
    slope_x = (_height(across + reach, z, 9) - here) / reach
    slope_z = (_height(across, z + reach, 9) - here) / reach
    norm = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_z * slope_z)
    lit = clamp((-slope_x * _SUN[0] + _SUN[1] - slope_z * _SUN[2]) * norm)
    ground = _ground(across, z, here, norm)
    light = mix((0.30, 0.38, 0.55), (1.25, 1.12, 0.92), lit)
    veil = clamp(
        1.0
        - np.exp(-((clamp(z - 8.0, 0.0, 99.0) * 0.028) ** 1.4))
        + 0.45 * np.exp(-clamp(here, 0.0, 9.0) * 1.6) * step(z, 12.0, 26.0)
    )
    haze = mix(_HAZE_COOL, _HAZE_WARM, clamp(0.9 - x[seen]))
    result = color.copy()
    result[seen] = mix(clamp(ground * light), haze, 0.9 * veil)
    return result


def _ground(across: Field, depth: Field, height: Field, upright: Field) -> Field:
    """Color of the terrain itself: forest, grass, rock and snow."""
    rough = fractal(across * 2.2, depth * 2.2, 60, 4)
    color = ramp(clamp(0.5 + 0.5 * rough), _ROCK)
    grass = step(upright + 0.15 * rough, 0.50, 0.72) * step(-height + 0.5 * rough, -2.6, -1.4)
    color = mix(color, ramp(clamp(0.5 + 0.5 * rough), _EARTH), grass)
    trees = step(noise(across * 9, depth * 9, 65) + rough, -0.9, 0.2) * step(-height + 0.6 * rough, -1.7, -1.0)
    speck = 0.5 + 0.5 * noise(across * 26, depth * 26, 66)
    color = mix(color, ramp(speck, _FOREST), 0.92 * trees)
    snow = step(height + 0.7 * rough, 2.3, 3.1) * step(upright + 0.10 * rough, 0.34, 0.52)
    return mix(color, _SNOW, snow)


def _lake(color: Field, x: Field, y: Field, canvas: Canvas) -> Field:
    """Mirror the picture in the lake, bent by ripples that grow toward the eye."""
    below = clamp(y - _HORIZON, 1e-4)
    depth = _EYE / below
    ripple = fractal(x * depth * 5.0, depth * 26.0, 70, 3) * np.float32(0.5)
    calm = 0.25 + 0.75 * step(noise(x * 2.5, depth * 1.2, 77), -0.3, 0.4)
    shore = np.float32(_HORIZON + _LENS * _EYE / 13.5)
    row = 2 * shore - y - 0.004 + 0.05 * calm * ripple * below**0.6
    column = x + 0.010 * calm * ripple
    rows = np.clip(row * canvas.height, 0, canvas.height - 1).astype(np.int32)
    columns = np.clip(column / canvas.aspect * canvas.width, 0, canvas.width - 1).astype(np.int32)
    mirror = color[rows, columns] * f32((0.78, 0.86, 0.90))
    water = mix(mirror, tint("123a4c"), clamp(0.12 + 1.25 * below))
    water = water + (0.10 * calm * clamp(ripple, -1.0, 1.0) * step(below, 0.02, 0.2))[..., None]
    return mix(color, clamp(water), step(y - shore, -0.001, 0.001))


def _edge(x: Field) -> Field:
    """Edge of the near bank, as y: low in the middle and higher to the sides."""
    left, right = step(-x, -0.62, 0.0), step(x, 0.66, 0.96)
    return 0.955 - 0.17 * left - 0.265 * right + 0.012 * fractal(x * 9, x * 0, 80, 4)


def _bank(color: Field, x: Field, y: Field, canvas: Canvas) -> Field:
    """Lay the near bank: a dark wet edge, earth, and thousands of blades of grass, tall ones in front."""
    edge = _edge(x[0])[None]
    tone = 0.45 + 0.3 * fractal(x * 6, y * 14, 82, 3)
    color = mix(color, tint("1c2a22"), 0.75 * step(y - edge, -0.012, 0.002))
    color = mix(color, ramp(clamp(tone), _BANK), step(y - edge, -0.002, 0.002))
    rng = np.random.default_rng(83)
    foot = rng.uniform((0.0, 0.68), (ASPECT, 1.05), (15000, 2)).astype(np.float32)
    foot = foot[foot[:, 1] > _edge(foot[:, 0]) + 0.003]
    foot = foot[np.argsort(foot[:, 1])]
    near = (foot[:, 1] - 0.62) / 0.4
    tall = near * rng.uniform(0.010, 0.032, len(foot))
    lean = tall * rng.normal(0.15, 0.35, len(foot))
    tone = 0.40 + 0.35 * fractal(foot[:, 0] * 6, foot[:, 1] * 14, 82, 3) + rng.normal(0.0, 0.17, len(foot))
    tones = ramp(clamp(tone), _BANK)
    half = np.stack([0.0016 * near + 0.0006, 0.0 * near], -1)
    corners = np.stack([foot - half, foot + np.stack([lean, -tall], -1), foot + half], 1)
    return canvas.paint(color, list(zip(corners, tones.tolist(), strict=True)))


def _box(x: Field, y: Field, left: float, top: float, right: float, bottom: float) -> Field:
    """Give 1 inside a rectangle and 0 outside."""
    return solid((x > left) & (x < right) & (y > top) & (y < bottom))


def _cabin(color: Field, x: Field, y: Field) -> Field:
    """Build a log cabin: a sunlit gable, a shaded long wall, a roof with snow, lit windows, smoke."""
    left, foot, tall = _CABIN
    u, v = (x - left) / tall, (foot - y) / tall
    logs = 0.75 + 0.25 * np.abs(np.sin(v * 22.0)) + 0.12 * fractal(u * 4, v * 30, 90, 2)
    peak = 0.55 + 0.5 * (0.4 - np.abs(u - 0.4)) / 0.4
    gable = solid((u > 0) & (u < 0.8) & (v > 0) & (v < peak))
    color = mix(color, f32(tint("b9783f")) * logs[..., None], gable)
    wall = solid((u >= 0.8) & (u < 2.0) & (v > 0) & (v < 0.56))
    color = mix(color, f32(tint("6b4229")) * logs[..., None], wall)
    lean = clamp((v - 0.50) / 0.58)
    roof = solid((u > 0.85 - 0.45 * lean) & (u < 2.1 - 0.40 * lean) & (v > 0.5) & (v < 1.08))
    shingle = 0.8 + 0.2 * np.sin(v * 60) + 0.25 * noise(u * 14, v * 14, 91)
    color = mix(color, f32(tint("8a3b2c")) * shingle[..., None], roof)
    eave = np.abs(v - (0.50 + 0.58 * (1 - np.abs(u - 0.4) / 0.45))) < 0.035
    color = mix(color, tint("3c2218"), solid(eave & (u > -0.06) & (u < 0.86) & (v > 0.46)))
    color = mix(color, tint("7d746c"), _box(u, v, 1.45, 0.9, 1.65, 1.32))
    for place in (1.0, 1.5):
        color = mix(color, tint("ffd27a"), _box(u, v, place, 0.17, place + 0.24, 0.42))
    color = mix(color, tint("40261a"), _box(u, v, 0.28, 0.0, 0.52, 0.40))
    drift = u - 1.55 - 0.35 * (v - 1.3) ** 1.0 - 0.25 * noise(v * 2.0, v * 0, 92)
    smoke = (
        np.exp(-((drift / (0.08 + 0.16 * clamp(v - 1.3, 0.0, 3.0))) ** 2)) * step(v, 1.3, 1.45) * step(-v, -3.4, -1.4)
    )
    return mix(color, (0.93, 0.93, 0.95), 0.55 * smoke)


def _firs(color: Field, canvas: Canvas) -> Field:
    """Plant firs on both sides of the bank, small ones behind."""
    rng = np.random.default_rng(12)
    places = [(x, 0.735 - 0.03 * abs(x - 0.6), rng.uniform(0.05, 0.1)) for x in rng.uniform(1.10, 1.36, 14)]
    places += [
        (-0.01, 0.99, 0.80),
        (0.13, 1.00, 0.62),
        (0.245, 0.99, 0.40),
        (0.07, 1.03, 0.50),
        (0.335, 0.985, 0.22),
    ]
    places += [(1.29, 0.94, 0.58), (1.19, 0.95, 0.36), (0.40, 1.0, 0.15), (1.11, 0.97, 0.20)]
    shapes = [shape for place in places for shape in _fir(*place, rng)]
    return canvas.paint(color, shapes)


def _fir(x: float, foot: float, tall: float, rng: np.random.Generator) -> list[Shape]:
    """Grow one fir from the foot up: a trunk, then boughs of many needles, lighter to the sun."""
    trunk = f32([(x - 0.013 * tall, foot), (x + 0.013 * tall, foot), (x, foot - tall)])
    rise = np.sort(rng.uniform(0.05, 0.99, 60 + int(190 * tall)))
    side = rng.uniform(-1.0, 1.0, len(rise))
    reach = 0.19 * tall * (1.04 - rise) ** 0.85 * rng.uniform(0.45, 1.1, len(rise))
    reach = reach * (1.0 + 0.22 * np.sin(rise * 34.0))
    root = np.stack([x + 0.0 * rise, foot - tall * rise], -1)
    tip = root + reach[:, None] * np.stack([side, rng.uniform(0.25, 0.5, len(rise))], -1)
    light = 0.36 - 0.30 * side + rng.normal(0.0, 0.13, len(rise)) + 0.12 * (rise - 0.5)
    thick = 0.022 * tall * (1.1 - rise) + 0.002
    return [(trunk, _FIR[0]), *_needles(root, tip, thick, light, rng)]


def _needles(root: Field, tip: Field, thick: Field, light: Field, rng: np.random.Generator) -> list[Shape]:
    """Give the needles of some boughs: slim triangles that hang along each bough and point outward."""
    count, places = len(root), np.linspace(0.1, 1.0, 7)[:, None]
    along = root[:, None] + (tip - root)[:, None] * places
    along[..., 1] -= 0.6 * thick[:, None] * np.sin(np.pi * places[:, 0])
    drop = rng.normal((0.5, 0.9), 0.35, (count, 7, 2)) * thick[:, None, None]
    drop[..., 0] *= np.sign(tip[:, :1] - root[:, :1])
    width = np.stack([0.32 * thick, 0.0 * thick], -1)[:, None]
    corners = np.stack([along - width, along + width, along + drop], 2).reshape(-1, 3, 2)
    tone = light[:, None] + rng.normal(0.0, 0.10, (count, 7)) - 0.15 * (1 - places[:, 0])
    return list(zip(corners, ramp(clamp(tone), _FIR).reshape(-1, 3).tolist(), strict=True))
