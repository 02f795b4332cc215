"""Programs of the last few sizes are kept, and JAX lets go of the others."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest

from swag_jax._checks import UserError
from swag_jax._programs import KEPT, Latest, Recent


def test_the_latest_are_kept():
    made = []
    kept = Latest(most=2)
    for key in (1, 2, 1, 3, 1, 2):
        assert kept.get(key, lambda key=key: made.append(key) or -key) == -key
    assert made == [1, 2, 3, 2]
    assert len(kept) == 2


def test_what_fails_is_not_kept():
    kept = Latest(most=2)
    with pytest.raises(ZeroDivisionError):
        kept.get(1, lambda: 1 / 0)
    assert kept.get(1, lambda: "made") == "made"


def test_a_value_is_made_once_for_many_threads():
    kept, calls = Latest(capacity=1000), []

    def slow():
        calls.append(1)
        time.sleep(0.05)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: kept.get("key", slow), range(8))) == ["value"] * 8
    assert len(calls) == 1


def test_the_oldest_are_let_go_by_their_bytes():
    kept, calls = Latest(capacity=250), []

    def make(key):
        return kept.get(key, lambda: calls.append(key) or np.zeros(100, np.uint8))

    for key in "abacab":  # c pushes b out, the oldest by then
        make(key)
    assert calls == ["a", "b", "c", "b"]


def test_bad_input_is_kept_and_accidents_are_not():
    kept, calls = Latest(capacity=10), []

    def fail(failure):
        calls.append(failure)
        raise failure

    for failure in (UserError("bad"), MemoryError()):
        for _ in range(2):
            with pytest.raises(type(failure)):
                kept.get(type(failure), lambda failure=failure: fail(failure))
    assert [type(call) for call in calls] == [UserError, MemoryError, MemoryError]


def test_a_key_compiles_once_and_goes_with_all_that_was_compiled():
    traced = []

    def double(x, *, factor):
        traced.append(x.shape)
        return factor * x

    recent = Recent(double, static_argnames="factor")

    def call(size):
        return float(recent.of(size)(jnp.ones(size), factor=2.0).sum())

    assert [call(3), call(3), call(4)] == [6.0, 6.0, 8.0]
    assert traced == [(3,), (4,)]
    gone, stays = weakref.ref(recent.of(3).__wrapped__), weakref.ref(recent.of(4).__wrapped__)
    for size in range(5, 4 + KEPT):
        call(size)
    gc.collect()
    assert gone() is None
    assert stays() is not None
    assert len(recent.kept) == KEPT
    call(4)
    assert traced.count((4,)) == 1
    call(3)
    assert traced.count((3,)) == 2
