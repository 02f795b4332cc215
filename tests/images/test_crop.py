"""Crops show what resizing the whole image and cutting it shows."""

import numpy as np
import pytest
from PIL import Image

from swag_jax._checks import UserError
from swag_jax.images import read_image
from swag_jax.images.crop import read_crop


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Noise of 60 x 40 pixels (width x height)."""
    path = tmp_path_factory.mktemp("crop") / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("where", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_a_crop_is_cut_from_the_resized_image(image, where, squash):
    found = read_crop(image, size=32, crop=16, where=where, squash=squash)
    width = 32 if squash else 48
    whole = np.asarray(Image.open(image).resize((width, 32), Image.Resampling.BICUBIC))
    row, column = (min(int(place * (room + 1)), room) for place, room in zip(where, (16, width - 16), strict=True))
    # A separate window is resampled with separately rounded weights.
    np.testing.assert_allclose(found, whole[row : row + 16, column : column + 16], atol=2)


def test_a_crop_at_the_image_s_own_size_is_exact(image):
    found = read_crop(image, size=40, crop=20, where=(0.0, 1.0))
    np.testing.assert_array_equal(found, np.asarray(Image.open(image))[:20, 40:])
    flipped = read_crop(image, size=40, crop=20, where=(0.0, 1.0), flip=True)
    np.testing.assert_array_equal(flipped, found[:, ::-1])


def test_a_large_jpeg_is_decoded_smaller(tmp_path):
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (800, 800, 3))).save(tmp_path / "ramp.jpg", quality=95)
    found = read_crop(tmp_path / "ramp.jpg", size=100, crop=100)
    np.testing.assert_allclose(found[50, :, 0], np.linspace(1, 254, 100), atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK", "I;16"])
def test_every_mode_shows_what_read_image_shows(tmp_path, mode):
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 4), np.uint8)
    image = {
        "RGBA": lambda: Image.fromarray(values),
        "I;16": lambda: Image.fromarray(values[..., 0].astype(np.uint16) * 257),
    }.get(mode, lambda: Image.fromarray(values[..., :3]).convert(mode))()
    path = tmp_path / ("image.tif" if mode in ("CMYK", "I;16") else "image.png")
    image.save(path)
    expected = read_image(path) * 255
    np.testing.assert_allclose(read_crop(path, size=24, crop=24), expected, atol=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8, "crop": 16}, "size must be at least 16, got 8"),
        ({"size": 16, "crop": 16, "where": (0.0, 1.5)}, "a place must be at least 0 and at most 1, got 1.5"),
    ],
)
def test_impossible_crops(image, options, message):
    with pytest.raises(UserError, match=message):
        read_crop(image, **options)


def test_a_missing_image(tmp_path):
    with pytest.raises(UserError, match="must exist"):
        read_crop(tmp_path / "absent.png", size=16, crop=16)
