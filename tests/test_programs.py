"""Programs of the last few sizes are kept, and JAX lets go of the others."""

import gc
import weakref

import jax.numpy as jnp
import pytest

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
