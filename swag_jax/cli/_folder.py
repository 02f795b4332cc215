"""A folder of results that the same command resumes: an image per task, and `results.jsonl` with a line for each."""

import contextlib
import functools
import hashlib
import json
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from swag_jax._checks import UserError, error
from swag_jax._files import append, make_folder, read_json_lines, real, replacing
from swag_jax._types import AnyHostImage, HostAlpha
from swag_jax.cli._display import Display, clock
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._outputs import Files, check_outputs, kept_alpha, labeled, write_result
from swag_jax.images import read_image, read_mask
from swag_jax.params._files import file_sha256

DONE, FAILED = "done", "failed"

# Threads that write images while the devices are at work.
WRITERS = 4


@dataclass(frozen=True)
class Task:
    """One image to be made; its name is the output's without the suffix."""

    name: str
    content: Path
    styles: tuple[Path, ...]

    def __str__(self) -> str:
        return " + ".join(path.name for path in (self.content, *self.styles))


AnyTask = TypeVar("AnyTask", bound=Task)
Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class ImageFile:
    """Reads an image when it is called; equal for equal paths, so that each is read once."""

    path: Path

    def __call__(self) -> AnyHostImage:
        return read_image(self.path)


@dataclass(frozen=True)
class MaskFile:
    """Reads a mask when it is called; equal for equal paths."""

    path: Path

    def __call__(self) -> HostAlpha:
        return read_mask(self.path)


def unique(tasks: Iterable[AnyTask], *, cure: str = "rename a file") -> list[AnyTask]:
    """Raise unless the names differ, also on a file system that ignores case."""
    found: dict[str, AnyTask] = {}
    for task in tasks:
        other = found.setdefault(task.name.lower(), task)
        if other is not task:
            both = f"{other} and {task}, both {task.name!r}"
            raise error("every result must have its own name", got=both, cure=cure)
    return list(found.values())


