"""`swag-jax batch`: many pairs by optimization, on every device and in several processes; resumable."""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._files import make_folder
from swag_jax._types import AnyHostImage
from swag_jax.cli._display import BatchDisplay, clock
from swag_jax.cli._flags import add_keep_colors, chosen_init, chosen_settings
from swag_jax.cli._outputs import check_outputs, same_folder
from swag_jax.cli._pairs import Job, add_options, from_file, from_folders, left_out_of
from swag_jax.cli._results import DONE, FAILED, Results, written
from swag_jax.cli.stylize import describe_weights, stoppable, stopped_code
from swag_jax.images import read_alpha, read_image, resize, sheet, write_image
from swag_jax.optimize import BatchProgress, Outcome, Pair, stylize_stream
from swag_jax.optimize.pairs import Reader

SOME_FAILED = 3
"""Exit code when some of many pairs failed."""

WRITERS = 4
"""Threads that write images while the next batch is at work."""

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


def run(arguments: argparse.Namespace) -> int:
    """Check everything first, then work; leave records and images such that the same command goes on."""
    began = time.perf_counter()
    several = devices.initialize(
        coordinator=arguments.coordinator, processes=arguments.processes, process=arguments.process
    )
    jobs = _jobs(arguments)
    _check(jobs, arguments)
    devices.keep_memory()
    results = Results(
        arguments.output,
        process=devices.process_index() if several else None,
        options={"format": arguments.format, "max_shapes": arguments.max_shapes},
    )
    own = jobs[devices.process_index() :: devices.process_count()]
    left = [job for job in own if not _is_ended(job, results, arguments)]
    title = arguments.output.name + (f" {devices.process_index()}" if several else "")
    display = BatchDisplay(title, quiet=arguments.quiet)
    for line in left_out_of(arguments.contents, arguments.styles):
        display.say(line)
    asked = _work(left, results, arguments, display) if left else []
    stopped = bool(asked)
    devices.wait_for_all(name="every pair has ended")
    if devices.process_index() == 0:
        results.merge([job.name for job in jobs])
        if arguments.sheet and not stopped:
            _write_sheets(jobs, results, arguments)
        own = jobs
    took = f"in {clock(time.perf_counter() - began)}, {display.compilations} programs compiled"
    display.say(_closing(own, results, stopped, took))
    if stopped:
        return stopped_code(asked)
    return SOME_FAILED if any(_status(job, results) == FAILED for job in own) else 0


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    folders = (arguments.contents, arguments.styles)
    if arguments.pairs is not None:
        if folders != (None, None) or arguments.zip:
            raise error("--pairs stands alone", cure="leave out --contents, --styles and --zip")
        return from_file(arguments.pairs, arguments)
    if None in folders:
        raise error("there must be --contents and --styles, or --pairs")
    return from_folders(*folders, arguments)


def _check(jobs: Sequence[Job], arguments: argparse.Namespace) -> None:
    """Raise unless all settings can be used and the folder can be written, so that no long work is for nothing."""
    for flag in ("batch_size", "max_shapes"):
        if (given := getattr(arguments, flag)) is not None and given < 1:
            raise error(f"--{flag.replace('_', '-')} must be at least 1", got=given)
    folder = arguments.output
    if any(read is not None and same_folder(folder, read) for read in (arguments.contents, arguments.styles)):
        raise error("the output must not be a folder that is read", got=folder, cure="choose another -o")
    _, init = chosen_init(arguments.init, chosen_settings(arguments))
    if init is not None:
        read_image(init)
    _check_files(jobs, arguments)
    reader = Reader()
    for settings in {job.settings.replace(seed=0) for job in jobs}:
        reader.load(settings)
    make_folder(folder)


def _check_files(jobs: Sequence[Job], arguments: argparse.Namespace) -> None:
    """Raise unless no result would replace a file that is read."""
    inputs: list[tuple[str, Path | None]] = [("--pairs", arguments.pairs)]
    for job in jobs:
        inputs += [(f"the content of {job.name}", job.content), (f"the start of {job.name}", job.init)]
        inputs += [(f"a style of {job.name}", style) for style in job.styles]
    outputs = [(f"the result {job.name}", _output(job, arguments)) for job in jobs]
    check_outputs([*outputs, *_own_files(arguments)], inputs, weights=[job.settings.weights for job in jobs])


