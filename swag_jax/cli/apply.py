"""`swag-jax apply`: a trained generator on an image, a folder, or the frames of a video."""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._files import check_target, make_folder, real
from swag_jax._types import AnyHostImage, HostAlpha
from swag_jax.apply import (
    ApplySettings,
    Content,
    Outcome,
    Style,
    Stylizer,
    load_stylizer,
    repaint,
    repaint_many,
    save_artifact,
)
from swag_jax.apply.drivers import style_shape
from swag_jax.apply.stylizer import GENERATOR_FILE
from swag_jax.attention import SIMILARITIES
from swag_jax.backbones._layers import PRECISIONS
from swag_jax.cli._display import CountDisplay, clock
from swag_jax.cli._flags import add_attributes, add_keep_colors, chosen_attributes
from swag_jax.cli._outputs import check_outputs
from swag_jax.cli._pairs import images_in, left_out_of, named
from swag_jax.cli._results import DONE, FAILED, Results, written
from swag_jax.cli.stylize import stoppable, stopped_code
from swag_jax.images import read_alpha, read_image, read_mask, resize, write_image
from swag_jax.images.io import OUTPUT_FORMATS, check_output
from swag_jax.params._files import file_sha256

SOME_FAILED = 3
"""Exit code when some of many images failed."""

WRITERS = 4
"""Threads that write images while the next batch is at work."""


@dataclass(frozen=True)
class Task:
    """One image to be made.

    Attributes:
        name: Name of the output without its suffix.
        content: The content image.
        styles: The style images that are mixed.
    """

    name: str
    content: Path
    styles: tuple[Path, ...]


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "apply",
        help="a trained generator on an image or a folder",
        usage="swag-jax apply CHECKPOINT CONTENT [STYLE ...] -o OUT [flags]",
        description="Paint the CONTENT image, or every image of that folder, by a trained generator, in the manner "
        "of one STYLE, of several mixed, or of each in a folder. Johnson's networks take no STYLE. A folder of frames "
        "is a video: the style is read once, with one seed. The same command again does what is left of a folder.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="A generator, or a training run's folder")
    parser.add_argument("content", type=Path, metavar="CONTENT", help="The image to repaint, or a folder")
    parser.add_argument("styles", type=Path, nargs="*", metavar="STYLE", help="A painting; several are mixed")
    suffixes = ", ".join(OUTPUT_FORMATS)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help=f"The result: {suffixes}; of folders, a folder"
    )
    add_attributes(parser, ApplySettings())
    add_keep_colors(parser)
    parser.add_argument(
        "--content-masks", type=Path, nargs="+", default=[], metavar="FILE", help="Where each style goes: white is all"
    )
    parser.add_argument(
        "--style-masks", type=Path, nargs="+", default=[], metavar="FILE", help="The part of each style to use: white"
    )
    parser.add_argument("--backbone", metavar="NAME", help="The encoder's network (default: as trained)")
    parser.add_argument("--weights", metavar="W", help="The encoder's weights: a name or a file (default: as trained)")
    parser.add_argument("--similarity", choices=SIMILARITIES, help="How AdaAttN compares (default: as trained)")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="Of the networks (default: float32)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="Images at once, at most (default: by device)")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="Of a folder's results (default: png)")
    parser.add_argument("--retry-failed", action="store_true", help="Try again what failed before")
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="Also write a jax.export artifact for images of these sizes"
    )
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check everything first, then work."""
    settings = ApplySettings(**chosen_attributes(arguments))
    many = arguments.content.is_dir() or any(style.is_dir() for style in arguments.styles)
    if many:
        return _run_many(arguments, settings)
    _check_output(arguments)
    stylizer = _load(arguments)
    content, styles = _File(arguments.content), _styles(arguments.styles, arguments)
    masks = _masks(arguments.content_masks)
    began = time.perf_counter()
    image = repaint(stylizer, Content(content, masks), styles, settings=settings)
    _write(arguments.output, image, arguments.content)
    if arguments.export is not None:
        _export(arguments, stylizer, settings, image, styles)
    CountDisplay("", quiet=arguments.quiet).say(f"wrote {arguments.output} in {clock(time.perf_counter() - began)}")
    return 0


def _load(arguments: argparse.Namespace) -> Stylizer:
    return load_stylizer(
        arguments.checkpoint,
        backbone=arguments.backbone,
        weights=arguments.weights,
        similarity=arguments.similarity,
        precision=arguments.precision,
    )


def _check_output(arguments: argparse.Namespace) -> None:
    check_output(arguments.output)
    if arguments.export is not None:
        check_target(arguments.export, what="--export")
        if arguments.content_masks or arguments.style_masks:
            raise error("an artifact has no masks", cure="leave out the masks, or --export")
    inputs = [("CONTENT", arguments.content), *(("STYLE", path) for path in arguments.styles), *_shared(arguments)]
    outputs = [("-o", arguments.output), ("--export", arguments.export)]
    check_outputs(outputs, inputs, weights=[arguments.weights or "auto"])


def _shared(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """Return what is read for all images."""
    masks = [*(("--content-masks", m) for m in arguments.content_masks)]
    masks += [("--style-masks", m) for m in arguments.style_masks]
    return [("CHECKPOINT", _generator_file(arguments)), *masks]


def _generator_file(arguments: argparse.Namespace) -> Path:
    path: Path = arguments.checkpoint
    return path / GENERATOR_FILE if path.is_dir() else path


@dataclass(frozen=True)
class _File:
    """Reads an image."""

    path: Path

    def __call__(self) -> AnyHostImage:
        return read_image(self.path)


def _masks(paths: Sequence[Path]) -> tuple[HostAlpha, ...]:
    """Read masks: the luminance of images, times their opacity."""
    return tuple(read_mask(path) for path in paths)


def _styles(paths: Sequence[Path], arguments: argparse.Namespace) -> list[Style]:
    regions = _masks(arguments.style_masks)
    if regions and len(regions) != len(paths):
        rule = f"there must be one style mask per style ({len(paths)}), or none"
        raise error(rule, got=len(regions))
    return [Style(read_image(p), r) for p, r in zip(paths, regions or (None,) * len(paths), strict=True)]


def _write(path: Path, image: AnyHostImage, content: Path) -> None:
    """Write a result with the content's transparency."""
    opaque = OUTPUT_FORMATS[path.suffix.lower()] == "JPEG"
    alpha = None if opaque else read_alpha(content)
    write_image(path, image, alpha=None if alpha is None else resize(alpha, *image.shape[:2]))


