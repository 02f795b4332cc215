import math
from typing import Literal

import numpy as np
import pytest

from swag_jax import UserError
from swag_jax._checks import check_name, check_range, check_type, error, near

LAYERS = ["relu1_1", "relu4_1", "relu4_2", "conv5_3"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "size must be even."),
        ({"got": 7}, "size must be even, got 7."),
        ({"cure": "pass --size 8"}, "size must be even: pass --size 8."),
        ({"got": 0, "cure": "pass --size 8"}, "size must be even, got 0: pass --size 8."),
    ],
)
def test_error_is_one_sentence(arguments, text):
    assert str(error("size must be even", **arguments)) == text


def test_user_error_is_a_value_error():
    assert isinstance(error("no"), UserError)
    assert issubclass(UserError, ValueError)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("relu41", "did you mean relu4_1 or relu4_2 or relu1_1?"),
        ("RELU4_1", "did you mean relu4_1 or relu4_2 or relu1_1?"),
        ("CONV5_3", "did you mean conv5_3?"),
        ("xyz", "known: relu1_1, relu4_1, relu4_2, conv5_3"),
        ("", "known: relu1_1, relu4_1, relu4_2, conv5_3"),
    ],
)
def test_near_names(name, text):
    assert near(name, LAYERS) == text


def test_near_names_are_limited():
    assert near("relu41", LAYERS, limit=1) == "did you mean relu4_1?"


def test_near_names_keep_their_case():
    assert near("vgg19", ["VGG19", "ResNet50"]) == "did you mean VGG19?"


def test_known_name_is_returned():
    assert check_name("conv5_3", LAYERS, what="layer") == "conv5_3"
    assert check_name("conv5_3", (name for name in LAYERS), what="layer") == "conv5_3"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conv53", "unknown layer 'conv53': did you mean conv5_3?"),
        ("CONV5_3", "unknown layer 'CONV5_3': did you mean conv5_3?"),
        ("x", "unknown layer 'x': known: relu1_1, relu4_1, relu4_2, conv5_3"),
    ],
)
def test_unknown_name_is_explained(name, text):
    with pytest.raises(UserError) as caught:
        check_name(name, (name for name in LAYERS), what="layer")
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("value", "bounds"),
    [(1, {"low": 1}), (5.5, {"low": 1, "high": 5.5}), (-3.0, {}), (1e-9, {"low": 0, "open_low": True})],
)
def test_value_in_range_is_returned(value, bounds):
    assert check_range(value, what="size", **bounds) is value


@pytest.mark.parametrize(
    ("value", "bounds", "text"),
    [
        (0, {"low": 1}, "size must be at least 1, got 0."),
        (0.0, {"low": 0, "open_low": True}, "size must be greater than 0, got 0.0."),
        (21, {"low": 0.05, "high": 20}, "size must be at least 0.05 and at most 20, got 21."),
        (2, {"high": 1}, "size must be at most 1, got 2."),
        (math.nan, {}, "size must be a finite number, got nan."),
        (math.inf, {}, "size must be a finite number, got inf."),
        (-math.inf, {"high": 1}, "size must be at most 1, got -inf."),
        (math.nan, {"low": 0, "high": 1}, "size must be at least 0 and at most 1, got nan."),
    ],
)
def test_value_out_of_range_is_explained(value, bounds, text):
    with pytest.raises(UserError) as caught:
        check_range(value, what="size", **bounds)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (np.uint8(3), int, 3),
        (3, float, 3.0),
        (np.float32(0.5), float, 0.5),
        (True, bool, True),
        ("relu1_1", str, "relu1_1"),
        ("auto", float | Literal["auto"], "auto"),
        (2, float | Literal["auto"], 2.0),
        (None, tuple[str, ...] | None, None),
        (["a", "b"], tuple[str, ...] | None, ("a", "b")),
        ([], tuple[float, ...], ()),
    ],
)
def test_value_of_the_type_is_returned(value, hint, expected):
    found = check_type(value, hint, what="size")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "text"),
    [
        (1.0, int, "size must be an integer, got 1.0."),
        (False, int, "size must be an integer, got False."),
        ("1", float, "size must be a number, got '1'."),
        (10**400, float, "size must be a number, got 1000"),
        (1, bool, "size must be True or False, got 1."),
        (None, str, "size must be a string, got None."),
        ("ab", tuple[str, ...], "size must be a tuple of strings, got 'ab'."),
        ((1, "2"), tuple[int, ...], "each of size must be an integer, got '2'."),
        ("warm", float | Literal["auto"], "size must be a number or auto, got 'warm'."),
        ("b", Literal["a", "c"], "unknown size 'b': "),
        (1, Literal["a", "c"], "size must be a or c, got 1."),
    ],
)
def test_value_of_another_type_is_explained(value, hint, text):
    with pytest.raises(UserError) as caught:
        check_type(value, hint, what="size")
    assert str(caught.value).startswith(text)
