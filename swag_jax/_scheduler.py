"""Many items worked on in batches: prepared ahead in threads, sorted into buckets, cut to what fits into memory."""

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

from swag_jax._checks import UserError, error

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Found = TypeVar("Found")

THREADS = 4
"""Threads that decode and resize; Pillow and JAX release Python's lock while they work."""


class OutOfMemoryError(UserError):
    """The memory of the device does not hold the run.

    Attributes:
        fitting: How many items at once would fit, if that is known.
    """

    def __init__(self, message: str, *, fitting: int | None = None):
        super().__init__(message)
        self.fitting = fitting


@contextlib.contextmanager
def memory_explained(rule: str, *, cure: str) -> Iterator[None]:
    """Turn the failure of an allocation, on the device or the host, into an `OutOfMemoryError`.

    Args:
        rule: What must hold, as a clause without a full stop.
        cure: What the user can do, likewise.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as failure:
        if not isinstance(failure, MemoryError) and "RESOURCE_EXHAUSTED" not in str(failure):
            raise
        raise OutOfMemoryError(str(error(rule, cure=cure))) from failure


def schedule(
    items: Iterable[Item],
    *,
    prepare: Callable[[Item], Prepared],
    bucket: Callable[[Prepared], Hashable],
    room: Callable[[Prepared], int],
    run: Callable[[Sequence[Prepared]], Sequence[Found | UserError]],
    ahead: int,
    waiting: int,
    unit: int = 1,
    over: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, Item, Found | UserError]]:
    """Work on items in batches of one bucket each.

    A batch is run when it is complete, or when too many items wait and its bucket is the fullest. One that does not
    fit into memory is cut in halves, and its bucket's next batches are as small.

    Args:
        items: Drawn while earlier ones are at work.
        prepare: Makes one ready, in a thread; what it raises as `UserError` is the item's result.
        bucket: What items must have in common to be in one batch.
        room: How many at most are in a batch with this one.
        run: Works on a batch; returns one result per item, or nothing when the work is over. If the batch does not fit
            into memory, it raises an `OutOfMemoryError`.
        ahead: Items that are prepared ahead.
        waiting: Items that may wait for others of their bucket.
        unit: Items that take no more memory together than one; their batch is not cut.
        over: Whether to stop before all items are done; asked after each batch.

    Yields:
        The number of each item, the item and its result as its batch ends, not in order.
    """
    buckets: dict[Hashable, list[tuple[int, Item, Prepared]]] = {}
    limits: dict[Hashable, int] = {}

    def room_of(key: Hashable) -> int:
        most = room(buckets[key][0][2])
        return min(most, limits.get(key, most))

    def work(key: Hashable) -> Iterator[tuple[int, Item, Found | UserError]]:
        while buckets[key] and not over():
            batch = buckets[key][: room_of(key)]
            try:
                results = run([prepared for *_, prepared in batch])
            except OutOfMemoryError as failure:  # dropped here: its traceback keeps arrays alive
                if len(batch) > unit:
                    most = failure.fitting or len(batch) // 2 // unit * unit
                    limits[key] = max(min(most, len(batch) - 1), unit)
                    continue
                results = [OutOfMemoryError(str(failure))] * len(batch)
            del buckets[key][: len(batch)]
            for (index, item, _), result in zip(batch, results, strict=False):
                yield index, item, result
        if not buckets[key]:
            del buckets[key]

    pool = ThreadPoolExecutor(THREADS)
    try:
        for index, item, found in _prepared_ahead(items, prepare, pool=pool, most=ahead):
            if isinstance(found, UserError):
                yield index, item, found
                continue
            key = bucket(found)
            buckets.setdefault(key, []).append((index, item, found))
            if len(buckets[key]) >= room_of(key):
                yield from work(key)
            elif sum(map(len, buckets.values())) >= waiting:
                yield from work(max(buckets, key=lambda each: len(buckets[each])))
            if over():
                return
        for key in list(buckets):
            yield from work(key)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared_ahead(
    items: Iterable[Item], prepare: Callable[[Item], Prepared], *, pool: ThreadPoolExecutor, most: int
) -> Iterator[tuple[int, Item, Prepared | UserError]]:
    """Prepare items, at most `most` ahead of the one that is asked for; yield them in order."""

    def attempt(item: Item) -> Prepared | UserError:
        try:
            return prepare(item)
        except UserError as problem:
            return problem

    numbered, begun = enumerate(items), deque[tuple[int, Item, Future]]()
    while True:
        for index, item in numbered:
            begun.append((index, item, pool.submit(attempt, item)))
            if len(begun) >= most:
                break
        if not begun:
            return
        index, item, future = begun.popleft()
        yield index, item, future.result()
