"""How a command ends: its exit code, and what Ctrl-C and SIGTERM do to it."""

import contextlib
import signal
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from swag_jax import _signals


class ExitCode(IntEnum):
    """What the process of a command returns."""

    DONE = 0
    DIVERGED = 1
    """A training had a loss or an update that was not finite."""
    BAD_INPUT = 2
    """Bad usage or bad input; argparse uses the same code."""
    SOME_FAILED = 3
    """Some of many results could not be made."""
    INTERRUPTED = _signals.EXIT_CODES[signal.SIGINT]
    TERMINATED = _signals.EXIT_CODES[signal.SIGTERM]


def stoppable(say: Callable[[str], None], otherwise: str) -> contextlib.AbstractContextManager[list[Any]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop and keep what there is; the second ends the program.

    Args:
        say: Tells the user.
        otherwise: How a second Ctrl-C ends.

    Returns:
        A context with a list that is empty until a stop is asked for, and then holds the signal.
    """
    return _signals.asked_first(lambda: say(f"stopping after these steps; Ctrl-C again to quit {otherwise}"))


def stopped_code(asked: Sequence[Any]) -> ExitCode:
    """Return the exit code of a command that kept what there was: `DONE` if no stop was asked for."""
    return ExitCode(_signals.EXIT_CODES[asked[0]]) if asked else ExitCode.DONE
