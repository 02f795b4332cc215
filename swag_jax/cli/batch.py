"""`swag-jax batch`: many pairs by optimization, on every device and in several processes; resumable."""

import argparse
import functools
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swag_jax import devices, params
from swag_jax._checks import UserError, error
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import Display, clock, count_line
from swag_jax.cli._exit import ExitCode, stoppable
from swag_jax.cli._flags import add_keep_colors, chosen_init, chosen_settings
from swag_jax.cli._folder import DONE, Folder, ImageFile, readable_sha256
from swag_jax.cli._pairs import Job, add_options, from_file, from_folders, left_out_of
from swag_jax.cli.stylize import describe_weights
from swag_jax.images import read_image, sheet, write_image
from swag_jax.optimize import BatchProgress, Pair, stylize_stream
from swag_jax.optimize.pairs import Reader

CELL, ROWS, COLUMNS = 256, 12, 12
"""Pixels of an image on the contact sheet, and rows and columns of one sheet."""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "batch",
        help="many images at once",
        usage="swag-jax batch --contents DIR --styles DIR -o DIR [flags]",
        description="Paint every content in the manner of every style, or the pairs of a file, many at once, on "
        "every device. The same command again does what is left. Exit code 3 says that some pairs failed, 130 "
        "and 143 that Ctrl-C or SIGTERM stopped it.",
    )
    parser.add_argument("--contents", type=Path, metavar="DIR", help="A folder of content images")
    parser.add_argument("--styles", type=Path, metavar="DIR", help="A folder of style images")
    parser.add_argument(
        "--zip", action="store_true", help="First content with first style and so on (default: every combination)"
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="A .csv or .jsonl file with columns or keys content and style, perhaps name, and others named like flags",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="Folder of the results")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="Of the images (default: png)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="Pairs at once, at most (default: by memory)")
    parser.add_argument(
        "--max-shapes",
        type=int,
        metavar="N",
        help="Work at N aspect ratios at most and stretch the results back: fewer programs to compile where every "
        "image has another shape (default: each at its own)",
    )
    parser.add_argument(
        "--mapping",
        choices=devices.MAPPINGS,
        default=devices.MAPPINGS[0],
        help=f"How devices are put to work (default: {devices.MAPPINGS[0]})",
    )
    parser.add_argument(
        "--sheet", action=argparse.BooleanOptionalAction, default=True, help="Write sheet.png with all images"
    )
    parser.add_argument("--retry-failed", action="store_true", help="Try again what failed before")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="Address of process 0, where there are several")
    parser.add_argument("--processes", type=int, metavar="N", help="How many processes there are")
    parser.add_argument("--process", type=int, metavar="I", help="The number of this one, from 0")
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    add_keep_colors(parser)
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Check everything first, then work; the same command does what is left."""
    began = time.perf_counter()
    several = devices.initialize(
        coordinator=arguments.coordinator, processes=arguments.processes, process=arguments.process
    )
    jobs = _jobs(arguments)
    folder = Folder(arguments.output, jobs, suffix=arguments.format)
    _check(folder, arguments)
    devices.keep_memory()
    folder.open(_facts(arguments), process=devices.process_index() if several else None)
    own = jobs[devices.process_index() :: devices.process_count()]
    left = folder.left(own, retry_failed=arguments.retry_failed)
    title = arguments.output.name + (f" {devices.process_index()}" if several else "")
    display = Display(title, quiet=arguments.quiet)
    for line in left_out_of(arguments.contents, arguments.styles):
        display.say(line)
    asked, compiled = _work(left, folder, arguments, display) if left else ([], 0)
    devices.wait_for_all(name="every pair has ended")
    if devices.process_index() == 0:
        folder.merge()
        if arguments.sheet and not asked:
            _write_sheets(folder)
        own = jobs
    took = f"in {clock(time.perf_counter() - began)}, {compiled} programs compiled"
    line, code = folder.ending(own, asked, took)
    display.say(line)
    return code


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    folders = (arguments.contents, arguments.styles)
    if arguments.pairs is not None:
        if folders != (None, None) or arguments.zip:
            raise error("--pairs stands alone", cure="leave out --contents, --styles and --zip")
        return from_file(arguments.pairs, arguments)
    if None in folders:
        raise error("there must be --contents and --styles, or --pairs")
    return from_folders(*folders, arguments)


def _check(folder: Folder[Job], arguments: argparse.Namespace) -> None:
    """Raise unless all settings can be used and the folder can be written, so that no long work is for nothing."""
    for flag in ("batch_size", "max_shapes"):
        if (given := getattr(arguments, flag)) is not None and given < 1:
            raise error(f"--{flag.replace('_', '-')} must be at least 1", got=given)
    _, init = chosen_init(arguments.init, chosen_settings(arguments))
    if init is not None:
        read_image(init)
    inputs = [("--pairs", arguments.pairs), *((f"the start of {job.name}", job.init) for job in folder.tasks)]
    also = ["sheet.png", *(path.name for path in arguments.output.glob("sheet-*.png"))] if arguments.sheet else []
    also += [f"results-{i}.jsonl" for i in range(devices.process_count())] if devices.process_count() > 1 else []
    weights = [job.settings.weights for job in folder.tasks]
    reader = Reader()
    for settings in {job.settings.replace(seed=0) for job in folder.tasks}:
        reader.load(settings)
    read = [path for path in (arguments.contents, arguments.styles) if path is not None]
    folder.check(inputs, read=read, weights=weights, also=also)


def _facts(arguments: argparse.Namespace) -> Any:
    """Return what gives the facts that a job's image depends on apart from its content and styles."""
    # A checkpoint is hashed to be resolved: once for all jobs.
    source = functools.cache(lambda backbone, weights: params.resolve(backbone, weights=weights))

    def facts(job: Job) -> dict[str, object]:
        found = source(job.settings.backbone, job.settings.weights)
        return {
            "settings": asdict(job.settings),
            "weights": [found.name, found.sha256],
            "init": None if job.init is None else readable_sha256(job.init),
            "max_shapes": arguments.max_shapes,
        }

    return facts


def _work(
    jobs: Sequence[Job], folder: Folder[Job], arguments: argparse.Namespace, display: Display
) -> tuple[list[Any], int]:
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
            batch_size=arguments.batch_size,
            max_shapes=arguments.max_shapes,
            mapping=arguments.mapping,
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