def _export(
    arguments: argparse.Namespace,
    stylizer: Stylizer,
    settings: ApplySettings,
    image: AnyHostImage,
    styles: Sequence[Style],
) -> None:
    shapes = [np.shape(style.image)[:2] for style in styles]
    save_artifact(
        arguments.export,
        stylizer,
        image.shape[:2],
        style_shapes=[style_shape(stylizer, h, w, size=settings.style_size) for h, w in shapes],
        mixed=settings.strength < 1,
        seed=settings.seed,
    )


def _run_many(arguments: argparse.Namespace, settings: ApplySettings) -> int:
    if arguments.export is not None:
        raise error("--export is for one image", cure="apply the generator to one content and its styles")
    tasks = _tasks(arguments)
    _check_folder(arguments, tasks)
    stylizer = _load(arguments)
    results = Results(arguments.output, options={"format": arguments.format})
    facts = _facts(arguments, settings)
    masks = [*arguments.content_masks, *arguments.style_masks]
    prints = {task.name: results.hashed(facts, [task.content, *task.styles, *masks]) for task in tasks}
    left = [task for task in tasks if not _is_ended(task, prints, results, arguments)]
    devices.keep_memory()
    display, began = CountDisplay(arguments.output.name, quiet=arguments.quiet), time.perf_counter()
    display.noun = "images"
    for line in left_out_of(arguments.content, *arguments.styles):
        display.say(line)
    with stoppable(display.say, "at once; what is done is kept") as asked, display:
        with ThreadPoolExecutor(WRITERS) as pool:
            saving: list[Future] = []
            for task, outcome in _outcomes(left, stylizer, settings, arguments):
                saving.append(pool.submit(_save, task, outcome, prints[task.name], results, arguments))
                problem = None if outcome.error is None else f"{task.name}: {' '.join(str(outcome.error).split())}"
                display.count(len(saving), len(left), time.perf_counter() - began, problem=problem)
                if asked:
                    break
        for future in saving:
            future.result()
    results.merge([task.name for task in tasks])
    statuses = [results.records.get(task.name, {}).get("status") for task in tasks]
    done, failed = statuses.count(DONE), statuses.count(FAILED)
    line = f"{done} of {len(tasks)} images in {arguments.output}"
    line += f", {failed} failed (see results.jsonl)" if failed else ""
    display.say(f"{line}, in {clock(time.perf_counter() - began)}")
    if asked:
        return stopped_code(asked)
    return SOME_FAILED if failed else 0


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    """Return every content in every style, or in all styles mixed, contents of one style side by side."""
    content: Path = arguments.content
    contents = named(images_in(content, "CONTENT")) if content.is_dir() else {content.stem: content}
    styles: list[Path] = arguments.styles
    folders = [style for style in styles if style.is_dir()]
    if not folders:
        return _unique([Task(name, path, tuple(styles)) for name, path in contents.items()])
    if len(styles) > 1:
        raise error("a folder of styles stands alone", got=f"{len(styles)} styles", cure="pass the folder only")
    if arguments.style_masks or arguments.content_masks:
        raise error("masks are for named styles", got="a folder of styles", cure="pass the styles one by one")
    found = named(images_in(folders[0], "STYLE"))
    return _unique([Task(f"{a}_{b}", c, (s,)) for b, s in found.items() for a, c in contents.items()])


