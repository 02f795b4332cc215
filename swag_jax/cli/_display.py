"""What a person sees while an image is made: one live line, or plain lines where there is no terminal."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from swag_jax._checks import printable
from swag_jax.measure.activations import StatisticsProgress
from swag_jax.optimize import BatchProgress
from swag_jax.optimize import Progress as StylizeProgress
from swag_jax.train import TrainProgress

SECONDS_BETWEEN_LINES = 10
"""Pause between plain lines, when the output goes to a file."""

PIPE_WIDTH = 200
"""Columns for a table that no terminal shows, wide enough that nothing is cut."""

_TITLE_WIDTH = 20
_BAR_WIDTH = 12
_FAMILIES = ("total", "content", "style", "variation")
_LEAST_IMPORTANT_FIRST = ("size", "variation", "content", "rate", "style", "total")
"""What a narrow terminal does without, in this order; the step and the time left always stay."""


class Display:
    """Shows the progress of a stylization on standard error; a callback for `stylize`.

    Nothing but the live line is shown before the first step is done, so that bad input found on the way there ends
    in one line.

    Attributes:
        title: What is being made.
        opening: Lines to be printed with the first progress.
        also: Called with every progress; its result is passed on, so that it can stop the run.
    """

    def __init__(
        self,
        title: str,
        *,
        quiet: bool,
        opening: Sequence[str] = (),
        also: Callable[[StylizeProgress], object] | None = None,
    ):
        self.title, self.opening, self.also = printable(title), list(opening), also
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[line]}", markup=False),
        )
        self._bar = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self._task = self._bar.add_task(_shortened(self.title, _TITLE_WIDTH), total=None, line="compiling")
        self._spoken = time.monotonic()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._bar.update(self._task, visible=False)
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print one line above the progress."""
        self.console.print(printable(text), soft_wrap=True, markup=False, emoji=False)

    def __call__(self, progress: StylizeProgress) -> object:
        """Show one progress."""
        while self.opening:
            self.say(self.opening.pop(0))
        self._show(summary(progress, width=self._room), progress.step, progress.steps, whole=summary(progress))
        return self.also(progress) if self.also else None

    @property
    def _room(self) -> int:
        """The width that title and bar, each followed by a space, leave to the text."""
        return self.console.width - min(len(self.title), _TITLE_WIDTH) - _BAR_WIDTH - 2

    def _show(self, line: str, completed: int, total: int | None, *, whole: str) -> None:
        self._bar.update(self._task, completed=completed, total=total, line=printable(line))
        plain = not self.console.is_terminal
        if plain and (time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES or completed == total):
            self._spoken = time.monotonic()
            self.say(f"{self.title}: {whole}")


class BatchDisplay(Display):
    """Shows the progress of many pairs; a callback for `stylize_stream`.

    Attributes:
        compilations: Programs compiled so far.
    """

    compilations = 0

    def __call__(self, progress: BatchProgress) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Show one progress."""
        self.compilations = progress.compilations
        ended = progress.done + progress.failed
        line = batch_summary(progress, width=self._room)
        self._show(line, ended, progress.pairs, whole=batch_summary(progress))
        return self.also(progress) if self.also else None  # pyright: ignore[reportArgumentType]


class TrainDisplay(Display):
    """Shows the progress of a training; a callback for `train_generator`."""

    def __call__(self, progress: TrainProgress) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Show one progress."""
        while self.opening:
            self.say(self.opening.pop(0))
        for problem in progress.damaged:
            self.say(f"left out: {problem}")
        line = train_summary(progress, width=self._room)
        self._show(line, progress.step, progress.steps, whole=train_summary(progress))


