"""`swag-jax apply`: a trained generator on an image, a folder, or the frames of a video."""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._files import check_target
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
from swag_jax.cli._display import Display, clock, count_line
from swag_jax.cli._exit import ExitCode, stoppable
from swag_jax.cli._flags import add_attributes, add_keep_colors, chosen_attributes
from swag_jax.cli._folder import Folder, ImageFile, Task, readable_sha256, unique
from swag_jax.cli._outputs import check_outputs, kept_alpha, write_result
from swag_jax.cli._pairs import images_in, left_out_of, named
from swag_jax.images import read_image, read_mask
from swag_jax.images.io import OUTPUT_FORMATS, check_output


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


def run(arguments: argparse.Namespace) -> ExitCode:
    """Check everything first, then work."""
    settings = ApplySettings(**chosen_attributes(arguments))
    many = arguments.content.is_dir() or any(style.is_dir() for style in arguments.styles)
    if many:
        return _run_many(arguments, settings)
    _check_output(arguments)
    stylizer = _load(arguments)
    content, styles = ImageFile(arguments.content), _styles(arguments.styles, arguments)
    masks = _masks(arguments.content_masks)
    began = time.perf_counter()
    image = repaint(stylizer, Content(content, masks), styles, settings=settings)
    write_result(arguments.output, image, kept_alpha(arguments.output, arguments.content))
    if arguments.export is not None:
        _export(arguments, stylizer, settings, image, styles)
    Display("", quiet=arguments.quiet).say(f"wrote {arguments.output} in {clock(time.perf_counter() - began)}")
    return ExitCode.DONE


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


def _masks(paths: Sequence[Path]) -> tuple[HostAlpha, ...]:
    """Read masks: the luminance of images, times their opacity."""
    return tuple(read_mask(path) for path in paths)


def _styles(paths: Sequence[Path], arguments: argparse.Namespace) -> list[Style]:
    regions = _masks(arguments.style_masks)
    if regions and len(regions) != len(paths):
        rule = f"there must be one style mask per style ({len(paths)}), or none"
        raise error(rule, got=len(regions))
    return [Style(read_image(p), r) for p, r in zip(paths, regions or (None,) * len(paths), strict=True)]


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


def _run_many(arguments: argparse.Namespace, settings: ApplySettings) -> ExitCode:
    if arguments.export is not None:
        raise error("--export is for one image", cure="apply the generator to one content and its styles")
    began, tasks = time.perf_counter(), _tasks(arguments)
    folder = Folder(arguments.output, tasks, suffix=arguments.format)
    read = {path.parent for task in tasks for path in (task.content, *task.styles)}
    folder.check(_shared(arguments), read=read, weights=[arguments.weights or "auto"])
    stylizer, facts = _load(arguments), _facts(arguments, settings)
    folder.open(lambda _: facts, also_read=[*arguments.content_masks, *arguments.style_masks])
    left = folder.left(tasks, retry_failed=arguments.retry_failed)
    devices.keep_memory()
    display, started = Display(arguments.output.name, quiet=arguments.quiet), time.perf_counter()
    for line in left_out_of(arguments.content, *arguments.styles):
        display.say(line)
    with stoppable(display.say, "at once; what is done is kept") as asked, display, folder.writing(display.say) as save:
        for done, (task, outcome) in enumerate(_outcomes(left, stylizer, settings, arguments), start=1):
            save(task, outcome.image, outcome.error)
            expected = (time.perf_counter() - started) / done * (len(left) - done)
            display.show(count_line(done, len(left), "images", seconds_left=expected), done, len(left))
            if asked:
                break
    folder.merge()
    line, code = folder.ending(tasks, asked, f"in {clock(time.perf_counter() - began)}")
    display.say(line)
    return code


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    """Return every content in every style, or in all styles mixed, contents of one style side by side."""
    content: Path = arguments.content
    contents = named(images_in(content, "CONTENT")) if content.is_dir() else {content.stem: content}
    styles: list[Path] = arguments.styles
    folders = [style for style in styles if style.is_dir()]
    if not folders:
        return unique([Task(name, path, tuple(styles)) for name, path in contents.items()])
    if len(styles) > 1:
        raise error("a folder of styles stands alone", got=f"{len(styles)} styles", cure="pass the folder only")
    if arguments.style_masks or arguments.content_masks:
        raise error("masks are for named styles", got="a folder of styles", cure="pass the styles one by one")
    found = named(images_in(folders[0], "STYLE"))
    return unique([Task(f"{a}_{b}", c, (s,)) for b, s in found.items() for a, c in contents.items()])


def _facts(arguments: argparse.Namespace, settings: ApplySettings) -> dict[str, object]:
    """Return what all images depend on beside themselves."""
    return {
        "settings": dataclasses.asdict(settings),
        "generator": readable_sha256(_generator_file(arguments)),
        "masks": _masks_fact(arguments),
        "loading": [arguments.backbone, arguments.weights, arguments.similarity, arguments.precision],
    }


def _masks_fact(arguments: argparse.Namespace) -> list[object]:
    """Return what images depend on by their masks, which version 0.1.0 read without their opacity."""
    numbers: list[object] = [len(arguments.content_masks), len(arguments.style_masks)]
    return [*numbers, "luminance times opacity"] if any(numbers) else numbers


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
        contents = [Content(ImageFile(task.content), masks) for task in own]
        outcomes = repaint_many(stylizer, contents, images, settings=settings, batch_size=arguments.batch_size)
        for outcome in outcomes:
            yield own[outcome.index], outcome
