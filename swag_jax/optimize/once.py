"""Values that are computed once per key, also when several threads ask for the same one at the same time."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import jax

from swag_jax._checks import UserError


class Once:
    """Remembers what was computed, and forgets what was not asked for longest.

    A `UserError` is remembered like a value; any other failure is not, since the next attempt may succeed.

    Attributes:
        capacity: Bytes of arrays to remember; the newest value is kept whatever its size.

    Example:
        >>> squares = Once(capacity=1000)
        >>> squares.get(3, lambda: 3 * 3), squares.get(3, lambda: 1 / 0)
        (9, 9)
    """

    def __init__(self, *, capacity: float):
        self.capacity = capacity
        self._lock = threading.Lock()
        self._known: dict[Hashable, Future] = {}
        self._bytes: dict[Hashable, int] = {}

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of `key`, made by the first thread that asks; the others wait for it."""
        with self._lock:
            known = self._known.pop(key, None)
            future = self._known[key] = known or Future()  # at the end: the newest
        if known is None:
            _fulfill(future, make)
            self._keep(key, future)
        return future.result()

    def _keep(self, key: Hashable, future: Future) -> None:
        failure = future.exception()
        with self._lock:
            if failure is not None and not isinstance(failure, UserError):
                del self._known[key]
                return
            self._bytes[key] = 0 if failure else _size(future.result())
            for oldest in list(self._known):
                if sum(self._bytes.values()) <= self.capacity:
                    break
                if oldest != key and oldest in self._bytes:
                    del self._known[oldest], self._bytes[oldest]


def _fulfill(future: Future, make: Callable[[], Any]) -> None:
    try:
        future.set_result(make())
    except BaseException as failure:
        future.set_exception(failure)


def _size(value: Any) -> int:
    return sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(value))
