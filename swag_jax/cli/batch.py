"""`swag-jax batch`: many pairs by optimization, on every device and in several processes; resumable."""

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from swag_jax import devices, params
from swag_jax._checks import UserError, error
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import Display, clock, count_line
from swag_jax.cli._exit import ExitCode, stoppable
from swag_jax.cli._flags import Quiet, flag
from swag_jax.cli._folder import DONE, Folder, ImageFile, readable_sha256
from swag_jax.cli._pairs import Job, from_file, from_folders, left_out_of
from swag_jax.cli._settings import PairFlags, ProcessFlags
from swag_jax.cli.stylize import describe_weights
from swag_jax.images import read_image, sheet, write_image
from swag_jax.optimize import BatchProgress, Pair, stylize_stream
from swag_jax.optimize.pairs import Reader

CELL, ROWS, COLUMNS = 256, 12, 12
"""Pixels of an image on the contact sheet, and rows and columns of one sheet."""


@dataclass(frozen=True, kw_only=True)
class Batch(ProcessFlags, PairFlags, Quiet):
    """Many images at once.

    Paint every content in the manner of every style, or the pairs of a file, many at once, on every device. The same
    command again does what is left. Exit code 3 says that some pairs failed, 130 and 143 that Ctrl-C or SIGTERM
    stopped it.

    Attributes:
        contents: A folder of content images.
        styles: A folder of style images.
        zip: First content with first style and so on, not every combination.
        pairs: A .csv or .jsonl file with columns or keys content and style, perhaps name, and others named like flags.
        output: Folder of the results.
        format: Of the images.
        batch_size: Pairs at once, at most; by default as many as memory allows.
        max_shapes: Work at N aspect ratios at most and stretch the results back: fewer programs to compile if every
            image has another shape; by default each works at its own.
        mapping: How devices are put to work.
        sheet: Write sheet.png with all images.
        retry_failed: Try again what failed before.
    """

    usage: ClassVar[str] = "swag-jax batch --contents DIR --styles DIR -o DIR [flags]"

    contents: Path | None = flag(None, metavar="DIR")
    styles: Path | None = flag(None, metavar="DIR")
    zip: bool = False
    pairs: Path | None = None
    output: Path = flag(short="-o", metavar="DIR")
    format: Literal["png", "jpg"] = "png"
    batch_size: int | None = None
    max_shapes: int | None = None
    mapping: devices.Mapping = devices.MAPPINGS[0]
    sheet: bool = True
    retry_failed: bool = False

    def run(self) -> ExitCode:
        """Check everything first, then work."""
        began = time.perf_counter()
        several = devices.initialize(coordinator=self.coordinator, processes=self.processes, process=self.process)
        jobs = _jobs(self)
        folder = Folder(self.output, jobs, suffix=self.format)
        _check(folder, self)
        devices.keep_memory()
        folder.open(_facts(self), process=devices.process_index() if several else None)
        own = jobs[devices.process_index() :: devices.process_count()]
        left = folder.left(own, retry_failed=self.retry_failed)
        title = self.output.name + (f" {devices.process_index()}" if several else "")
        display = Display(title, quiet=self.quiet)
        for line in left_out_of(self.contents, self.styles):
            display.say(line)
        asked, compiled = _work(left, folder, self, display) if left else ([], 0)
        devices.wait_for_all(name="every pair has ended")
        if devices.process_index() == 0:
            folder.merge()
            if self.sheet and not asked:
                _write_sheets(folder)
            own = jobs
        took = f"in {clock(time.perf_counter() - began)}, {compiled} programs compiled"
        line, code = folder.ending(own, asked, took)
        display.say(line)
        return code


def _jobs(command: Batch) -> list[Job]:
    folders = (command.contents, command.styles)
    if command.pairs is not None:
        if folders != (None, None) or command.zip:
            raise error("--pairs stands alone", cure="leave out --contents, --styles and --zip")
        return from_file(command.pairs, command)
    if command.contents is None or command.styles is None:
        raise error("there must be --contents and --styles, or --pairs")
    return from_folders(command.contents, command.styles, command, zipped=command.zip)


def _check(folder: Folder[Job], command: Batch) -> None:
    """Raise unless all settings can be used and the folder can be written, so that no long work is for nothing."""
    for name in ("batch_size", "max_shapes"):
        if (given := getattr(command, name)) is not None and given < 1:
            raise error(f"--{name.replace('_', '-')} must be at least 1", got=given)
    _, init = command.chosen_start()
    if init is not None:
        read_image(init)
    inputs = [("--pairs", command.pairs), *((f"the start of {job.name}", job.init) for job in folder.tasks)]
    also = ["sheet.png", *(path.name for path in command.output.glob("sheet-*.png"))] if command.sheet else []
    also += [f"results-{i}.jsonl" for i in range(devices.process_count())] if devices.process_count() > 1 else []
    weights = [job.settings.weights for job in folder.tasks]
    read = [path for path in (command.contents, command.styles) if path is not None]
    folder.check(inputs, read=read, weights=weights, also=also)
    reader = Reader()
    for settings in {replace(job.settings, seed=0) for job in folder.tasks}:
        reader.load(settings)


