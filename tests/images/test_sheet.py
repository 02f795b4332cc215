import math

import numpy as np
import pytest
from PIL import ImageFont

from swag_jax._checks import UserError
from swag_jax.images.sheet import sheet, wrap

WHITE = (1.0, 1.0, 1.0)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width, 3), np.float32) * np.float32(0.5)


def test_size_is_cells_and_gaps():
    assert sheet([[noise(20, 30)] * 3] * 2, gap=5).shape == (5 + 2 * 25, 5 + 3 * 35, 3)


def test_images_of_the_cells_size_are_unchanged():
    first, second = noise(20, 30, 1), noise(20, 30, 2)
    result = sheet([[first, second]], gap=4)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[4:24, 4:34], first)
    np.testing.assert_array_equal(result[4:24, 38:68], second)
    result[4:24, 4:34] = result[4:24, 38:68] = 1.0
    np.testing.assert_array_equal(result, 1.0)


def test_text_leaves_the_images_alone():
    image = noise(40, 60)
    texts = {"captions": [["below"]], "row_labels": ["side"], "column_labels": ["top"]}
    plain, labeled = sheet([[image]], gap=6), sheet([[image]], gap=6, **texts)
    assert labeled.shape[0] > plain.shape[0]
    assert labeled.shape[1] > plain.shape[1]
    right = labeled.shape[1] - 66
    top = next(row for row in range(6, labeled.shape[0] - 40) if (labeled[row, right] == image[0, 0]).all())
    np.testing.assert_array_equal(labeled[top : top + 40, right : right + 60], image)


def test_small_images_grow_and_stand_in_the_middle():
    result = sheet([[np.zeros((10, 10, 3), np.float32), noise(20, 60)]], gap=2)
    cell = result[2:22, 2:62]
    np.testing.assert_array_equal(cell[:, 20:40], 0.0)
    np.testing.assert_array_equal(cell[:, :20], 1.0)
    np.testing.assert_array_equal(cell[:, 40:], 1.0)


def test_large_images_shrink_into_given_cells():
    result = sheet([[np.zeros((100, 200, 3), np.float32)]], cell=(30, 40), gap=0)
    assert result.shape == (30, 40, 3)
    np.testing.assert_array_equal(result[5:25], 0.0)
    np.testing.assert_array_equal(result[:5], 1.0)
    np.testing.assert_array_equal(result[25:], 1.0)


def test_empty_cells_and_short_rows_are_blank():
    image = noise(8, 8)
    result = sheet([[None, image, image], [image]], gap=1)
    assert result.shape == (19, 28, 3)
    np.testing.assert_array_equal(result[1:9, 1:9], 1.0)
    np.testing.assert_array_equal(result[10:, 10:], 1.0)


def test_captions_leave_ink_below_their_own_cell_only():
    image = noise(30, 80)
    result = sheet([[image, image]], captions=[["swirls", None]], gap=10)
    below = result[40:]
    assert (below[:, 10:90] < 0.6).any()
    np.testing.assert_array_equal(below[:, 95:], 1.0)


def test_a_row_label_gets_the_room_of_its_longest_word_up_to_a_cell():
    image, half = noise(20, 160), sheet([[noise(20, 160)]], row_labels=["i i i i"], gap=0).shape[1]
    whole = ImageFont.load_default(11).getlength("WideResNet50-2")
    assert 80 < whole < 160
    assert sheet([[image]], row_labels=["r-ResNet WideResNet50-2"], gap=0).shape[1] == 160 + math.ceil(whole) + 11
    assert half < sheet([[image]], row_labels=["WideResNet50-2" * 3], gap=0).shape[1] <= 160 + 160 + 11


def test_column_labels_stand_above_and_row_labels_to_the_left():
    image = noise(30, 80)
    column = sheet([[image]], column_labels=["style"], gap=10)
    assert (column[: column.shape[0] - 40] < 0.6).any()
    row = sheet([[image]], row_labels=["content"], gap=10)
    assert (row[:, : row.shape[1] - 90] < 0.6).any()


def test_text_does_not_touch_the_images():
    black = np.zeros((40, 90, 3), np.float32)
    texts = {"captions": [["gypsy"]], "row_labels": ["gypsy"], "column_labels": ["gypsy"]}
    result = sheet([[black]], gap=8, font_size=14, **texts)
    ink = (result < 1.0).any(axis=-1)
    right = result.shape[1] - 98
    top = next(row for row in range(result.shape[0]) if ink[row, right:-8].all())
    assert not ink[top - 1, right - 1 :].any()
    assert not ink[top + 40, right - 1 :].any()
    assert not ink[top - 1 : top + 41, right - 1].any()
    assert not ink[0].any()
    assert not ink[-1].any()
    assert not ink[:, 0].any()


def test_long_captions_do_not_reach_the_neighbor():
    image = noise(30, 80)
    result = sheet([[image, image]], captions=[["many words " * 20, ""]], gap=10)
    np.testing.assert_array_equal(result[40:, 91:], 1.0)


def test_background_colors_and_light_ink_on_dark():
    result = sheet([[noise(20, 60), None]], captions=[["text", ""]], gap=3, background=(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(result[0, 0], np.float32((0.1, 0.2, 0.3)))
    assert result[25:].max() > 0.5
    assert result.max() <= 1.0


def test_text_is_deterministic():
    arguments = {"captions": [["a caption"]], "column_labels": ["a label"]}
    image = noise(20, 60)
    np.testing.assert_array_equal(sheet([[image]], **arguments), sheet([[image]], **arguments))


def test_wrap_keeps_every_word_when_there_is_room():
    font = ImageFont.load_default(12)
    text = "softmax smoothing, three hundred steps"
    lines = wrap(text, font, 110, 9)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 110 for line in lines)


@pytest.mark.parametrize("text", ["one two three four five six", "unbreakably_long_name_of_a_image", "a " * 99])
@pytest.mark.parametrize("lines", [1, 2])
def test_wrap_shortens_what_does_not_fit(text, lines):
    font = ImageFont.load_default(12)
    found = wrap(text, font, 60, lines)
    assert len(found) <= lines
    assert found[-1].endswith("…")
    assert all(font.getlength(line) <= 60 for line in found)


def test_wrap_of_nothing_is_one_empty_line():
    assert wrap("  ", ImageFont.load_default(12), 60, 2) == [""]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "a sheet needs at least one image: pass rows of images."),
        ([[None]], {}, "a sheet needs at least one image: pass rows of images."),
        ([[noise(4, 4)]], {"row_labels": ["a", "b"]}, "a sheet of 1 rows needs 1 row labels, got 2."),
        ([[noise(4, 4)]], {"column_labels": []}, "a sheet of 1 columns needs 1 column labels, got 0."),
        (
            [[noise(4, 4)]],
            {"captions": [["a", "b"]]},
            "captions must match the rows, [1] per row, got [2] per row.",
        ),
        ([[noise(4, 4)]], {"gap": -1}, "gap must be at least 0, got -1."),
    ],
)
def test_misuse_is_explained(rows, options, message):
    with pytest.raises(UserError) as caught:
        sheet(rows, **options)
    assert str(caught.value) == message


def test_labels_may_hold_anything():
    """Names of files: line ends, escape codes, bytes that are no UTF-8."""
    font = ImageFont.load_default(10)
    assert wrap("red\x1b[31m\udcff\nname", font, 400, 3) == ["red\\x1b[31m\\udcff name"]
    image = np.full((16, 16, 3), 0.5, np.float32)
    assert sheet([[image]], row_labels=["\udcff\n\x1b"], column_labels=["\udcff"]).shape[2] == 3
