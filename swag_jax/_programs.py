"""Compiled programs, of which those of the last few sizes of images are kept."""

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeAlias, TypeVar

import jax

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
    """Values by key, of which those that were not asked for longest are let go; for any thread.

    Attributes:
        most: How many are kept.

    Example:
        >>> squares = Latest(most=2)
        >>> [squares.get(number, lambda: number**2) for number in (2, 3, 2, 4)], squares.get(2, lambda: 0)
        ([4, 9, 4, 16], 4)
        >>> squares.get(3, lambda: 0), len(squares)
        (0, 2)
    """

    def __init__(self, *, most: int):
        self.most = most
        self._known: dict[Hashable, Value] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, made if it is not there.

        Args:
            key: What tells it from others.
            make: Makes it.
        """
        with self._lock:
            value = self._known.pop(key) if key in self._known else make()
            self._known[key] = value  # at the end: the newest
            while len(self._known) > self.most:
                del self._known[next(iter(self._known))]
            return value


class Recent:
    """`jax.jit` of one function for each of the last few keys, such as the sizes that a run works at.

    JAX keeps what it traced and compiled as long as the function lives. Each key has a function of its own, with which
    all of that goes; `jax.clear_caches` would take what the caller has compiled, too.

    Attributes:
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
        self._function, self._options = function, options
        self.kept: Latest[Any] = Latest(most=KEPT)

    def of(self, key: Hashable) -> Any:
        """Return the compiled function of a key.

        Args:
            key: What its calls have in common. It says only how long they are remembered together: shapes and static
                arguments are told apart as ever.
        """
        return self.kept.get(key, lambda: jax.jit(_copied(self._function), **self._options))


def _copied(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def copied(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    return copied
