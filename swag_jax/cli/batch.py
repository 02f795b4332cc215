"""`swag-jax batch`: many pairs by optimization, on every device and in several processes; resumable."""

import functools
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from swag_jax import devices, params
from swag_jax._checks import UserError, error
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import Display, count_line
from swag_jax.cli._exit import ExitCode
from swag_jax.cli._flags import Quiet, flag
from swag_jax.cli._folder import DONE, Folder, ImageFile, MaskFile, readable_sha256
from swag_jax.cli._images import left_out_of
from swag_jax.cli._outputs import labeled
from swag_jax.cli._pairs import Job, Masks, from_file, from_folders
from swag_jax.cli._settings import MaskedPairFlags, ProcessFlags
from swag_jax.cli.stylize import settings_lines
from swag_jax.images import read_image, sheet, write_image
from swag_jax.optimize import BatchProgress, Pair, stylize_stream
from swag_jax.optimize.pairs import Reader

# Pixels of an image on the contact sheet, and rows and columns of one sheet.
CELL, ROWS, COLUMNS = 256, 12, 12


@dataclass(frozen=True, kw_only=True)
class Batch(ProcessFlags, MaskedPairFlags, Quiet):
    """Many images at once.

    Paint every content in the manner of every style, or the pairs of a file, many at once, on every device. The same
    command again does what is left. Exit code 3 says that some pairs failed, 130 and 143 that Ctrl-C or SIGTERM
    stopped it.
    """

    usage: ClassVar[str] = "swag-jax batch --contents DIR --styles DIR -o DIR [flags]"

    contents: Path | None = flag("A folder of content images", None, metavar="DIR")
    styles: Path | None = flag("A folder of style images", None, metavar="DIR")
    zip: bool = flag("First content with first style and so on, not every combination", False)
    pairs: Path | None = flag(
        "A .csv or .jsonl file with columns or keys content and style, perhaps name, and others named like flags", None
    )
    output: Path = flag("Folder of the results", short="-o", metavar="DIR")
    format: Literal["png", "jpg"] = flag("Of the images", "png")
    batch_size: int | None = flag("Pairs at once, at most; by default as many as memory allows", None)
    max_shapes: int | None = flag(
        "Work at N aspect ratios at most and stretch the results back: fewer programs to compile if every "
        "image has another shape; by default each works at its own",
        None,
    )
    mapping: devices.Mapping = flag("How devices are put to work", devices.MAPPINGS[0])
    sheet: bool = flag("Write sheet.png with all images", True)
    retry_failed: bool = flag("Try again what failed before", False)

    def run(self) -> ExitCode:
        """Check everything first, then work."""
        several = self.join()
        number, processes = devices.process_index(), devices.process_count()
        jobs = _jobs(self)
        folder = Folder(self.output, jobs, suffix=self.format)
        _check(folder, self)
        devices.keep_memory()
        folder.open(_facts(self), process=number if several else None)
        # Every n-th job: each process gets some of every content.
        own = jobs[number::processes]
        left = folder.left(own, retry_failed=self.retry_failed)
        display = Display(self.output.name + (f" {number}" if several else ""), quiet=self.quiet)
        for line in left_out_of(self.contents, self.styles):
            display.say(line)
        asked, compiled = _work(left, folder, self, display) if left else ([], 0)
        devices.wait_for_all(name="every pair has ended")
        if number == 0:
            folder.merge()
            if self.sheet and not asked:
                _write_sheets(folder)
            own = jobs
        return folder.end(own, asked, display, extra=f", {compiled} programs compiled")


def _jobs(command: Batch) -> list[Job]:
    folders = (command.contents, command.styles)
    if command.pairs is not None:
        if folders != (None, None) or command.zip:
            raise error("--pairs must be given alone", cure="leave out --contents, --styles and --zip")
        return from_file(command.pairs, command)
    if command.contents is None or command.styles is None:
        raise error("there must be --contents and --styles, or --pairs")
    return from_folders(command.contents, command.styles, command, zipped=command.zip)


def _check(folder: Folder[Job], command: Batch) -> None:
    """Raise unless all settings can be used and the folder can be written, so that no long work is for nothing."""
    for name, given in {"batch-size": command.batch_size, "max-shapes": command.max_shapes}.items():
        if given is not None and given < 1:
            raise error(f"--{name} must be at least 1", got=given)
    _, init = command.chosen_start()
    if init is not None:
        read_image(init)
    inputs = [("--pairs", command.pairs), *command.mask_files()]
    for job in folder.tasks:
        inputs.append((f"the start of {job.name}", job.init))
        inputs += labeled(f"a mask of {job.name}", [*job.masks.content, *job.masks.style])
    weights = [job.settings.weights for job in folder.tasks]
    read = filter(None, (command.contents, command.styles))
    folder.check(inputs, read=read, weights=weights, also=_other_files(command))
    reader = Reader()
    # A seed changes nothing that could be refused: each network is loaded once.
    for settings in {replace(job.settings, seed=0) for job in folder.tasks}:
        reader.load(settings)


