"""Contact sheets: images in equal cells, with labels along the top and down the side, and captions below.

Images are host images: float32 `(height, width, 3)`, sRGB in [0, 1]. Lengths are in pixels. An image
that fits its cell without scaling keeps its exact values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from swag_jax import _checks
from swag_jax.images.resize import resize

CellImage: TypeAlias = Float[np.ndarray, "_ _ 3"]
"""A `HostImage` among others: images on one sheet need not be of one size."""

Color: TypeAlias = tuple[float, float, float]
"""One sRGB color, each channel in [0, 1]."""

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LABEL_INK, _CAPTION_INK = 0.13, 0.38
"""Contrast of text: how far the ink is from black, toward the background."""
_LABEL_LINES, _CAPTION_LINES = 2, 3
_ELLIPSIS = "…"
_LEADING = 1.3
"""Distance of lines of text, in font sizes."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands on a sheet, in pixels.

    Attributes:
        cell: Height and width of every cell.
        gap: Space between cells and around the whole.
        top: Height of the column labels with the space below them; 0 without labels.
        side: Width of the row labels with the space right of them; 0 without labels.
        below: Height of the captions below each row, with the space above them; 0 without captions.
        columns: Number of columns.
    """

    cell: tuple[int, int]
    gap: int
    top: int
    side: int
    below: tuple[int, ...]
    columns: int

    @property
    def height(self) -> int:
        """Height of the sheet."""
        return self.gap + self.top + sum(self.cell[0] + below + self.gap for below in self.below)

    @property
    def width(self) -> int:
        """Width of the sheet."""
        return self.gap + self.side + self.columns * (self.cell[1] + self.gap)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Row and column of the upper left pixel of a cell."""
        down = self.gap + self.top + sum(self.cell[0] + below + self.gap for below in self.below[:row])
        return down, self.gap + self.side + column * (self.cell[1] + self.gap)


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
    """Arrange images in a labeled grid.

    With side, top and caption 0 where there are no labels and captions, the sheet is
    gap + side + columns · (cell width + gap) wide and gap + top + Σ (cell height + caption + gap) high.

    Args:
        rows: The images, row by row; `None` leaves a cell empty, and short rows end in empty cells. Each is
            scaled to fit its cell, keeps its aspect ratio, and stands in the middle.
        captions: A text below each image, in the shape of `rows`, wrapped to at most three lines.
        row_labels: A text to the left of each row.
        column_labels: A text above each column.
        cell: Height and width of every cell; by default those of the highest and of the widest image.
        gap: Space between cells and around the sheet.
        font_size: Height of the labels; captions are a little smaller. By default it follows the
            cell's width.
        background: The color of everything else.

    Returns:
        The sheet, float32 `(height, width, 3)`, sRGB in [0, 1].

    Raises:
        UserError: If there is no image, or labels or captions do not match the rows and columns.

    Example:
        >>> red, blue = np.zeros((2, 8, 8, 3), np.float32)
        >>> sheet([[red, blue, None]], gap=2).shape
        (12, 32, 3)
    """
    columns = max((len(row) for row in rows), default=0)
    _check(rows, captions, row_labels, column_labels, columns)
    cell = cell if cell is not None else _largest(rows)
    size = font_size if font_size is not None else max(11, min(24, round(cell[1] / 15)))
    label, small = ImageFont.load_default(size), ImageFont.load_default(max(9, round(size * 0.82)))
    heads = [wrap(text, label, cell[1], _LABEL_LINES) for text in column_labels or ()]
    width = _side(row_labels or (), label, (max(cell[1] // 2, 4 * size), cell[1]))
    sides = [wrap(text, label, width, _CAPTION_LINES) for text in row_labels or ()]
    notes = [[wrap(text or "", small, cell[1], _CAPTION_LINES) for text in line] for line in captions or ()]
    layout = Layout(
        cell=cell,
        gap=int(_checks.check_range(gap, what="gap", low=0)),
        top=_block_height(heads, label) + size // 2 if heads else 0,
        side=_block_width(sides, label) + size if sides else 0,
        below=tuple(_block_height(line, small) + size // 3 for line in notes) or (0,) * len(rows),
        columns=columns,
    )
    canvas = np.empty((layout.height, layout.width, 3), np.float32)
    canvas[:] = background
    _place_images(canvas, rows, layout)
    _write(canvas, _label_marks(heads, sides, layout, label), label, background, _LABEL_INK)
    _write(canvas, _caption_marks(notes, layout, small, size // 3), small, background, _CAPTION_INK)
    return canvas


def _side(labels: Sequence[str], font: Font, bounds: tuple[int, int]) -> int:
    """Return the width of the rows' labels: what the longest word needs, within the bounds of which the first holds."""
    longest = max((font.getlength(word) for text in labels for word in _checks.one_line(text).split()), default=0.0)
    return max(bounds[0], min(math.ceil(longest), bounds[1]))


def wrap(text: str, font: Font, width: int, lines: int) -> list[str]:
    """Break a text into lines no wider than `width`; what does not fit ends in an ellipsis.

    Args:
        text: The text; runs of white space count as one space.
        font: The font that it will be written in.
        width: The greatest width of a line in pixels.
        lines: The greatest number of lines.

    Returns:
        The lines, at least one.

    Example:
        >>> wrap("one two three", ImageFont.load_default(10), 45, 2)
        ['one two', 'three']
    """
    found, words = [""], _checks.one_line(text).split()  # names of files may hold anything
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
    """Cut a text to a width, with an ellipsis where it was cut."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + _ELLIPSIS) > width:
        text = text[:-1].rstrip()
    return text + _ELLIPSIS


def _check(
    rows: Sequence[Sequence[CellImage | None]],
    captions: Sequence[Sequence[str | None]] | None,
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    columns: int,
) -> None:
    """Raise unless there is an image and every label and caption belongs to a row, column or cell."""
    if all(image is None for row in rows for image in row):
        raise _checks.error("a sheet needs at least one image", cure="pass rows of images")
    for what, texts, number in (("row", row_labels, len(rows)), ("column", column_labels, columns)):
        if texts is not None and len(texts) != number:
            raise _checks.error(f"a sheet of {number} {what}s needs {number} {what} labels", got=len(texts))
    if captions is not None:
        expected, got = [len(row) for row in rows], [len(line) for line in captions]
        if expected != got:
            raise _checks.error(f"captions must match the rows, {expected} per row", got=f"{got} per row")


def _largest(rows: Sequence[Sequence[CellImage | None]]) -> tuple[int, int]:
    """Height of the highest and width of the widest image."""
    images = [image for row in rows for image in row if image is not None]
    return max(image.shape[0] for image in images), max(image.shape[1] for image in images)


def _fit(image: CellImage, cell: tuple[int, int]) -> CellImage:
    """Scale an image until it touches its cell's border from inside; leave it alone if it does already."""
    height, width = image.shape[:2]
    scale = min(cell[0] / height, cell[1] / width)
    if scale == 1.0:
        return image
    return resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def _place_images(canvas: CellImage, rows: Sequence[Sequence[CellImage | None]], layout: Layout) -> None:
    """Put each image in the middle of its cell; changes the canvas."""
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            if image is not None:
                fitted, (down, right) = _fit(image, layout.cell), layout.corner(i, j)
                down += (layout.cell[0] - fitted.shape[0]) // 2
                right += (layout.cell[1] - fitted.shape[1]) // 2
                canvas[down : down + fitted.shape[0], right : right + fitted.shape[1]] = fitted


def _line_height(font: Font) -> int:
    """Distance between the lines of a text."""
    size = font.size if isinstance(font, ImageFont.FreeTypeFont) else 10
    return round(size * _LEADING)


def _block_height(blocks: Sequence[Sequence[str]], font: Font) -> int:
    """Height of the highest of some wrapped texts."""
    return max((len(lines) for lines in blocks), default=0) * _line_height(font)


def _block_width(blocks: Sequence[Sequence[str]], font: Font) -> int:
    """Width of the widest of some wrapped texts."""
    return math.ceil(max(font.getlength(line) for lines in blocks for line in lines))


_Mark: TypeAlias = tuple[str, int, int, str]
"""One line of text: the text, its place x and y, and Pillow's anchor."""


def _label_marks(
    heads: Sequence[Sequence[str]], sides: Sequence[Sequence[str]], layout: Layout, font: Font
) -> list[_Mark]:
    """Place column labels on the cells' top, centered, and row labels left of the cells, at half height."""
    leading, marks = _line_height(font), list[_Mark]()
    for j, lines in enumerate(heads):
        middle = layout.corner(0, j)[1] + layout.cell[1] // 2
        bottom = layout.corner(0, j)[0] - leading // 3
        marks += [(line, middle, bottom - leading * k, "md") for k, line in enumerate(reversed(lines))]
    for i, lines in enumerate(sides):
        middle = layout.corner(i, 0)[0] + (layout.cell[0] - leading * (len(lines) - 1)) // 2
        edge = layout.corner(i, 0)[1] - leading // 2
        marks += [(line, edge, middle + leading * k, "rm") for k, line in enumerate(lines)]
    return marks


def _caption_marks(notes: Sequence[Sequence[Sequence[str]]], layout: Layout, font: Font, space: int) -> list[_Mark]:
    """Place captions below their cells, centered."""
    marks = list[_Mark]()
    for i, row in enumerate(notes):
        for j, lines in enumerate(row):
            down, right = layout.corner(i, j)
            top, middle = down + layout.cell[0] + space, right + layout.cell[1] // 2
            marks += [(line, middle, top + _line_height(font) * k, "ma") for k, line in enumerate(lines)]
    return marks


def _coverage(shape: tuple[int, int], marks: Sequence[_Mark], font: Font) -> Float[np.ndarray, "height width"]:
    """Draw lines of text in white on black."""
    image = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for text, x, y, anchor in marks:
        if text:
            draw.text((x, y), text, fill=255, font=font, anchor=anchor)
    return np.asarray(image, np.float32) / np.float32(255.0)


def _write(canvas: CellImage, marks: Sequence[_Mark], font: Font, background: Color, fade: float) -> None:
    """Write lines of text in an ink that stands out from the background; changes the canvas."""
    if not marks:
        return
    dark = sum(background) < 1.2
    ink = np.array([fade * channel + (1.0 - fade) * dark for channel in background], np.float32)
    cover = _coverage((canvas.shape[0], canvas.shape[1]), marks, font)[..., None]
    canvas[:] = np.where(cover > 0, canvas + (ink - canvas) * cover, canvas)
