import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swag_jax._checks import UserError
from swag_jax.images import CONTENTS, STYLES, fitted, read_image, resize, sample, samples

NAMES = CONTENTS + STYLES
FOLDER = Path(samples.__file__).parent / "_samples"
PROVENANCE = tomllib.loads((FOLDER / "provenance.toml").read_text(encoding="utf-8"))

SIDES = {
    "astronaut": (384, 512),
    "cat": (300, 400),
    "coffee": (384, 512),
    "swirls": (410, 512),
    "embers": (512, 512),
    "woodcut": (366, 512),
    "mosaic": (512, 512),
    "dots": (410, 512),
}
"""Height and width of the files."""

LARGEST, MOST = 600_000, 9
"""Bytes of all files together, and how many there may be."""


def detail(image):
    gray = image.mean(axis=-1)
    return np.abs(np.diff(gray, axis=0)).mean() + np.abs(np.diff(gray, axis=1)).mean()


def test_names():
    assert CONTENTS == ("astronaut", "cat", "coffee")
    assert STYLES == ("swirls", "embers", "woodcut", "mosaic", "dots")


def test_every_sample_is_one_small_file():
    files = [path for path in FOLDER.iterdir() if path.name != "provenance.toml"]
    assert sorted(path.name for path in files) == sorted(f"{name}.webp" for name in NAMES)
    assert len(files) <= MOST
    assert sum(path.stat().st_size for path in files) <= LARGEST


def test_every_file_says_where_it_is_from_and_no_other():
    assert list(PROVENANCE) == list(NAMES)
    for name, entry in PROVENANCE.items():
        assert list(entry) == ["author", "license", "source", "changes"], name
        assert all(text.strip() for text in entry.values()), name
        free = ("public domain", "CC0") if name in CONTENTS else ("Apache-2.0",)
        assert entry["license"].startswith(free), name


@pytest.mark.parametrize("name", NAMES)
def test_at_the_size_of_its_file_a_sample_is_the_file(name):
    with Image.open(FOLDER / f"{name}.webp") as file:
        assert (file.format, file.mode, file.size) == ("WEBP", "RGB", SIDES[name][::-1])
        stored = np.asarray(file)
    np.testing.assert_array_equal(sample(name, size=max(SIDES[name])), stored.astype(np.float32) / 255)


@pytest.mark.parametrize("size", [16, 101, 512, 700])
@pytest.mark.parametrize("name", ["cat", "woodcut"])
def test_other_sizes_are_the_file_resized(name, size):
    image = sample(name, size=size)
    assert max(image.shape) == size
    expected = resize(read_image(FOLDER / f"{name}.webp"), *fitted(*SIDES[name], size))
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("name", NAMES)
def test_image_is_float32_in_range_with_contrast_and_texture(name):
    image = sample(name, size=96)
    assert image.dtype == np.float32
    assert image.min() >= 0.0
    assert image.max() <= 1.0
    assert image.std() > 0.15
    assert detail(image) > 0.02
    assert image.std(axis=(0, 1)).min() > 0.1, "every channel must vary"


def test_one_program_serves_all_contents():
    assert {sample(name, size=96).shape for name in CONTENTS} == {(72, 96, 3)}


def test_samples_differ_from_each_other():
    tiny = {name: resize(sample(name, size=96), 24, 24) for name in NAMES}
    for first in NAMES:
        for second in NAMES:
            if first < second:
                assert np.abs(tiny[first] - tiny[second]).mean() > 0.1, (first, second)


def test_a_change_of_one_image_leaves_the_next_as_it_was():
    first = sample("mosaic", size=32)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(sample("mosaic", size=32), kept)


def test_unknown_name_offers_the_near_one():
    with pytest.raises(UserError, match=r"unknown sample 'cofee': did you mean coffee\?"):
        sample("cofee")
    with pytest.raises(UserError, match=r"unknown sample 'zzz': known: astronaut, cat, coffee, .*dots"):
        sample("zzz")


@pytest.mark.parametrize("size", [0, 15, 5000])
def test_size_out_of_range(size):
    with pytest.raises(UserError, match=f"size must be at least 16 and at most 4096, got {size}"):
        sample("woodcut", size=size)
