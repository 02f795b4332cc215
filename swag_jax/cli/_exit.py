"""How a command ends: its exit code, and what Ctrl-C and SIGTERM do to it."""

import contextlib
import signal
from collections.abc import Callable, Sequence
from enum import IntEnum

from swag_jax import _signals


class ExitCode(IntEnum):
    """What the process of a command returns."""

    DONE = 0
    # A training had a loss or an update that was not finite.
    DIVERGED = 1
    # Bad usage or bad input; argparse uses the same code.
    BAD_INPUT = 2
    # Some of many results could not be made.
    SOME_FAILED = 3
    INTERRUPTED = _signals.EXIT_CODES[signal.SIGINT]
    TERMINATED = _signals.EXIT_CODES[signal.SIGTERM]


def stoppable(say: Callable[[str], None], otherwise: str) -> contextlib.AbstractContextManager[list[signal.Signals]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, which fills the list; the second ends the program."""
    return _signals.asked_first(lambda: say(f"stopping after these steps; Ctrl-C again to quit {otherwise}"))


def stopped_code(asked: Sequence[signal.Signals]) -> ExitCode:
    """Return the exit code of a command that kept what there was: `DONE` if no stop was asked for."""
    return ExitCode(_signals.EXIT_CODES[asked[0]]) if asked else ExitCode.DONE
