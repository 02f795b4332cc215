import functools

import numpy as np
import pytest
from PIL import Image

from swag_jax._checks import UserError
from swag_jax.images import samples
from swag_jax.images.samples import CONTENTS, STYLES, sample
from swag_jax.images.samples._field import Canvas, bump, fractal, mix, noise, noise_slopes, ramp, step

NAMES = CONTENTS + STYLES
ASPECTS = {"cat": 1.0, "swirls": 5 / 4, "embers": 1.0, "woodcut": 7 / 5, "mosaic": 1.0, "dots": 5 / 4}
draw = functools.cache(lambda name, size: sample(name, size=size))


def detail(image):
    gray = image.mean(axis=-1)
    return np.abs(np.diff(gray, axis=0)).mean() + np.abs(np.diff(gray, axis=1)).mean()


def shrink(image, shape):
    channels = [Image.fromarray(image[..., c]).resize(shape[1::-1], Image.Resampling.BOX) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def test_enough_contents_and_styles_all_different():
    assert len(CONTENTS) >= 3
    assert len(STYLES) >= 4
    assert len(set(NAMES)) == len(NAMES) == len(samples._PICTURES)


@pytest.mark.parametrize("name", NAMES)
def test_picture_is_float32_in_range_with_contrast_and_texture(name):
    image = draw(name, 96)
    assert image.dtype == np.float32
    assert image.min() >= 0.0
    assert image.max() <= 1.0
    assert image.std() > 0.15
    assert detail(image) > 0.02
    assert image.std(axis=(0, 1)).min() > 0.1, "every channel must vary"


@pytest.mark.parametrize("name", NAMES)
def test_longer_side_is_the_size_and_the_aspect_stays(name):
    aspect = ASPECTS.get(name, 4 / 3)
    for size in (96, 192):
        height, width, channels = draw(name, size).shape
        assert (width, channels) == (size, 3)
        assert height == round(size / aspect)


@pytest.mark.parametrize("name", NAMES)
def test_same_scene_at_every_size(name):
    small, large = draw(name, 96), draw(name, 192)
    assert np.corrcoef(shrink(large, small.shape).ravel(), small.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_two_calls_are_equal(name):
    np.testing.assert_array_equal(sample(name, size=96), draw(name, 96))


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    image = sample("woodcut", size=32)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(sample("woodcut", size=32), image)


def test_samples_differ_from_each_other():
    tiny = {name: shrink(draw(name, 96), (24, 24)) for name in NAMES}
    for first in NAMES:
        for second in NAMES:
            if first < second:
                assert np.abs(tiny[first] - tiny[second]).mean() > 0.1, (first, second)


def test_unknown_name_offers_the_near_one():
    with pytest.raises(UserError, match=r"unknown sample 'harbour': did you mean harbor\?"):
        sample("harbour")
    with pytest.raises(UserError, match=r"unknown sample 'zzz': known: harbor, cat, mountains, .*dots"):
        sample("zzz")


@pytest.mark.parametrize("size", [0, 15, 5000])
def test_size_out_of_range(size):
    with pytest.raises(UserError, match=f"size must be at least 16 and at most 4096, got {size}"):
        sample("woodcut", size=size)


def test_smallest_size():
    assert sample("mosaic", size=16).shape == (16, 16, 3)


def test_grid_covers_the_plane():
    x, y = Canvas(2, 4, 2.0).grid()
    np.testing.assert_allclose(x[0], [0.25, 0.75, 1.25, 1.75])
    np.testing.assert_allclose(y[:, 0], [0.25, 0.75])


def test_mask_covers_the_polygon():
    cover = Canvas(8, 8, 1.0).mask([(0.0, 0.0), (0.49, 0.0), (0.49, 1.0), (0.0, 1.0)])
    np.testing.assert_array_equal(cover[:, :3], 1.0)
    np.testing.assert_array_equal(cover[:, 5:], 0.0)


def test_noise_is_smooth_bounded_and_meets_its_slopes():
    x, y = (field.astype(np.float32) * 9 for field in Canvas(64, 64, 1.0).grid())
    value, slope, _ = noise_slopes(x, y, 5)
    np.testing.assert_allclose(value, noise(x, y, 5), atol=1e-5)
    assert np.abs(value).max() <= 1.0
    near = noise(x + np.float32(0.01), y, 5) - noise(x - np.float32(0.01), y, 5)
    np.testing.assert_allclose(near / 0.02, slope, atol=0.05)
    assert np.abs(fractal(x, y, 5)).max() <= 1.6


def test_ramp_mix_and_step_end_where_they_should():
    black, white = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    ends = np.array([0.0, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(ramp(ends, (black, white))[:, 0], ends)
    np.testing.assert_allclose(mix(black, white, ends)[:, 2], ends)
    np.testing.assert_allclose(step(np.float32([-9, 2, 3, 4, 9]), 2.0, 4.0), [0, 0, 0.5, 1, 1])


def test_bump_is_bright_on_the_side_of_the_light():
    canvas = Canvas(16, 16, 1.0)
    x, _ = canvas.grid()
    assert (bump(x, canvas, np.pi, 0.1) > 0).all(), "a slope that rises to the right faces a light on the left"
