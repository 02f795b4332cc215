"""The style `mosaic`: a sun over waves in stained glass, glowing panes between dark leading."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Int

from swag_jax.images.samples._field import (
    Canvas,
    Field,
    bump,
    clamp,
    fractal,
    mix,
    noise,
    palette,
    ramp,
    step,
)

ASPECT = 1.0

Parts: TypeAlias = Int[np.ndarray, "..."]
"""Indices into `_PANES` at some points of the plane."""

_ROWS = 29.0
"""Panes along the height."""
_SUN = (0.56, 0.36)
_LEAD = (0.045, 0.045, 0.06)
_PANES = (
    palette("fff3b0 ffd23f ffb01f"),
    palette("f98a1b e8590c d62f1f"),
    palette("b5179e 8e1c68 d6336c"),
    palette("1d4fd7 2a7de1 163a9c"),
    palette("37b6e6 7fd6ee 1f86c9"),
    palette("0b7a75 1aa37a 64c47a"),
    palette("a4d65e 2f9e44 0f6b3a"),
    palette("14213d 1b3a7a 3b2a80"),
)
"""Three shades of glass for each part of the motif: the sun, its rays, the sky, the waves."""


def draw(canvas: Canvas) -> Field:
    """Cut the panes, color each by the part of the motif at its heart, and let light through."""
    x, y = canvas.grid()
    wobble = np.float32(0.12)
    u = x * _ROWS + wobble * noise(x * 40, y * 40, 3)
    v = y * _ROWS + wobble * noise(x * 40, y * 40, 4)
    home, offset, edge = _panes(u, v)
    part = _motif((home[0] + 0.5) / _ROWS, (home[1] + 0.5) / _ROWS)
    color = _glass(x, y, home, offset, edge, part)
    return _leading(color, x, y, edge, canvas)


def _hash(column: Field, row: Field, seed: int) -> Field:
    """Give each pane a random number in [0, 1]."""
    table = np.random.default_rng(seed).random((64, 64), np.float32)
    return table[row.astype(np.int32) % 64, column.astype(np.int32) % 64]


def _heart(column: Field, row: Field) -> tuple[Field, Field]:
    """Place the heart of a pane within its square of the grid."""
    return 0.1 + 0.8 * _hash(column, row, 1), 0.1 + 0.8 * _hash(column, row, 2)


def _panes(u: Field, v: Field) -> tuple[tuple[Field, Field], tuple[Field, Field], Field]:
    """Find the pane of each point: its square, the offset to its heart, and the distance to its border."""
    strips = [_panes_strip(*strip) for strip in zip(np.array_split(u, 16), np.array_split(v, 16), strict=True)]
    found = [np.concatenate(part) for part in zip(*strips, strict=True)]
    return (found[0], found[1]), (found[2], found[3]), found[4]


def _panes_strip(u: Field, v: Field) -> tuple[Field, Field, Field, Field, Field]:
    """Find the pane of each point in a strip of rows, small enough for the processor's cache."""
    column, row = np.floor(u), np.floor(v)
    around = [(i, j) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    offsets = []
    for i, j in around:
        hx, hy = _heart(column + i, row + j)
        offsets.append((column + i + hx - u, row + j + hy - v))
    squares = np.stack([dx * dx + dy * dy for dx, dy in offsets])
    nearest = np.argmin(squares, axis=0)
    near_x, near_y = np.zeros_like(u), np.zeros_like(u)
    home_x, home_y = np.zeros_like(u), np.zeros_like(u)
    for index, ((i, j), (dx, dy)) in enumerate(zip(around, offsets, strict=True)):
        here = nearest == index
        near_x, near_y = np.where(here, dx, near_x), np.where(here, dy, near_y)
        home_x, home_y = np.where(here, column + i, home_x), np.where(here, row + j, home_y)
    edge = np.full_like(u, 9.0)
    for index, (dx, dy) in enumerate(offsets):
        ax, ay = dx - near_x, dy - near_y
        norm = np.sqrt(ax * ax + ay * ay) + 1e-6
        distance = 0.5 * ((dx + near_x) * ax + (dy + near_y) * ay) / norm
        edge = np.minimum(edge, np.where(nearest == index, 9.0, distance))
    return home_x, home_y, near_x, near_y, edge


def _motif(x: Field, y: Field) -> Parts:
    """Number the part of the motif at each point, an index into `_PANES`."""
    angle = np.arctan2(y - _SUN[1], x - _SUN[0])
    distance = np.hypot(x - _SUN[0], y - _SUN[1])
    ray = np.sin(angle * 8.0 + 1.6 * np.sin(distance * 8.0)) > 0.0
    sky = np.where(distance < 0.40, np.where(ray, 1, 3), np.where(ray, 4, 3))
    sky = np.where(distance < 0.24, np.where(ray, 1, 2), sky)
    part = np.where(distance < 0.155, 0, sky)
    for level, wave in ((0.66, 5), (0.745, 4), (0.83, 7), (0.90, 6)):
        crest = level + 0.045 * np.sin(x * 8.0 + level * 31.0) + 0.02 * np.sin(x * 17.0)
        part = np.where(y > crest, wave, part)
    return part


def _glass(
    x: Field, y: Field, home: tuple[Field, Field], offset: tuple[Field, Field], edge: Field, part: Parts
) -> Field:
    """Color the panes: a shade each, streaks within, brighter to the middle and to one side."""
    shade = _hash(*home, 5)
    color = np.zeros((*x.shape, 3), np.float32)
    for index, shades in enumerate(_PANES):
        here = part == index
        color[here] = ramp(shade[here], shades)
    turn = 2 * np.pi * _hash(*home, 6)
    tilt = offset[0] * np.cos(turn) + offset[1] * np.sin(turn)
    streak = fractal(x * 30 + 9 * shade, y * 9 + 40 * shade, 11, 3)
    light = 0.80 + 0.30 * step(edge, 0.0, 0.45) + 0.35 * tilt + 0.16 * streak + 0.25 * (_hash(*home, 7) - 0.5)
    glow = np.exp(-3.0 * np.hypot(x - _SUN[0], y - _SUN[1]))
    return clamp(color * light[..., None] + 0.10 * (light * glow)[..., None])


def _leading(color: Field, x: Field, y: Field, edge: Field, canvas: Canvas) -> Field:
    """Lay dark rounded leading over the borders, and its shadow over the glass."""
    width = 0.075 + 0.02 * noise(x * 9, y * 9, 21)
    ridge = step(edge, 0.0, 0.16)
    shine = bump(1.0 - ridge, canvas, 2.3, 0.010) * (1.0 - step(edge - width, -0.02, 0.02))
    color = color * (0.55 + 0.45 * step(edge - width, 0.0, 0.16))[..., None]
    color = mix(np.asarray(_LEAD, np.float32), color, step(edge - width, -0.025, 0.025))
    return clamp(color + 0.22 * np.maximum(shine, 0.0)[..., None])
