"""Contact sheets: images in equal cells, labels above and to the left of them, captions below.

Images are float32 `(height, width, 3)`, sRGB in [0, 1]; lengths are in pixels. An image that fits its cell
without scaling keeps its exact values.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

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

_LABEL_INK, _CAPTION_INK = 0.13, 0.38
"""How far ink is from black (or, on dark backgrounds, from white) toward the background."""

_LEADING = 1.3
"""Distance between lines of text, in font sizes."""


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
        captions: A text below each image, in the shape of `rows`; at most three lines.
        row_labels: A text to the left of each row; at most three lines.
        column_labels: A text above each column; at most two lines.
        cell: Height and width of every cell; default: those of the highest and of the widest image.
        gap: Space between cells and around the sheet.
        font_size: Of labels; captions are a little smaller. Default: by the cell's width.
        background: Color of everything else.

    Raises:
        UserError: If there is no image, or labels or captions do not match the rows and columns.

    Example:
        >>> red, blue = np.zeros((2, 8, 8, 3), np.float32)
        >>> sheet([[red, blue, None]], gap=2).shape
        (12, 32, 3)
    """
    columns = max(map(len, rows), default=0)
    _check(rows, captions, row_labels, column_labels, columns)
    check_range(gap, what="gap", low=0)
    images = [image for row in rows for image in row if image is not None]
    height, width = cell or (max(i.shape[0] for i in images), max(i.shape[1] for i in images))
    size = font_size if font_size is not None else max(11, min(24, round(width / 15)))
    small_size = max(9, round(size * 0.82))
    font, small = ImageFont.load_default(size), ImageFont.load_default(small_size)
    leading, small_leading = round(size * _LEADING), round(small_size * _LEADING)

    heads = [wrap(text, font, width, 2) for text in column_labels or ()]
    labels = [one_line(label) for label in row_labels or ()]
    longest = max((math.ceil(font.getlength(word)) for label in labels for word in label.split()), default=0)
    sides = [wrap(label, font, max(width // 2, 4 * size, min(longest, width)), 3) for label in labels]
    notes = [[wrap(text or "", small, width, 3) for text in row] for row in captions or [[]] * len(rows)]

    top = gap + (max(map(len, heads)) * leading + size // 2 if heads else 0)
    left = gap + (math.ceil(max(font.getlength(line) for lines in sides for line in lines)) + size if sides else 0)
    caption_space = size // 3
    below = [max(map(len, row), default=0) * small_leading + (caption_space if captions else 0) for row in notes]
    # The last of each is where another row or column would start: the sheet's height and width.
    tops = np.cumsum([top, *(height + space + gap for space in below)]).tolist()
    lefts = [left + column * (width + gap) for column in range(columns + 1)]

    canvas = np.empty((tops[-1], lefts[-1], 3), np.float32)
    canvas[:] = background
    for top, row in zip(tops, rows, strict=False):
        for left, image in zip(lefts, row, strict=False):
            if image is not None:
                _place(canvas[top : top + height, left : left + width], image)

    label_ink, caption_ink = _ink(background, _LABEL_INK), _ink(background, _CAPTION_INK)
    above = [
        (head, left + width // 2, tops[0] - leading // 3 - leading * (len(head) - 1))
        for left, head in zip(lefts, heads, strict=False)
    ]
    _write(canvas, above, font, leading, "md", label_ink)
    left_of = [
        (side, lefts[0] - leading // 2, top + (height - leading * (len(side) - 1)) // 2)
        for top, side in zip(tops, sides, strict=False)
    ]
    _write(canvas, left_of, font, leading, "rm", label_ink)
    below_cells = [
        (note, left + width // 2, top + height + caption_space)
        for top, row in zip(tops, notes, strict=False)
        for left, note in zip(lefts, row, strict=False)
    ]
    _write(canvas, below_cells, small, small_leading, "ma", caption_ink)
    return canvas


def _check(rows, captions, row_labels, column_labels, columns: int) -> None:
    """Raise unless there is an image and every label and caption belongs to a row, column or cell."""
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
    """Break a text into at most `lines` lines no wider than `width` pixels; what does not fit ends in an ellipsis.

    Example:
        >>> wrap("one two three", ImageFont.load_default(10), 45, 2)
        ['one two', 'three']
    """
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
    """Write an image into the middle of a cell, as large as fits."""
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


def _write(
    canvas: CellImage,
    texts: Sequence[tuple[Sequence[str], int, int]],
    font: Font,
    leading: int,
    anchor: str,
    ink: Color,
) -> None:
    """Write texts into the canvas: the lines of each, and the place (x, y) of the first by Pillow's anchor."""
    drawn = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    draw = ImageDraw.Draw(drawn)
    for lines, x, y in texts:
        for number, line in enumerate(lines):
            draw.text((x, y + leading * number), line, fill=255, font=font, anchor=anchor)
    cover = np.asarray(drawn, np.float32)[..., None] / np.float32(255.0)
    canvas[:] = np.where(cover > 0, canvas + (np.asarray(ink, np.float32) - canvas) * cover, canvas)
