"""Compiled programs, and other values that are made once, of which the last few are kept."""

import functools
import math
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeAlias, TypeVar

import jax

from swag_jax._checks import UserError
from swag_jax._modes import is_jit_off

KEPT = 4
"""Sizes of images whose programs are kept in memory, of which each takes 45 to 80 MiB for every scale that is worked
at. Our choice: a loop over images of a few shapes compiles each once, one over any number stays below a gigabyte."""

Value = TypeVar("Value")

Program: TypeAlias = Callable[..., Any]
"""A function compiled for arguments of some shapes; under `jax.disable_jit`, the function."""


def compiled(function: Any, *arguments: Any, **static: Any) -> Program:
    """Return a function of `jax.jit` or `jax.pmap` compiled ahead of time, without its static arguments.

    Under `jax.disable_jit` it is returned as it is.
    """
    if is_jit_off():
        return functools.partial(function, **static)
    return function.lower(*arguments, **static).compile()


class Latest(Generic[Value]):
    """Values by key, each made once, of which those not asked for longest are dropped; for any thread.

    A `UserError` is kept like a value. After any other failure the next caller tries again.

    Attributes:
        most: How many are kept.
        capacity: Bytes of arrays to keep; the newest value is kept whatever its size.
    """

    def __init__(self, *, most: float = math.inf, capacity: float = math.inf):
        self.most, self.capacity = most, capacity
        self._known: dict[Hashable, Future] = {}
        self._bytes: dict[Hashable, int] = {}  # of those that are made
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, made by the first thread that asks; the others wait for it."""
        with self._lock:
            known = self._known.pop(key, None)
            future = self._known[key] = known or Future()  # at the end: the newest
        if known is None:
            try:
                future.set_result(make())
            except BaseException as failure:
                future.set_exception(failure)
            self._keep(key, future)
        return future.result()

    def _keep(self, key: Hashable, future: Future) -> None:
        failure = future.exception()
        with self._lock:
            if failure is not None and not isinstance(failure, UserError):
                del self._known[key]
                return
            leaves = [] if failure else jax.tree.leaves(future.result())
            self._bytes[key] = sum(getattr(leaf, "nbytes", 0) for leaf in leaves)
            for oldest in [each for each in self._known if each in self._bytes and each != key]:
                if len(self._bytes) <= self.most and sum(self._bytes.values()) <= self.capacity:
                    return
                del self._known[oldest], self._bytes[oldest]


class Recent:
    """`jax.jit` of one function for each of the last few keys, such as the sizes that a run works at.

    A key says only how long calls are remembered together: shapes and static arguments are still distinguished.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.function, self._options = function, options
        self.kept: Latest[Any] = Latest(most=KEPT)

    def of(self, key: Hashable) -> Any:
        """Return the compiled function of a key."""
        # JAX keeps what it traced and compiled as long as the function lives. Each key has its own function, with which
        # all of that goes; `jax.clear_caches` would take what the caller has compiled, too.
        return self.kept.get(key, lambda: jax.jit(_copied(self.function), **self._options))


def _copied(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(function)(lambda *arguments, **options: function(*arguments, **options))
