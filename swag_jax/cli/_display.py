"""What a person sees while a command works: one live line, or plain lines if there is no terminal."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from swag_jax._checks import printable
from swag_jax.params import Source

if TYPE_CHECKING:  # at run time, only the command that is called imports what it shows
    from swag_jax.optimize import Progress as StylizeProgress
    from swag_jax.train import TrainProgress

# Seconds between plain lines if the output goes to a file.
SECONDS_BETWEEN_LINES = 10

# Columns for a table that no terminal shows, wide enough that nothing is cut.
PIPE_WIDTH = 200

_TITLE_WIDTH, _BAR_WIDTH = 20, 12

_FAMILIES = ("total", "content", "style")

# A narrow terminal drops the highest ranks first and always shows rank 0; other families of losses have rank 4.
_RANKS = {"step": 0, "failed": 0, "network": 0, "left": 0, "total": 1, "style": 2, "rate": 3}
_RANKS |= {"variation": 5, "size": 6, "waiting": 6}


class Display:
    """Shows progress on standard error; `opening` are lines that are printed with the first one."""

    def __init__(self, title: str, *, quiet: bool, opening: Sequence[str] = ()):
        # Not printed at once, so that bad input found until then ends in one line.
        self.title, self.opening = printable(title), list(opening)
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR_WIDTH),
            TextColumn("{task.fields[line]}", markup=False),
        )
        self._bar = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        short = self.title if len(self.title) <= _TITLE_WIDTH else self.title[: _TITLE_WIDTH - 1] + "…"
        # The title and the bar are each followed by a space.
        self._room = self.console.width - len(short) - _BAR_WIDTH - 2
        self._task = self._bar.add_task(short, total=None, line="compiling")
        self._began = self._spoken = time.monotonic()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None):
        if kind is not None:
            self._bar.update(self._task, visible=False)
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print one line above the progress."""
        self.console.print(printable(text), soft_wrap=True, markup=False, emoji=False)

    def show(self, parts: Mapping[str, str], done: int, total: int | None) -> None:
        """Show one progress."""
        while self.opening:
            self.say(self.opening.pop(0))
        self._bar.update(self._task, completed=done, total=total, line=printable(fit(parts, self._room)))
        waited = time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES
        if not self.console.is_terminal and (waited or done == total):
            self._spoken = time.monotonic()
            self.say(f"{self.title}: {fit(parts)}")

    def count(self, done: int, total: int, noun: str) -> None:
        """Show how many of many have ended, and the time for the others at the same pace."""
        seconds_left = (time.monotonic() - self._began) / done * (total - done)
        self.show(count_line(done, total, noun, seconds_left=seconds_left), done, total)


def steps_line(progress: "StylizeProgress | TrainProgress") -> dict[str, str]:
    """Say where a run of steps is, with its losses by family."""
    families: dict[str, float] = dict.fromkeys(_FAMILIES, 0.0)
    names = {name: name.split("/")[0] for name in progress.losses if name != "update"}
    for name, family in names.items():
        families[family] = families.get(family, 0.0) + progress.losses[name]
    height, width, waiting = (getattr(progress, name, None) for name in ("height", "width", "waiting"))
    return {
        "step": f"{progress.step}/{progress.steps}",
        "size": f"{width}x{height}" if width else "",
        **{family: f"{family} {value:.4g}" for family, value in families.items() if family in names.values()},
        "rate": f"{progress.rate:.3g} steps/s",
        "waiting": "" if waiting is None else f"{waiting:.0%} waiting for images",
        "left": f"{clock(progress.seconds_left)} left",
    }


def count_line(
    done: int, total: int | None, noun: str, *, seconds_left: float | None, failed: int = 0, rate: str = ""
) -> dict[str, str]:
    """Say how many of many have ended."""
    return {
        "step": f"{done} {noun}" if total is None else f"{done}/{total} {noun}",
        "failed": f"{failed} failed" if failed else "",
        "rate": rate,
        "left": "" if seconds_left is None else f"{clock(seconds_left)} left",
    }


def fit(parts: Mapping[str, str], width: int | None = None) -> str:
    """Join the parts of a line, the most important ones if not all fit into `width` columns."""
    kept = {name: text for name, text in parts.items() if text}
    for name in sorted(kept, key=lambda name: _RANKS.get(name, 4), reverse=True):
        if width is None or len("  ".join(kept.values())) <= width or not _RANKS.get(name, 4):
            break
        del kept[name]
    return "  ".join(kept.values())


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds, and hours if there are any: `1:23`, `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def closing(line: str, *, failed: int, written: Iterable[Path | None]) -> str:
    """Return the last line of a command with what failed and what it wrote."""
    line += f", {failed} failed" if failed else ""
    paths = [str(path) for path in written if path is not None]
    return f"{line}, wrote {' and '.join(paths)}" if paths else line


def table_console() -> Console:
    """Return a console for tables on standard output, which are never cut in a pipe."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def weights_lines(what: str, source: Source) -> list[str]:
    """Say which weights are used, and how to get better ones."""
    advice = source.advice()
    return [f"{what}{source.describe()}", *([f"         {advice}"] if advice else [])]