def _facts(command: Batch) -> Any:
    """Return what gives the facts that a job's image depends on apart from its content and styles."""
    # A checkpoint is hashed to be resolved: once for all jobs.
    source = functools.cache(lambda backbone, weights: params.resolve(backbone, weights=weights))

    def facts(job: Job) -> dict[str, object]:
        found = source(job.settings.backbone, job.settings.weights)
        return {
            "settings": asdict(job.settings),
            "weights": [found.name, found.sha256],
            "init": None if job.init is None else readable_sha256(job.init),
            "max_shapes": command.max_shapes,
        }

    return facts


def _work(jobs: Sequence[Job], folder: Folder[Job], command: Batch, display: Display) -> tuple[list[Any], int]:
    """Make the images of all jobs; return the signals that asked to stop, and how many programs were compiled."""
    for settings in {(job.settings.backbone, job.settings.weights): job.settings for job in jobs}.values():
        for line in describe_weights(settings):
            display.say(line)
    pairs = [
        Pair(
            ImageFile(job.content),
            tuple(map(ImageFile, job.styles)),
            job.settings,
            init=None if job.init is None else ImageFile(job.init),
        )
        for job in jobs
    ]
    compiled = 0
    with stoppable(display.say, "at once; what is done is kept") as asked, display, folder.writing(display.say) as save:

        def callback(progress: BatchProgress) -> bool:
            nonlocal compiled
            compiled, ended = progress.compilations, progress.done + progress.failed
            rate = f"{progress.rate:.3g} pairs·steps/s"
            left = progress.seconds_left
            line = count_line(ended, progress.pairs, "pairs", failed=progress.failed, rate=rate, seconds_left=left)
            display.show(line, ended, progress.pairs)
            return bool(asked)

        outcomes = stylize_stream(
            pairs,
            callback=callback,
            batch_size=command.batch_size,
            max_shapes=command.max_shapes,
            mapping=command.mapping,
        )
        for outcome in outcomes:
            job, result = jobs[outcome.index], outcome.result
            history, seconds = ({}, None) if result is None else (result.history, sum(result.seconds.values()))
            save(
                job,
                None if result is None else result.image,
                outcome.error,
                backbone=job.settings.backbone,
                losses={name: float(values[-1]) for name, values in history.items()},
                seconds=None if seconds is None else round(seconds, 3),
            )
    return asked, compiled


def _write_sheets(folder: Folder[Job]) -> None:
    """Lay out all that is done: contents down the side and styles along the top, or a row for each pair."""
    jobs = folder.tasks
    done = [job for job in jobs if folder.status(job) == DONE]
    if not done:
        return
    contents = list(dict.fromkeys(job.content for job in jobs))
    styles = list(dict.fromkeys(job.styles for job in jobs))
    grid = {(job.content, job.styles): folder.output(job) for job in done}
    if len(contents) * len(styles) == len(jobs) == len({(job.content, job.styles) for job in jobs}):
        parts = [
            _grid(contents[i : i + ROWS - 1], styles[j : j + COLUMNS - 1], grid)
            for i in range(0, len(contents), ROWS - 1)
            for j in range(0, len(styles), COLUMNS - 1)
        ]
    else:
        parts = [_listed(done[i : i + ROWS], folder) for i in range(0, len(done), ROWS)]
    for number, image in enumerate(parts, start=1):
        write_image(folder.path / ("sheet.png" if len(parts) == 1 else f"sheet-{number}.png"), image)


def _grid(contents: Sequence[Path], styles: Sequence[tuple[Path, ...]], outputs: dict[Any, Path]) -> AnyHostImage:
    rows = [[None, *(_small(style[0]) for style in styles)]]
    rows += [[_small(content), *(_small(outputs.get((content, style))) for style in styles)] for content in contents]
    names = ["", *(" + ".join(path.stem for path in style) for style in styles)]
    return sheet(rows, row_labels=["", *(path.stem for path in contents)], column_labels=names)


def _listed(jobs: Sequence[Job], folder: Folder[Job]) -> AnyHostImage:
    rows = [[_small(job.content), _small(job.styles[0]), _small(folder.output(job))] for job in jobs]
    return sheet(rows, row_labels=[job.name for job in jobs], column_labels=["content", "style", "result"])


def _small(path: Path | None) -> AnyHostImage | None:
    """Return an image for the sheet; `None` for one that cannot be read, which has been reported."""
    try:
        return None if path is None else read_image(path, size=CELL)
    except UserError:
        return None
