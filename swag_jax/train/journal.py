"""The log of a run's losses: `losses.jsonl`, and TensorBoard's events if they are asked for."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swag_jax._checks import error
from swag_jax._files import append, read_json_lines, replacing


class Journal:
    """The losses of a run in its folder, one line for every few steps.

    Lines after the step that the run resumes from are dropped, and `damaged` others. With what `find_event_writer`
    returned, TensorBoard's events are written too, in `tensorboard/`.
    """

    def __init__(self, folder: Path, *, step: int, event_writer: Callable[..., Any] | None = None):
        self.path = folder / "losses.jsonl"
        self._events = event_writer and event_writer(str(folder / "tensorboard"), purge_step=step + 1)
        lines, self.damaged = _read(self.path)
        kept = [line for line in lines if line["step"] <= step]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line: numbers by name, means over the steps up to `step`."""
        append(self.path, json.dumps({"step": step, **values}) + "\n")
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._events is not None:
            self._events.close()


def read_journal(path: Path) -> list[dict[str, float]]:
    """Return the lines of a run's `losses.jsonl`, if there is one; damaged and half-written ones are left out."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, float]], int]:
    found, damaged = read_json_lines(path)
    lines = [line for line in found if _is_line(line)]
    return lines, damaged + len(found) - len(lines)


def _is_line(found: Mapping[str, Any]) -> bool:
    return type(found.get("step")) is int and all(type(value) in (int, float) for value in found.values())


def find_event_writer() -> Callable[..., Any]:
    """Return the class that writes TensorBoard's events; it is an error if its package is missing."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as problem:
        rule = "TensorBoard's events are written with tensorboardX"
        raise error(rule, got="no such package", cure="pip install 'swag-jax[train]'") from problem
    return SummaryWriter