class StatisticsDisplay(Display):
    """Shows the progress of a measurement; a callback for `activation_statistics`."""

    def __call__(self, progress: StatisticsProgress) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Show one progress."""
        while self.opening:
            self.say(self.opening.pop(0))
        parts = (
            f"{progress.images}/{progress.total} images",
            *([f"{progress.failed} failed"] if progress.failed else []),
            progress.network,
            f"{clock(progress.seconds_left)} left",
        )
        line = "  ".join(parts)
        self._show(line, progress.images, progress.total, whole=line)


class CountDisplay(Display):
    """Shows how many of many have ended.

    Attributes:
        noun: What is counted.
    """

    noun: str = "pairs"

    def count(self, done: int, total: int, seconds: float, *, problem: str | None) -> None:
        """Show how far the work is after one more has ended.

        Args:
            done: Results that have ended.
            total: Results in all.
            seconds: Seconds since the first.
            problem: What was wrong with the last one, if anything was.
        """
        while self.opening:
            self.say(self.opening.pop(0))
        if problem is not None:
            self.say(f"failed: {problem}")
        line = f"{done}/{total} {self.noun}  {clock(seconds / done * (total - done))} left"
        self._show(line, done, total, whole=line)


def summary(progress: StylizeProgress, *, width: int | None = None) -> str:
    """Say where a run is: step, size, losses by family, rate and time left; what matters most if `width` is small."""
    parts = {
        "step": f"{progress.step}/{progress.steps}",
        "size": f"{progress.width}x{progress.height}",
        **{family: f"{family} {value:.4g}" for family, value in _by_family(progress.losses).items()},
        "rate": f"{progress.rate:.3g} steps/s",
        "left": f"{clock(progress.seconds_left)} left",
    }
    for name in _LEAST_IMPORTANT_FIRST:
        if width is None or len("  ".join(parts.values())) <= width:
            break
        parts.pop(name, None)
    return "  ".join(parts.values())


def batch_summary(progress: BatchProgress, *, width: int | None = None) -> str:
    """Say where a run over many pairs is; what matters most if `width` is small."""
    total = "" if progress.pairs is None else f"/{progress.pairs}"
    parts = {
        "pairs": f"{progress.done + progress.failed}{total} pairs",
        "failed": f"{progress.failed} failed" if progress.failed else "",
        "rate": f"{progress.rate:.3g} pairs·steps/s",
        "left": "" if progress.seconds_left is None else f"{clock(progress.seconds_left)} left",
    }
    if width is not None and len("  ".join(filter(None, parts.values()))) > width:
        del parts["rate"]
    return "  ".join(filter(None, parts.values()))


def train_summary(progress: TrainProgress, *, width: int | None = None) -> str:
    """Say where a training is: losses by family, rate, waiting and time left; what matters most if `width` is small."""
    parts = {
        "step": f"{progress.step}/{progress.steps}",
        **{name: f"{name} {value:.4g}" for name, value in _families(progress.losses).items()},
        "rate": f"{progress.rate:.3g} steps/s",
        "waiting": f"{progress.waiting:.0%} waiting for images",
        "left": f"{clock(progress.seconds_left)} left",
    }
    for name in (
        "waiting",
        *(n for n in parts if n not in ("step", "total", "rate", "left", "waiting")),
        "rate",
        "total",
    ):
        if width is None or len("  ".join(parts.values())) <= width:
            break
        parts.pop(name, None)
    return "  ".join(parts.values())


def _families(losses: dict[str, float]) -> dict[str, float]:
    """Add up the terms of each family; the update is none."""
    found: dict[str, float] = {}
    for name, value in losses.items():
        if name != "update":
            family = name.split("/")[0]
            found[family] = found.get(family, 0.0) + value
    return found


def _by_family(losses: dict[str, float]) -> dict[str, float]:
    """Add up the terms of each family."""
    members = {family: [v for name, v in losses.items() if name.split("/")[0] == family] for family in _FAMILIES}
    return {family: sum(values) for family, values in members.items() if values}


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds, and hours if there are any.

    Example:
        >>> clock(83.4), clock(7384)
        ('1:23', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
