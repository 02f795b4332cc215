import contextlib
import io

import numpy as np
import pytest
from words import over

from swag_jax import read_image, sample
from swag_jax.cli import demo, main
from swag_jax.images import CONTENTS, STYLES, fitted, resize

SMALL = ("--size", "48", "--steps", "3", "--style-layers", "conv1", "--content-layers", "conv1")

PAIRS = [f"{content}_{style}.png" for content, style in demo.PAIRS]


def test_every_sample_appears_and_no_pair_twice():
    assert len(set(demo.PAIRS)) == len(demo.PAIRS) == 6
    assert {content for content, _ in demo.PAIRS} == set(CONTENTS)
    assert {style for _, style in demo.PAIRS} == set(STYLES)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A demo: its folder, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("demo") / "new", io.StringIO()
    with contextlib.redirect_stderr(printed):
        assert main(["demo", "-o", str(folder), *SMALL]) == 0
    return folder, printed.getvalue().splitlines()


def test_every_pair_and_the_sheet_are_written(ran):
    folder, _ = ran
    assert sorted(path.name for path in folder.iterdir()) == sorted([*PAIRS, "sheet.png"])
    for content, style in demo.PAIRS:
        expected = sample(content, size=48)
        image = read_image(folder / f"{content}_{style}.png")
        assert image.shape == expected.shape
        assert np.abs(image - expected).mean() > 0.005


def test_what_it_prints(ran):
    folder, lines = ran
    assert lines[0].startswith("weights: resnet50-caffe")
    assert [line.split(":")[0] for line in lines[1:-1]] == [f"{content} + {style}" for content, style in demo.PAIRS]
    assert lines[-1].startswith(f"wrote {folder / 'sheet.png'} and 6 images in ")


def test_sheet_holds_contents_styles_and_results(ran):
    folder, _ = ran
    sheet = read_image(folder / "sheet.png")
    for name in PAIRS:
        assert _holds(sheet, read_image(folder / name))
    for name in CONTENTS:
        assert _holds(sheet, np.round(sample(name, size=48) * 255) / 255)
    for name in ("mosaic", "woodcut"):  # in the cell of a content: as high, or as wide
        height, width = fitted(*sample(name, size=48).shape[:2], 36 if name == "mosaic" else 48)
        assert _holds(sheet, np.round(resize(sample(name, size=48), height, width) * 255) / 255)


def _holds(sheet, image):
    """Tell whether an image stands somewhere in the sheet, unscaled."""
    height, width = image.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (height, width, 3))[:, :, 0]
    corners = np.argwhere(np.abs(windows[..., 0, 0, :] - image[0, 0]).max(-1) < 2 / 255)
    return any(np.abs(windows[y, x] - image).max() < 2 / 255 for y, x in corners)


def test_quiet(command, tmp_path, monkeypatch):
    content, style = demo.PAIRS[0]
    monkeypatch.setattr(demo, "STYLES", {content: (style,)})
    monkeypatch.setattr(demo, "PAIRS", demo.PAIRS[:1])
    ended = command("demo", "-o", tmp_path, "--quiet", *SMALL)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_folder_that_cannot_be_made(command, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot make the folder" in command("demo", "-o", tmp_path / "file" / "deep", *SMALL).problem


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--size", 8), "size must be at least 16 and at most 4096, got 8"),
        (("--style-layers", "relu9_1"), "unknown layer 'relu9_1'"),
        (("--preset", "swag"), "unknown preset 'swag'"),
    ],
)
def test_bad_input_makes_no_image(command, unchecked, tmp_path, flags, message):
    assert message in command("demo", "-o", tmp_path / "demo", *over(SMALL, flags)).problem
    assert not list(tmp_path.rglob("*.png"))
