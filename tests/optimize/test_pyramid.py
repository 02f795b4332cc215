"""The scales of a run."""

import pytest

from swag_jax._checks import UserError
from swag_jax.optimize import StylizeSettings
from swag_jax.optimize.pyramid import Scale, plan


def test_sizes_double_and_steps_are_shared():
    scales = plan((300, 400), StylizeSettings(size=512, smallest_size=128, steps=302), minimum_size=16)
    assert scales == (Scale(128, 96, 128, 100), Scale(256, 192, 256, 100), Scale(512, 384, 512, 102))


def test_one_scale_where_the_smallest_is_the_whole():
    assert plan((400, 300), StylizeSettings(size=512, smallest_size=512, steps=7), minimum_size=16) == (
        Scale(512, 512, 384, 7),
    )


def test_a_size_below_the_smallest_stands_alone():
    assert [scale.size for scale in plan((10, 10), StylizeSettings(size=64, steps=10), minimum_size=16)] == [64]


def test_scales_too_small_for_the_network_are_left_out():
    scales = plan((100, 1000), StylizeSettings(size=1024, steps=10), minimum_size=32)
    assert [(s.height, s.width, s.steps) for s in scales] == [(51, 512, 5), (102, 1024, 5)]


def test_fewer_steps_than_scales_leave_out_the_coarsest():
    scales = plan((9, 9), StylizeSettings(size=512, smallest_size=128, steps=2), minimum_size=1)
    assert [(s.size, s.steps) for s in scales] == [
        (256, 1),
        (512, 1),
    ]


def test_too_small_a_image_names_the_size_that_works():
    with pytest.raises(UserError, match=r"at least 32 pixels .*, got 20x200: pass --size 320 or more"):
        plan((100, 1000), StylizeSettings(size=200), minimum_size=32)
    assert plan((100, 1000), StylizeSettings(size=320, smallest_size=320), minimum_size=32)
