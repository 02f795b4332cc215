"""Ctrl-C and SIGTERM in the command line: one line and one exit code, from the first import to the end of the process.

Imported before everything else, it needs the standard library only. A program that only uses the package keeps its own
handlers: nothing here is done but in the process of `swag-jax` or `python -m swag_jax`.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""128 plus the signal's number, as shells have it."""

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end.

    Attributes:
        code: The exit code.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number, self.code = signal.Signals(number), EXIT_CODES[signal.Signals(number)]


class _Ending:
    """How far the process is on its way to an end.

    Attributes:
        raised: Whether a signal has been raised, so that the next one need not wait for what ends.
        told: Whether the one line is printed.
        resending: Whether Python handles a signal that came where nothing can be raised, and nothing can be still.
    """

    raised: bool = False
    told: bool = False
    resending: bool = False


def is_program() -> bool:
    """Tell whether this process is that of the command line, which imports the package before anything else."""
    program = (getattr(sys, "argv", None) or [""])[0]
    # What `python -m` starts is called so while the packages around it are imported.
    return Path(program).stem in ("swag-jax", "swag-jax-script") or (program == "-m" and "swag_jax" in sys.orig_argv)


def end_at_once() -> None:
    """Let a signal end the process with its line and its code: while it starts or stops, there is nothing to keep."""
    _handle_all(lambda number, _: _leave(number))


def tell(number: int) -> None:
    """Print the one line of a signal, once in a run."""
    if not _Ending.told:
        _Ending.told = True
        print(_line(number), file=sys.stderr)


def _line(number: int) -> str:
    return f"swag-jax: {_WORDS[signal.Signals(number)]}"


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal inside raise `Interrupted`, and the next one end the process, whatever still waits."""
    _Ending.raised = _Ending.told = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = _handle_all(interrupt), sys.unraisablehook
    sys.unraisablehook = lambda unraisable: _again(unraisable) or hook(unraisable)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        _restore(before)


@contextlib.contextmanager
def asked_first(say: Any) -> Iterator[list[signal.Signals]]:
    """Let the first signal inside be a request; the second one is what the first is elsewhere.

    Args:
        say: Called without arguments at the first.

    Yields:
        A list that is empty until a stop is asked for, and then holds the signal.
    """
    asked: list[signal.Signals] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            interrupt(number, frame)
        asked.append(signal.Signals(number))
        with contextlib.suppress(RuntimeError):  # a print that is interrupted cannot be begun again inside itself
            say()

    before = _handle_all(ask)
    try:
        yield asked
    finally:
        _restore(before)


def interrupt(number: int, _frame: Any) -> None:
    """Raise `Interrupted`; where that has been done, end the process.

    Raises:
        Interrupted: At the first call within `interruptible`.
    """
    if _Ending.resending:
        return _send_later(number)
    if _Ending.raised:
        _leave(number)
    _Ending.raised = True
    raise Interrupted(number)


def _leave(number: int) -> NoReturn:
    # Past Python's own buffers: it may be a print that is interrupted.
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)  # a live line hides it
    if not _Ending.told:
        os.write(2, f"{_line(number)}\n".encode())
    os._exit(EXIT_CODES[signal.Signals(number)])


def _again(unraisable: Any) -> bool:
    """Send a signal once more that came up where nothing can be raised, such as the end of an object's life."""
    found = unraisable.exc_value
    if not isinstance(found, Interrupted):
        return False
    _Ending.resending, _Ending.raised = True, False
    try:
        _send_later(found.number)
    finally:
        _Ending.resending = False
    return True


def _send_later(number: int) -> None:
    threading.Timer(0.05, _thread.interrupt_main, [int(number)]).start()


def _handle_all(handler: Any) -> dict[signal.Signals, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in EXIT_CODES}


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        # None: one that is not Python's, which cannot be put back.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


if is_program():  # now: what is imported after this takes a second, and Ctrl-C shall not show where it was
    end_at_once()
