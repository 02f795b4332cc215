"""Items in batches: each one's result whatever its neighbors, and no more in memory than fits."""

import threading

import jax
import pytest

from swag_jax._checks import UserError
from swag_jax._scheduler import OutOfMemoryError, memory_explained, schedule


def work(items, *, run=None, prepare=lambda item: item, **options):
    """Work on numbers, in buckets of their last digit; return the results by number of the item, and the batches."""
    batches = []

    def record(batch):
        batches.append(list(batch))
        return run(batch) if run else [-x for x in batch]

    chosen = {"bucket": lambda x: x % 10, "room": lambda _: 3, "ahead": 4, "waiting": 100, **options}
    found = schedule(items, prepare=prepare, run=record, **chosen)
    return {index: result for index, _, result in found}, batches


def test_batches_are_of_one_bucket_and_run_when_complete():
    found, batches = work([1, 2, 11, 22, 21, 31, 32])
    assert batches == [[1, 11, 21], [2, 22, 32], [31]]
    assert found == {i: -x for i, x in enumerate([1, 2, 11, 22, 21, 31, 32])}


def test_the_fullest_bucket_goes_when_too_many_wait():
    _, batches = work([1, 2, 12, 3, 13, 23], room=lambda _: 9, waiting=3)
    assert batches == [[2, 12], [3, 13], [1], [23]]


def test_one_bad_item_fails_alone():
    def prepare(item):
        if item == 11:
            raise UserError("bad")
        return item

    found, batches = work([1, 11, 21, 31], prepare=prepare)
    assert (str(found.pop(1)), found) == ("bad", {0: -1, 2: -21, 3: -31})
    assert batches == [[1, 21, 31]]


def test_other_failures_are_passed_on_and_end_the_threads():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        work([1, 2], prepare=lambda item: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work([1, 2], run=lambda batch: 1 / 0)
    assert threading.active_count() == before


def limited(most, fitting=None):
    def run(batch):
        if len(batch) > most:
            raise OutOfMemoryError(f"too many: {len(batch)}", fitting=fitting)
        return [-x for x in batch]

    return run


@pytest.mark.parametrize(
    ("most", "fitting", "unit", "sizes"),
    [
        (3, None, 1, [8, 4, 2, 2, 2, 2, 2, 1]),
        (3, 3, 1, [8, 3, 3, 2, 3]),
        (3, None, 3, [8, 3, 3, 2, 3]),
        (8, None, 1, [8, 3]),
    ],
)
def test_what_does_not_fit_is_halved_and_stays_so(most, fitting, unit, sizes):
    items = list(range(0, 110, 10))
    found, batches = work(items, run=limited(most, fitting), room=lambda _: 8, unit=unit)
    assert [len(batch) for batch in batches] == sizes
    assert found == {i: -x for i, x in enumerate(items)}


def test_another_bucket_is_not_halved():
    _, batches = work([1, 11, 2, 12], run=lambda batch: limited(1 if batch[0] == 1 else 9)(batch), room=lambda _: 2)
    assert batches == [[1, 11], [1], [11], [2, 12]]


def test_a_batch_that_cannot_be_cut_fails_as_a_whole():
    found, batches = work([1, 11, 21, 2], run=lambda batch: limited(0 if 1 in batch else 9)(batch), unit=3)
    assert batches == [[1, 11, 21], [2]]
    assert [str(found[i]) for i in range(3)] == ["too many: 3"] * 3
    assert found[3] == -2


def test_nothing_comes_after_the_end():
    ended = []

    def run(batch):
        ended.append(batch[0] == 2)
        return [] if ended[-1] else [-x for x in batch]

    found, batches = work([1, 2, 3, 4], run=run, room=lambda _: 1, over=lambda: any(ended))
    assert (found, batches) == ({0: -1}, [[1], [2]])


def test_items_are_drawn_and_prepared_a_few_ahead():
    drawn = []
    found = schedule(
        (drawn.append(i) or i for i in range(50)),
        prepare=lambda item: item,
        bucket=lambda _: None,
        room=lambda _: 2,
        run=list,
        ahead=5,
        waiting=9,
    )
    next(found)
    assert len(drawn) == 6
    before = threading.active_count()
    found.close()
    assert threading.active_count() < before


@pytest.mark.parametrize("failure", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 8 bytes")])
def test_memory_that_is_used_up_is_explained(failure):
    with (
        pytest.raises(OutOfMemoryError, match=r"^it must fit: take less\.$"),
        memory_explained("it must fit", cure="take less"),
    ):
        raise failure


def test_other_failures_are_not_explained():
    with pytest.raises(jax.errors.JaxRuntimeError, match="lost"), memory_explained("it must fit", cure="take less"):
        raise jax.errors.JaxRuntimeError("INTERNAL: lost")
