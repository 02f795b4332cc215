"""Many items worked on in batches: prepared ahead in threads, sorted into buckets, cut to what fits into memory."""

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import jax

from swag_jax._checks import UserError, error

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Found = TypeVar("Found")

# Threads that decode and resize; Pillow and JAX release Python's lock while they work.
THREADS = 4


class OutOfMemoryError(UserError):
    """The memory of the device does not hold the run; `fitting` items at once would fit, if that is known."""

    def __init__(self, message: str, *, fitting: int | None = None):
        super().__init__(message)
        self.fitting = fitting


@contextlib.contextmanager
def memory_explained(rule: str, *, cure: str) -> Iterator[None]:
    """Turn the failure of an allocation, on the device or the host, into an `OutOfMemoryError`, as `error` says it."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as failure:
        if not isinstance(failure, MemoryError) and "RESOURCE_EXHAUSTED" not in str(failure):
            raise
        raise OutOfMemoryError(str(error(rule, cure=cure))) from failure


class _Buckets(Generic[Item, Prepared, Found]):
    """Items that wait for others of their bucket, and how many of it fit into memory."""

    def __init__(
        self,
        run: Callable[[Sequence[Prepared]], Sequence[Found | UserError]],
        room: Callable[[Prepared], int],
        unit: int,
        over: Callable[[], bool],
    ):
        self._run, self._room, self._unit, self._over = run, room, unit, over
        self.waiting: dict[Hashable, list[tuple[int, Item, Prepared]]] = {}
        self._limits: dict[Hashable, int] = {}

    def due(self, key: Hashable, *, most: int) -> list[Hashable]:
        """Return what to work on after an item came: its bucket if it is a whole batch, the fullest if `most` wait."""
        if len(self.waiting[key]) >= self._size(key):
            return [key]
        full = sum(map(len, self.waiting.values())) >= most
        return [max(self.waiting, key=lambda each: len(self.waiting[each]))] if full else []

    def _size(self, key: Hashable) -> int:
        most = self._room(self.waiting[key][0][2])
        return min(most, self._limits.get(key, most))

    def work(self, key: Hashable) -> Iterator[tuple[int, Item, Found | UserError]]:
        """Work on all items of a bucket."""
        while self.waiting[key] and not self._over():
            batch = self.waiting[key][: self._size(key)]
            try:
                results = self._run([prepared for *_, prepared in batch])
            except OutOfMemoryError as failure:
                # Only its text is kept: the traceback holds arrays.
                if len(batch) > self._unit:
                    most = failure.fitting or len(batch) // 2 // self._unit * self._unit
                    self._limits[key] = max(min(most, len(batch) - 1), self._unit)
                    continue
                results = [OutOfMemoryError(str(failure))] * len(batch)
            del self.waiting[key][: len(batch)]
            # Not strict: there are no results once the work is over.
            for (index, item, _), result in zip(batch, results, strict=False):
                yield index, item, result
        if not self.waiting[key]:
            del self.waiting[key]


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
    """Work on items in batches of one bucket each; yield the number, item and result of each, as its batch ends.

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
    """
    buckets = _Buckets[Item, Prepared, Found](run, room, unit, over)
    pool = ThreadPoolExecutor(THREADS)
    try:
        for index, item, found in _prepared_ahead(items, prepare, pool=pool, most=ahead):
            if isinstance(found, UserError):
                yield index, item, found
                continue
            key = bucket(found)
            buckets.waiting.setdefault(key, []).append((index, item, found))
            for due in buckets.due(key, most=waiting):
                yield from buckets.work(due)
            if over():
                return
        for key in list(buckets.waiting):
            yield from buckets.work(key)
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