def _unique(tasks: list[Task]) -> list[Task]:
    names = [task.name.lower() for task in tasks]
    for task in tasks:
        if names.count(task.name.lower()) > 1:
            raise error("every image must have a name of its own", got=repr(task.name), cure="rename a file")
    return tasks


def _check_folder(arguments: argparse.Namespace, tasks: Sequence[Task]) -> None:
    folder: Path = arguments.output
    read = {real(path.parent) for task in tasks for path in (task.content, *task.styles)}
    if real(folder) in read:
        raise error("the output must not be a folder that is read", got=folder, cure="choose another -o")
    outputs = [(f"the result {task.name}", _output(task, arguments)) for task in tasks]
    outputs.append(("results.jsonl", folder / "results.jsonl"))
    inputs = [("an image", path) for task in tasks for path in (task.content, *task.styles)]
    check_outputs(outputs, [*inputs, *_shared(arguments)], weights=[arguments.weights or "auto"])
    make_folder(folder)


def _facts(arguments: argparse.Namespace, settings: ApplySettings) -> dict[str, object]:
    """Return what all images depend on beside themselves."""
    return {
        "settings": dataclasses.asdict(settings),
        "generator": file_sha256(_generator_file(arguments)),
        "masks": _masks_fact(arguments),
        "loading": [arguments.backbone, arguments.weights, arguments.similarity, arguments.precision],
    }


def _masks_fact(arguments: argparse.Namespace) -> list[object]:
    """Return what images depend on by their masks, which version 0.1.0 read without their opacity."""
    numbers: list[object] = [len(arguments.content_masks), len(arguments.style_masks)]
    return [*numbers, "luminance times opacity"] if any(numbers) else numbers


def _is_ended(task: Task, prints: dict[str, str], results: Results, arguments: argparse.Namespace) -> bool:
    """Tell whether an earlier run of the same task has left nothing to do."""
    output = _output(task, arguments)
    return results.is_ended(task.name, prints[task.name], output, retry_failed=arguments.retry_failed)


def _output(task: Task, arguments: argparse.Namespace) -> Path:
    return arguments.output / f"{task.name}.{arguments.format}"


def _outcomes(
    tasks: Sequence[Task], stylizer: Stylizer, settings: ApplySettings, arguments: argparse.Namespace
) -> Iterator[tuple[Task, Outcome]]:
    """Yield what becomes of every task; a style that cannot be read fails its own tasks only."""
    masks = _masks(arguments.content_masks)
    for styles in dict.fromkeys(task.styles for task in tasks):
        own = [task for task in tasks if task.styles == styles]
        try:
            images = _styles(styles, arguments)
        except UserError as problem:
            if not arguments.styles[0].is_dir():
                raise
            yield from ((task, Outcome(index, None, problem)) for index, task in enumerate(own))
            continue
        contents = [Content(_File(task.content), masks) for task in own]
        outcomes = repaint_many(stylizer, contents, images, settings=settings, batch_size=arguments.batch_size)
        for outcome in outcomes:
            yield own[outcome.index], outcome


def _save(task: Task, outcome: Outcome, fingerprint: str, results: Results, arguments: argparse.Namespace) -> None:
    """Write an image, then its record; in a thread, beside the devices."""
    path, problem = _output(task, arguments), outcome.error
    kept: dict[str, object] = {}
    if outcome.image is not None:
        try:
            _write(path, outcome.image, task.content)
            kept = written(path)
        except UserError as failure:
            problem = failure
    results.add(
        {
            "name": task.name,
            "content": str(task.content),
            "styles": [str(style) for style in task.styles],
            "output": None if problem is not None else str(path),
            **kept,
            "status": DONE if problem is None else FAILED,
            "error": None if problem is None else " ".join(str(problem).split()),
            "fingerprint": fingerprint,
        }
    )
