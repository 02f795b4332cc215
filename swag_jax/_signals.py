"""Ctrl-C and SIGTERM in the command line: one line and one exit code, from the first import to the end of the process.

This is imported before everything else, so it needs the standard library only. It does nothing except in the process
of `swag-jax` or `python -m swag_jax`: a program that uses the package keeps its own handlers.
"""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

# 128 plus the signal's number, as in shells.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_SHOW_CURSOR = b"\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """A signal that asks the program to end, with its exit code."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number, self.code = signal.Signals(number), EXIT_CODES[signal.Signals(number)]


class _Ending:
    """State of the process on its way to an end."""

    # A signal has been raised, so that the next one ends the process at once.
    raised: bool = False
    # The one line is printed.
    told: bool = False
    # What the command line returned: the process can end.
    code: int | None = None
    # Python is handling a signal that arrived at a moment when nothing can be raised.
    resending: bool = False


def is_program() -> bool:
    """Tell whether this process is the command line, which imports the package before anything else."""
    program = (getattr(sys, "argv", None) or [""])[0]
    # `python -m` calls itself `-m` while it imports the packages around the module.
    return Path(program).stem in ("swag-jax", "swag-jax-script") or (program == "-m" and "swag_jax" in sys.orig_argv)


def end_at_once() -> None:
    """Let a signal end the process with its line and code: during start and stop there is nothing to save."""
    _handle_all(lambda number, _: _leave(number))


def ended(code: int) -> None:
    """Say that the command line is done: the process ends without taking apart what the system frees anyway."""
    _Ending.code = code


def _end() -> None:
    # The last function of `atexit`, as the first that was registered, in the program only. Python would free all
    # objects one by one, which takes a third of a second with JAX.
    if _Ending.code is None:
        return  # an error, or the help
    with contextlib.suppress(Exception):  # what cannot be written Python reports itself
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_Ending.code)


def tell(number: int) -> None:
    """Print the one line of a signal, once in a run."""
    if not _Ending.told:
        _Ending.told = True
        print(_line(number), file=sys.stderr)


def _line(number: int) -> str:
    return f"swag-jax: {_WORDS[signal.Signals(number)]}"


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let the first signal inside raise `Interrupted`, and the next one end the process at once."""
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
def asked_first(say: Callable[[], object]) -> Iterator[list[signal.Signals]]:
    """Let the first signal inside be a request, which calls `say()` and fills the list; the second is raised."""
    asked: list[signal.Signals] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            interrupt(number, frame)
        asked.append(signal.Signals(number))
        with contextlib.suppress(RuntimeError):  # an interrupted print cannot be started again inside itself
            say()

    before = _handle_all(ask)
    try:
        yield asked
    finally:
        _restore(before)


def interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise `Interrupted`; if that has been done, end the process."""
    if _Ending.resending:
        return _send_later(number)
    if _Ending.raised:
        _leave(number)
    _Ending.raised = True
    raise Interrupted(number)


def _leave(number: int) -> NoReturn:
    # Not through Python's buffers: a print may be what was interrupted.
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)  # a live line hides it
    if not _Ending.told:
        os.write(2, f"{_line(number)}\n".encode())
    os._exit(EXIT_CODES[signal.Signals(number)])


def _again(unraisable: "sys.UnraisableHookArgs") -> bool:
    """Send a signal once more if it came when nothing can be raised, such as in a finalizer."""
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
        # None: a handler not set by Python, which cannot be restored.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


if is_program():  # now: the imports that follow take a second, in which Ctrl-C shall print no traceback
    end_at_once()
    atexit.register(_end)