def _own_files(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """Return what is written beside the results."""
    sheets = ["sheet.png", *(path.name for path in arguments.output.glob("sheet-*.png"))]
    names = ["results.jsonl", *(sheets if arguments.sheet else [])]
    names += [f"results-{i}.jsonl" for i in range(devices.process_count())] if devices.process_count() > 1 else []
    return [(name, arguments.output / name) for name in names]


def _output(job: Job, arguments: argparse.Namespace) -> Path:
    return arguments.output / f"{job.name}.{arguments.format}"


def _is_ended(job: Job, results: Results, arguments: argparse.Namespace) -> bool:
    """Tell whether an earlier run of the same pair has left nothing to do."""
    output = _output(job, arguments)
    return results.is_ended(job.name, results.fingerprint(job), output, retry_failed=arguments.retry_failed)


def _status(job: Job, results: Results) -> str | None:
    return results.records.get(job.name, {}).get("status")


@dataclass(frozen=True)
class _File:
    """Reads an image; equal for equal paths, so that each is read once."""

    path: Path

    def __call__(self) -> AnyHostImage:
        return read_image(self.path)


def _work(jobs: Sequence[Job], results: Results, arguments: argparse.Namespace, display: BatchDisplay) -> list:
    """Make the images of all jobs; return the signals that asked to stop before the end."""
    for settings in {(job.settings.backbone, job.settings.weights): job.settings for job in jobs}.values():
        for line in describe_weights(settings):
            display.say(line)
    pairs = [
        Pair(_File(j.content), tuple(map(_File, j.styles)), j.settings, init=None if j.init is None else _File(j.init))
        for j in jobs
    ]
    with stoppable(display.say, "at once; what is done is kept") as asked, display:

        def callback(progress: BatchProgress) -> bool:
            display(progress)
            return bool(asked)

        outcomes = stylize_stream(
            pairs,
            callback=callback,
            batch_size=arguments.batch_size,
            max_shapes=arguments.max_shapes,
            mapping=arguments.mapping,
        )
        saving = deque[Future]()
        with ThreadPoolExecutor(WRITERS) as pool:
            for outcome in outcomes:
                saving.append(pool.submit(_save, outcome, jobs[outcome.index], results, arguments, display))
                while saving and saving[0].done():
                    saving.popleft().result()  # where records cannot be written, it ends here and not hours later
        for future in saving:
            future.result()
        return asked


def _save(outcome: Outcome, job: Job, results: Results, arguments: argparse.Namespace, display: BatchDisplay) -> None:
    """Write an image, then its record; in a thread, beside the solver."""
    path, result, problem = _output(job, arguments), outcome.result, outcome.error
    kept: dict[str, object] = {}
    if result is not None:
        try:
            alpha = read_alpha(job.content) if arguments.format == "png" else None
            alpha = None if alpha is None else resize(alpha, *result.image.shape[:2])
            write_image(path, result.image, alpha=alpha)
            kept = written(path)
        except UserError as failure:
            result, problem = None, failure
    record = {
        "name": job.name,
        "content": str(job.content),
        "styles": [str(style) for style in job.styles],
        "output": None if result is None else str(path),
        **kept,
        "backbone": job.settings.backbone,
        "status": FAILED if result is None else DONE,
        "error": None if problem is None else " ".join(str(problem).split()),
        "fingerprint": results.fingerprint(job),
        "losses": {} if result is None else {name: float(values[-1]) for name, values in result.history.items()},
        "seconds": None if result is None else round(sum(result.seconds.values()), 3),
    }
    results.add(record)
    if problem is not None:
        display.say(f"failed: {record['name']}: {record['error']}")


def _write_sheets(jobs: Sequence[Job], results: Results, arguments: argparse.Namespace) -> None:
    """Lay out all that is done: contents down the side and styles along the top, or a row for each pair."""
    done = [job for job in jobs if _status(job, results) == DONE]
    if not done:
        return
    contents = list(dict.fromkeys(job.content for job in jobs))
    styles = list(dict.fromkeys(job.styles for job in jobs))
    grid = {(job.content, job.styles): _output(job, arguments) for job in done}
    if len(contents) * len(styles) == len(jobs) == len({(job.content, job.styles) for job in jobs}):
        parts = [
            _grid(contents[i : i + ROWS - 1], styles[j : j + COLUMNS - 1], grid)
            for i in range(0, len(contents), ROWS - 1)
            for j in range(0, len(styles), COLUMNS - 1)
        ]
    else:
        parts = [_listed(done[i : i + ROWS], arguments) for i in range(0, len(done), ROWS)]
    for number, image in enumerate(parts, start=1):
        name = "sheet.png" if len(parts) == 1 else f"sheet-{number}.png"
        write_image(arguments.output / name, image)


def _grid(contents: Sequence[Path], styles: Sequence[tuple[Path, ...]], outputs: dict[Any, Path]) -> AnyHostImage:
    rows = [[None, *(_small(style[0]) for style in styles)]]
    rows += [[_small(content), *(_small(outputs.get((content, style))) for style in styles)] for content in contents]
    names = ["", *(" + ".join(path.stem for path in style) for style in styles)]
    return sheet(rows, row_labels=["", *(path.stem for path in contents)], column_labels=names)


def _listed(jobs: Sequence[Job], arguments: argparse.Namespace) -> AnyHostImage:
    rows = [[_small(job.content), _small(job.styles[0]), _small(_output(job, arguments))] for job in jobs]
    return sheet(rows, row_labels=[job.name for job in jobs], column_labels=["content", "style", "result"])


def _small(path: Path | None) -> AnyHostImage | None:
    """Return an image for the sheet; none for one that cannot be read, which has been reported."""
    try:
        return None if path is None else read_image(path, size=CELL)
    except UserError:
        return None


def _closing(jobs: Sequence[Job], results: Results, stopped: bool, took: str) -> str:
    statuses = [_status(job, results) for job in jobs]
    done, failed = statuses.count(DONE), statuses.count(FAILED)
    line = f"{done} of {len(jobs)} images in {results.folder}"
    line += f", {failed} failed (see results.jsonl)" if failed else ""
    line += f", {took}"
    return f"{line}; stopped: the same command goes on from here" if stopped else line
