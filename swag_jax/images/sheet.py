"""Contact sheets: images in equal cells, labels above and to the left of them, captions below.

Images are float32 sRGB `height width 3` in [0, 1]; one that fits its cell without scaling keeps its exact values.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from swag_jax._checks import check_range, error, one_line
from swag_jax.images.resize import resize

CellImage: TypeAlias = Float[np.ndarray, "_ _ 3"]
"""A `HostImage`; images on one sheet need not be of one size."""

Color: TypeAlias = tuple[float, float, float]
"""One sRGB color, each channel in [0, 1]."""

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

Cell = TypeVar("Cell")

# How far ink is from black (or, on dark backgrounds, from white) toward the background.
_LABEL_INK, _CAPTION_INK = 0.13, 0.38

_LEADING = 1.3  # distance between lines of text, in font sizes


def sheet(
    rows: Sequence[Sequence[CellImage | None]],
    *,
    captions: Sequence[Sequence[str | None]] | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: tuple[int, int] | None = None,
    gap: int = 12,
    font_size: int | None = None,
    background: Color = (1.0, 1.0, 1.0),
) -> CellImage:
    """Return images arranged in a labeled grid.

    Args:
        rows: The images, row by row; `None` leaves a cell empty, and short rows end in empty cells. Each image is
            scaled to fit its cell, keeps its aspect ratio, and is centered.
        captions: A text below each image, in the shape of `rows`; they and row labels have at most three lines.
        column_labels: At most two lines.
        cell: Height and width of every cell; default: those of the highest and of the widest image.
        gap: Space between cells and around the sheet.
        font_size: Of labels; captions are a little smaller. Default: by the cell's width.

    Example:
        >>> red, blue = np.zeros((2, 8, 8, 3), np.float32)
        >>> sheet([[red, blue, None]], gap=2).shape
        (12, 32, 3)
    """
    columns = max(map(len, rows), default=0)
    _check(rows, captions, row_labels, column_labels, columns)
    check_range(gap, what="gap", low=0)
    height, width = cell or _largest(rows)
    size = font_size or max(11, min(24, round(width / 15)))
    label, caption = _Type.of_size(size), _Type.of_size(max(9, round(size * 0.82)))

    heads = label.wrapped(column_labels, width, 2)
    sides = label.wrapped(row_labels, label.room(row_labels, width, size), 3)
    notes = [caption.wrapped(row, width, 3) for row in captions or [[]] * len(rows)]
    space = size // 3 if captions else 0
    top, left = gap + label.height(heads, size // 2), gap + label.width(sides, size)
    # The last of each is where another row or column would start: the sheet's height and width.
    tops = np.cumsum([top, *(height + space + caption.height(row) + gap for row in notes)])
    lefts = left + np.arange(columns + 1) * (width + gap)

    canvas = np.full((tops[-1], lefts[-1], 3), background, np.float32)
    for image, y, x in _cells(rows, tops, lefts):
        if image is not None:
            _place(canvas[y : y + height, x : x + width], image)
    # Column labels end above the first row, row labels are centered to the left of theirs, captions start below cells.
    ink, middles = _ink(background, _LABEL_INK), lefts + width // 2
    label.write(canvas, _cells([heads], tops - label.leading // 3, middles), "md", ink, rise=1.0)
    right = itertools.repeat(lefts[0] - label.leading // 2)
    label.write(canvas, zip(sides, tops + height // 2, right, strict=False), "rm", ink, rise=0.5)
    caption.write(canvas, _cells(notes, tops + height + space, middles), "ma", _ink(background, _CAPTION_INK))
    return canvas


class _Type(NamedTuple):
    font: Font
    leading: int

    @classmethod
    def of_size(cls, size: int) -> "_Type":
        return cls(ImageFont.load_default(size), round(size * _LEADING))

    def wrapped(self, texts: Sequence[str | None] | None, width: int, lines: int) -> list[list[str]]:
        return [wrap(text or "", self.font, width, lines) for text in texts or ()]

    def room(self, labels: Sequence[str] | None, width: int, size: int) -> int:
        """Return the room of row labels: half a cell, or their longest word up to a whole one."""
        words = [word for text in labels or () for word in one_line(text).split()]
        longest = max((math.ceil(self.font.getlength(word)) for word in words), default=0)
        return max(width // 2, 4 * size, min(longest, width))

    def width(self, texts: Sequence[Sequence[str]], margin: int) -> int:
        lengths = [math.ceil(self.font.getlength(line)) for lines in texts for line in lines]
        return max(lengths) + margin if lengths else 0

    def height(self, texts: Sequence[Sequence[str]], margin: int = 0) -> int:
        return max(map(len, texts)) * self.leading + margin if texts else 0

    def write(
        self, canvas: CellImage, texts: Iterable[tuple[list[str], int, int]], anchor: str, ink: Color, rise: float = 0.0
    ) -> None:
        """Write texts, the first line of each at (y, x) by Pillow's anchor, or higher by a share of the other lines."""
        drawn = Image.new("L", (canvas.shape[1], canvas.shape[0]))
        draw = ImageDraw.Draw(drawn)
        for lines, y, x in texts:
            first = y - int((len(lines) - 1) * self.leading * rise)
            for number, line in enumerate(lines):
                draw.text((x, first + self.leading * number), line, fill=255, font=self.font, anchor=anchor)
        cover = np.asarray(drawn, np.float32)[..., None] / np.float32(255.0)
        canvas[:] = np.where(cover > 0, canvas + (np.asarray(ink, np.float32) - canvas) * cover, canvas)


def _largest(rows: Sequence[Sequence[CellImage | None]]) -> tuple[int, int]:
    shapes = [image.shape for row in rows for image in row if image is not None]
    return max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)


def _cells(rows: Sequence[Sequence[Cell]], tops: np.ndarray, lefts: np.ndarray) -> Iterator[tuple[Cell, int, int]]:
    for row, top in zip(rows, tops, strict=False):
        for value, left in zip(row, lefts, strict=False):
            yield value, top, left


def _check(rows, captions, row_labels, column_labels, columns: int) -> None:
    if all(image is None for row in rows for image in row):
        raise error("a sheet needs at least one image", cure="pass rows of images")
    for what, texts, number in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if texts is not None and len(texts) != number:
            raise error(f"a sheet of {number} {what}s needs {number} {what} labels", got=len(texts))
    if captions is not None:
        expected, got = [len(row) for row in rows], [len(line) for line in captions]
        if expected != got:
            raise error(f"captions must match the rows, {expected} per row", got=f"{got} per row")


def wrap(text: str, font: Font, width: int, lines: int) -> list[str]:
    """Break a text into at most `lines` lines no wider than `width` pixels; what does not fit ends in an ellipsis."""
    found, words = [""], one_line(text).split()  # names of files may hold anything
    for index, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            found[-1] = longer
        elif found[-1] and len(found) < lines:
            found.append(_shorten(word, font, width))
        else:
            return [*found[:-1], _shorten(" ".join([found[-1], *words[index:]]).strip(), font, width)]
    return found


def _shorten(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1].rstrip()
    return f"{text}…"


def _place(cell: CellImage, image: CellImage) -> None:
    scale = min(cell.shape[0] / image.shape[0], cell.shape[1] / image.shape[1])
    if scale != 1.0:
        image = resize(image, max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    height, width = image.shape[:2]
    down, right = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    cell[down : down + height, right : right + width] = image


def _ink(background: Color, fade: float) -> Color:
    dark = sum(background) < 1.2
    red, green, blue = (fade * channel + (1.0 - fade) * dark for channel in background)
    return red, green, blue