def _other_files(command: Batch) -> list[str]:
    """Return the names of sheets and of the records of several processes."""
    sheets = ["sheet.png", *(path.name for path in command.output.glob("sheet-*.png"))] if command.sheet else []
    processes = devices.process_count()
    return sheets + ([f"results-{i}.jsonl" for i in range(processes)] if processes > 1 else [])


def _facts(command: Batch) -> Callable[[Job], dict[str, object]]:
    """Return what gives the facts that a job's image depends on apart from its content and styles."""
    # A checkpoint is hashed to be resolved: once for all jobs.
    source = functools.cache(lambda backbone, weights: params.resolve(backbone, weights=weights))

    def facts(job: Job) -> dict[str, object]:
        found = source(job.settings.backbone, job.settings.weights)
        known = {
            "settings": asdict(job.settings),
            "weights": [found.name, found.sha256],
            "init": None if job.init is None else readable_sha256(job.init),
            "max_shapes": command.max_shapes,
        }
        if job.masks != Masks():
            known["masks"] = [list(map(readable_sha256, paths)) for paths in (job.masks.content, job.masks.style)]
        return known

    return facts


def _work(
    jobs: Sequence[Job], folder: Folder[Job], command: Batch, display: Display
) -> tuple[list[signal.Signals], int]:
    """Make the images of all jobs; return the signals that asked to stop, and how many programs were compiled."""
    for settings in {(job.settings.backbone, job.settings.weights): job.settings for job in jobs}.values():
        for line in settings_lines(settings):
            display.say(line)
    compiled = 0
    with folder.working(display) as (asked, save):

        def callback(progress: BatchProgress) -> bool:
            nonlocal compiled
            compiled, ended = progress.compilations, progress.done + progress.failed
            rate, left = f"{progress.rate:.3g} pairs·steps/s", progress.seconds_left
            line = count_line(ended, progress.pairs, "pairs", failed=progress.failed, rate=rate, seconds_left=left)
            display.show(line, ended, progress.pairs)
            return bool(asked)

        outcomes = stylize_stream(
            list(map(_pair, jobs)),
            callback=callback,
            batch_size=command.batch_size,
            max_shapes=command.max_shapes,
            mapping=command.mapping,
        )
        for outcome in outcomes:
            job, result = jobs[outcome.index], outcome.result
            if result is None:
                image, losses, last_tenth, seconds = None, {}, None, None
            else:
                image, seconds = result.image, round(sum(result.seconds.values()), 3)
                losses = {name: float(values[-1]) for name, values in result.history.items()}
                last_tenth = _last_tenth(result.history["total"][-result.steps[-1] :])
            more = {"losses": losses, "last_tenth": last_tenth, "seconds": seconds}
            save(job, image, outcome.error, backbone=job.settings.backbone, **more)
    return asked, compiled


def _last_tenth(totals: np.ndarray) -> float:
    """Return what share of a loss's fall, in orders of magnitude, its last tenth of steps made."""
    first, before, last = (float(totals[place]) for place in (0, -1 - len(totals) // 10, -1))
    return round(math.log(before / last) / math.log(first / last), 6) if first > last and min(before, last) > 0 else 0.0


def _pair(job: Job) -> Pair:
    return Pair(
        ImageFile(job.content),
        tuple(map(ImageFile, job.styles)),
        job.settings,
        init=None if job.init is None else ImageFile(job.init),
        content_masks=tuple(map(MaskFile, job.masks.content)),
        style_masks=tuple(map(MaskFile, job.masks.style)),
    )


def _write_sheets(folder: Folder[Job]) -> None:
    """Lay out all that is done: contents down the side and styles along the top, or a row for each pair."""
    done = [job for job in folder.tasks if folder.status(job) == DONE]
    parts = list(_parts(folder, done)) if done else []
    for number, image in enumerate(parts, start=1):
        write_image(folder.path / ("sheet.png" if len(parts) == 1 else f"sheet-{number}.png"), image)


def _parts(folder: Folder[Job], done: Sequence[Job]) -> Iterator[AnyHostImage]:
    jobs = folder.tasks
    contents = list(dict.fromkeys(job.content for job in jobs))
    styles = list(dict.fromkeys(job.styles for job in jobs))
    if len(contents) * len(styles) == len(jobs) == len({(job.content, job.styles) for job in jobs}):
        outputs = {(job.content, job.styles): folder.output(job) for job in done}
        for i, j in product(range(0, len(contents), ROWS - 1), range(0, len(styles), COLUMNS - 1)):
            yield _grid(contents[i : i + ROWS - 1], styles[j : j + COLUMNS - 1], outputs)
    else:
        for i in range(0, len(done), ROWS):
            yield _listed(done[i : i + ROWS], folder)


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
