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
    """Return a function compiled ahead of time; under `jax.disable_jit`, as it is.

    Args:
        function: Made by `jax.jit` or `jax.pmap`.
        *arguments: Its arguments, or their shapes and types.
        **static: Its static arguments, which the program is called without.
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

    Example:
        >>> squares = Latest(most=2)
        >>> [squares.get(number, lambda: number**2) for number in (2, 3, 2, 4)], squares.get(2, lambda: 0)
        ([4, 9, 4, 16], 4)
        >>> squares.get(3, lambda: 0), len(squares)
        (0, 2)
    """

    def __init__(self, *, most: float = math.inf, capacity: float = math.inf):
        self.most, self.capacity = most, capacity
        self._known: dict[Hashable, Future] = {}
        self._bytes: dict[Hashable, int] = {}  # of those that are made
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, made by the first thread that asks; the others wait for it.

        Args:
            key: What tells it from others.
            make: Makes it.
        """
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

    JAX keeps what it traced and compiled as long as the function lives. Each key has its own function, with which
    all of that goes; `jax.clear_caches` would take what the caller has compiled, too.

    Attributes:
        function: The function.
        kept: The compiled functions by key.

    Args:
        function: A pure function.
        **options: Those of `jax.jit`.

    Example:
        >>> double = Recent(lambda x: 2 * x)
        >>> [int(double.of(key)(key)) for key in range(9)], len(double.kept) == KEPT
        ([0, 2, 4, 6, 8, 10, 12, 14, 16], True)
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.function, self._options = function, options
        self.kept: Latest[Any] = Latest(most=KEPT)

    def of(self, key: Hashable) -> Any:
        """Return the compiled function of a key.

        Args:
            key: What its calls have in common. It says only how long they are remembered together: shapes and static
                arguments are still distinguished.
        """
        return self.kept.get(key, lambda: jax.jit(_copied(self.function), **self._options))


def _copied(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def copied(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return copied
