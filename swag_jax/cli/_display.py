"""What a person sees while a picture is made: one live line, or plain lines where there is no terminal."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from swag_jax.optimize import Progress as StylizeProgress

SECONDS_BETWEEN_LINES = 10
"""Pause between plain lines, when the output goes to a file."""


class Display:
    """Shows the progress of stylizations on standard error; a callback for `stylize`.

    Attributes:
        quiet: Show nothing.
        also: Called with every progress; its result is passed on, so that it can stop the run.
    """

    def __init__(self, title: str, *, quiet: bool, also: Callable[[StylizeProgress], object] | None = None):
        self.title, self.quiet, self.also = title, quiet, also
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[line]}"))
        self._bar = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self._task = self._bar.add_task(title, total=None, line="compiling")
        self._spoken = time.monotonic()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print one line above the progress."""
        self.console.print(text, soft_wrap=True, markup=False)

    def __call__(self, progress: StylizeProgress) -> object:
        """Show one progress."""
        line = summary(progress)
        self._bar.update(self._task, completed=progress.step, total=progress.steps, line=line)
        plain = not self.console.is_terminal
        if plain and (time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES or progress.step == progress.steps):
            self._spoken = time.monotonic()
            self.say(f"{self.title}: {line}")
        return self.also(progress) if self.also else None


def summary(progress: StylizeProgress) -> str:
    """Say where a run is: step, size, losses by family, rate and time left."""
    families = {
        family: sum(v for name, v in progress.losses.items() if name.split("/")[0] == family)
        for family in ("total", "content", "style", "variation")
        if any(name.split("/")[0] == family for name in progress.losses)
    }
    losses = "  ".join(f"{family} {value:.4g}" for family, value in families.items())
    place = f"step {progress.step}/{progress.steps}  {progress.width}x{progress.height}"
    return f"{place}  {losses}  {progress.rate:.2f} steps/s  {clock(progress.seconds_left)} left"


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds.

    Example:
        >>> clock(83.4)
        '1:23'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