class Folder(Generic[AnyTask]):
    """The results of all tasks of a command; nothing is written before `open`.

    `records` has the newest record of each name, from all files of records in the folder.
    """

    def __init__(self, path: Path, tasks: Sequence[AnyTask], *, suffix: str):
        self.path, self.tasks, self._suffix = path, tasks, suffix
        self.records: dict[str, dict[str, Any]] = {}
        self._prints: dict[str, str] = {}
        self._began = time.perf_counter()

    def output(self, task: AnyTask) -> Path:
        """Return the image's place."""
        return self.path / f"{task.name}.{self._suffix}"

    def check(self, inputs: Files, *, read: Iterable[Path], weights: Iterable[str], also: Iterable[str] = ()) -> None:
        """Check that no result, nor a file of the names in `also`, would replace a file that is read.

        Contents, styles and the folders of images (`read`) are read anyway; `inputs` are other files.
        """
        if real(self.path) in map(real, read):
            raise error("the output must not be a folder that is read", got=self.path, cure="choose another -o")
        outputs = [(f"the result {task.name}", self.output(task)) for task in self.tasks]
        outputs += [(name, self.path / name) for name in ("results.jsonl", *also)]
        images = [(f"the content of {task.name}", task.content) for task in self.tasks]
        for task in self.tasks:
            images += labeled(f"a style of {task.name}", task.styles)
        check_outputs(outputs, [*inputs, *images], weights=weights)

    def open(
        self, facts: Callable[[AnyTask], Any], *, also_read: Sequence[Path] = (), process: int | None = None
    ) -> None:
        """Make the folder, or read its records.

        An image depends on the `facts` of its task, as JSON has them, on its own images, and on those `also_read`. If
        there are several processes, each writes its own file of records.
        """
        make_folder(self.path)
        self._facts, self._also_read, self._lock = facts, also_read, threading.Lock()
        self._path = self.path / ("results.jsonl" if process is None else f"results-{process}.jsonl")
        self.records = _read(_files(self.path))
        if process is None:
            self.merge()
        else:
            # A line that was cut off when the last run was killed would spoil the one after it.
            _write(self._path, _read([self._path]).values())

    def left(self, tasks: Iterable[AnyTask], *, retry_failed: bool) -> list[AnyTask]:
        """Return the tasks that no earlier run has ended, with the same inputs and its output still as it was."""
        tasks = list(tasks)
        self._prints = {task.name: self._fingerprint(task) for task in tasks}
        return [task for task in tasks if not self._is_ended(task, retry_failed=retry_failed)]

    def _is_ended(self, task: AnyTask, *, retry_failed: bool) -> bool:
        record = self.records.get(task.name, {})
        if record.get("fingerprint") != self._prints[task.name]:
            return False
        if record.get("status") == FAILED:
            return not retry_failed
        return record.get("status") == DONE and _is_kept(self.output(task), record)

    def _fingerprint(self, task: AnyTask) -> str:
        images = [readable_sha256(path) for path in (task.content, *task.styles, *self._also_read)]
        known = {**self._facts(task), "images": images, "format": self._suffix}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def working(self, display: Display) -> Iterator[tuple[list[signal.Signals], Callable[..., None]]]:
        """Yield a list that is empty until a stop is asked for, and what saves an image and its record in a thread.

        The second is a function with the arguments of `save`. If records cannot be written, it raises at one of the
        next calls and not hours later.
        """
        saving = deque[Future]()

        def submit(*args: Any, **more: Any) -> None:
            saving.append(pool.submit(self.save, *args, say=display.say, **more))
            # Failures so far are raised here, not at the end.
            while saving and saving[0].done():
                saving.popleft().result()

        with stoppable(display.say, "at once; what is done is kept") as asked, display:
            with ThreadPoolExecutor(WRITERS) as pool:
                yield asked, submit
            for future in saving:
                future.result()

    def save(self, task: AnyTask, image: AnyHostImage | None, problem: UserError | None, say: Say, **more: Any) -> None:
        """Write an image with its content's transparency, if there is one, and then the record."""
        path, kept = self.output(task), {}
        if image is not None:
            try:
                write_result(path, image, kept_alpha(path, task.content))
                kept = _written(path)
            except UserError as failure:
                problem = failure
        record = {
            "name": task.name,
            "content": str(task.content),
            "styles": [str(style) for style in task.styles],
            "output": str(path) if kept else None,
            **kept,
            "status": DONE if kept else FAILED,
            "error": None if problem is None else " ".join(str(problem).split()),
            "fingerprint": self._prints[task.name],
            **more,
        }
        self.add(record)
        if problem is not None:
            say(f"failed: {task.name}: {record['error']}")

    def add(self, record: dict[str, Any]) -> None:
        """Append a record, so that a killed run knows what is done."""
        with self._lock:
            self.records[record["name"]] = record
            append(self._path, json.dumps(record) + "\n")

    def merge(self) -> None:
        """Gather the records of all processes in `results.jsonl`: the tasks' in their order, then others."""
        found = _read(_files(self.path))
        names = [task.name for task in self.tasks if task.name in found]
        self.records = {name: found[name] for name in dict.fromkeys([*names, *found])}
        _write(self.path / "results.jsonl", self.records.values())
        for path in _files(self.path)[1:]:
            path.unlink()

    def status(self, task: AnyTask) -> str | None:
        """Return `DONE`, `FAILED`, or `None` if it has not ended."""
        return self.records.get(task.name, {}).get("status")

    def end(
        self, tasks: Sequence[AnyTask], asked: Sequence[signal.Signals], display: Display, *, extra: str = ""
    ) -> ExitCode:
        """Print the last line of a command and return its exit code."""
        statuses = [self.status(task) for task in tasks]
        done, failed = statuses.count(DONE), statuses.count(FAILED)
        line = f"{done} of {len(tasks)} images in {self.path}"
        line += f", {failed} failed (see results.jsonl)" if failed else ""
        line += f", in {clock(time.perf_counter() - self._began)}{extra}"
        display.say(f"{line}; stopped: the same command resumes from here" if asked else line)
        return stopped_code(asked) or (ExitCode.SOME_FAILED if failed else ExitCode.DONE)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the newest record of each name in a folder that `batch` wrote, and touch nothing there."""
    records = list(_read(_files(folder)).values())
    if not records:
        raise error(f"{folder} must hold results.jsonl, as `swag-jax batch` writes it", got="no records")
    return records


def _written(path: Path) -> dict[str, object]:
    """Return what a record holds of a file, by which a later run sees that it was cut, emptied or changed."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _is_kept(path: Path, record: Mapping[str, object]) -> bool:
    """Tell whether a result is still what was written."""
    try:
        if not path.is_file():
            return False
        if "sha256" in record:
            return path.stat().st_size == record.get("bytes") and file_sha256(path) == record["sha256"]
        # Records of version 0.1.0 have no hash: a whole image is trusted.
        read_image(path)
    except (OSError, UserError):
        return False
    return True


def _files(folder: Path) -> list[Path]:
    return [folder / "results.jsonl", *sorted(folder.glob("results-*.jsonl"))]


def _read(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return the last record of each name; damaged lines are left out, and their tasks done again."""
    lines = (line for path in paths if path.is_file() for line in read_json_lines(path)[0])
    return {line["name"]: line for line in lines if _is_record(line)}


def _is_record(line: Mapping[str, Any]) -> bool:
    """Tell whether what a record says is of the right types; it need not say all of it."""
    styles = line.get("styles", [])
    listed = isinstance(styles, list) and all(map(_is_text, styles))
    texts = [line.get(key) for key in ("content", "output", "backbone", "status", "error", "fingerprint")]
    return _is_text(line.get("name")) and listed and all(text is None or _is_text(text) for text in texts)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def readable_sha256(path: Path) -> str | None:
    """Return the hash of a file's bytes; `None` for what cannot be read, and for pipes and devices."""
    try:
        found = path.stat()
        return _sha256(path, found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None
    except (OSError, ValueError):
        return None


# Time and size are part of the key: a file that changes is read again.
@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, _changed: int, _size: int) -> str:
    return file_sha256(path)
