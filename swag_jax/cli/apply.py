"""`swag-jax apply`: a trained generator on an image, a folder or a video."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from swag_jax import apply, devices
from swag_jax._checks import UserError, error
from swag_jax._files import check_apart, check_target
from swag_jax._programs import KEPT
from swag_jax._types import AnyHostImage
from swag_jax.apply import ApplySettings, Content, Outcome, Style, Stylizer
from swag_jax.apply.drivers import style_shape
from swag_jax.attention import Similarity
from swag_jax.backbones import Precision
from swag_jax.cli._display import Display, clock, count_line
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import Changes, Quiet, changed, changes, flag, word
from swag_jax.cli._folder import Folder, ImageFile, Task, readable_sha256, unique
from swag_jax.cli._images import images_in, left_out_of, named
from swag_jax.cli._masks import MaskFlags
from swag_jax.cli._outputs import check_outputs, kept_alpha, labeled, write_report, write_result
from swag_jax.generators.checkpoint import find_generator
from swag_jax.images import read_image, read_mask
from swag_jax.images._decode import header_shape
from swag_jax.images.video import check_video_output, is_video, open_video
from swag_jax.params.safetensors_file import read_metadata


@dataclass(frozen=True, kw_only=True)
class Apply(MaskFlags, Quiet):
    """A trained generator on an image, a folder or a video.

    Paint the CONTENT image, or every image of that folder, by a trained generator, in the manner of one STYLE, of
    several mixed, or of each in a folder. Johnson's networks take no STYLE. Of a video, or a folder of frames, the
    style is read once, with one seed. The same command again does what is left of a folder or a video.
    """

    usage: ClassVar[str] = "swag-jax apply GENERATOR CONTENT [STYLE ...] -o OUT [flags]"

    checkpoint: Path = word("GENERATOR", "A checkpoint, a training run's folder, or the name of one in the package")
    content: Path = word("CONTENT", "The image to repaint, a folder or a video")
    styles: tuple[Path, ...] = word("STYLE", "A painting; several are mixed", ())
    output: Path = flag(
        "The result: .png, .jpg, .jpeg, .webp, .tif or .tiff; of folders, a folder; of a video, .mp4, .mov, .m4v, "
        ".mkv or .webm",
        short="-o",
        metavar="OUT",
    )
    backbone: str | None = flag("The encoder's network; by default as trained", None)
    weights: str | None = flag("The encoder's weights: a name or a file; by default as trained", None)
    similarity: Similarity | None = flag("How AdaAttN compares; by default as trained", None)
    precision: Precision = flag("Of the networks", "float32")
    batch_size: int | None = flag("Images at once, at most; by default it depends on the device", None)
    programs: int = flag(
        "Sizes of a folder's images that are compiled for, at most: others are padded, with equal results; 0 compiles "
        "for every size",
        KEPT,
    )
    format: Literal["png", "jpg"] = flag("Of a folder's results", "png")
    retry_failed: bool = flag("Try again what failed before", False)
    export: Path | None = flag("Also write a jax.export artifact for images of these sizes", None)
    report: Path | None = flag("Write settings, generator, seconds and versions here", None, metavar="FILE.json")
    settings: Changes = changes(ApplySettings())

    @property
    def works_ahead(self) -> bool:
        """Whether the style is read while the next program is made ready: of many images, memory is kept instead."""
        return not (is_video(self.content) or any(path.is_dir() for path in (self.content, *self.styles)))

    def run(self) -> ExitCode:
        """Check everything first, then work."""
        settings = changed(ApplySettings(), self.settings)
        if is_video(self.content) and not self.content.is_dir():
            return _run_video(self, settings)
        if self.content.is_dir() or any(style.is_dir() for style in self.styles):
            return _run_many(self, settings)
        seconds = self.make()
        Display("", quiet=self.quiet).say(f"wrote {self.output} in {clock(seconds)}")
        return ExitCode.DONE

    def make(self) -> float:
        """Check everything first, then paint one image, then write all files; return the seconds of painting."""
        settings = changed(ApplySettings(), self.settings)
        if self.export is not None and (self.content_masks or self.style_masks):
            raise error("an artifact has no masks", cure="leave out the masks, or --export")
        check_outputs(
            [("-o", self.output), ("--export", self.export), ("--report", self.report)],
            [("CONTENT", self.content), *labeled("STYLE", self.styles), *_shared(self)],
            weights=[self.weights or "auto"],
        )
        stylizer, styles, masks = _load(self), _styles(self.styles, self), tuple(map(read_mask, self.content_masks))
        began = time.perf_counter()
        image = apply.repaint(stylizer, Content(ImageFile(self.content), masks), styles, settings=settings)
        write_result(self.output, image, kept_alpha(self.output, self.content))
        if self.export is not None:
            _export(self.export, stylizer, settings, image, styles)
        seconds = time.perf_counter() - began
        if self.report is not None:
            write_report(self.report, _report(self, settings, image, seconds))
        return seconds


def _load(command: Apply) -> Stylizer:
    return apply.load_stylizer(
        command.checkpoint,
        backbone=command.backbone,
        weights=command.weights,
        similarity=command.similarity,
        precision=command.precision,
    )


def _report(command: Apply, settings: ApplySettings, image: AnyHostImage, seconds: float) -> dict[str, object]:
    """Return what is needed to understand and repeat a run."""
    file = find_generator(command.checkpoint)
    return {
        "content": str(command.content),
        "styles": [str(path) for path in command.styles],
        "output": str(command.output),
        "generator": {"name": str(command.checkpoint), "sha256": readable_sha256(file), **read_metadata(file)},
        "settings": asdict(settings),
        "size": {"height": image.shape[0], "width": image.shape[1]},
        "seconds": seconds,
    }


def _shared(command: Apply) -> list[tuple[str, Path]]:
    """Return what is read for all images."""
    return [("GENERATOR", find_generator(command.checkpoint)), *command.mask_files()]


def _styles(paths: Sequence[Path], command: Apply) -> list[Style]:
    regions = list(map(read_mask, command.style_masks)) or [None] * len(paths)
    if len(regions) != len(paths):
        rule = f"there must be one style mask per style ({len(paths)}), or none"
        raise error(rule, got=len(regions))
    return [Style(read_image(path), region) for path, region in zip(paths, regions, strict=True)]


def _export(path: Path, stylizer: Stylizer, settings: ApplySettings, image: AnyHostImage, styles: Sequence[Style]):
    shapes = [np.shape(style.image)[:2] for style in styles]
    apply.save_artifact(
        path,
        stylizer,
        image.shape[:2],
        style_shapes=[style_shape(stylizer, h, w, size=settings.style_size) for h, w in shapes],
        mixed=settings.strength < 1,
        seed=settings.seed,
    )


def _run_video(command: Apply, settings: ApplySettings) -> ExitCode:
    for given, rule in (
        (command.export is not None, "--export is for one image"),
        (command.report is not None, "--report is for one image"),
        (any(style.is_dir() for style in command.styles), "a folder of styles is for images"),
    ):
        if given:
            raise error(rule, got="a video")
    check_video_output(command.output, open_video(command.content))
    check_target(command.output, what="-o")
    check_apart(
        [("-o", command.output)],
        [("CONTENT", command.content), *labeled("STYLE", command.styles), *_shared(command)],
    )
    stylizer, styles = _load(command), _styles(command.styles, command)
    devices.keep_memory()
    display = Display(command.output.name, quiet=command.quiet)
    began = time.perf_counter()

    def show(progress: apply.VideoProgress) -> None:
        left = (progress.frames - progress.frame) / progress.rate if progress.frames else None
        line = count_line(progress.frame, progress.frames or None, "frames", seconds_left=left)
        display.show(line, progress.frame, progress.frames or None)

    with stoppable(display.say, "at once; finished segments are kept") as asked, display:
        result = apply.repaint_video(
            stylizer,
            command.content,
            styles,
            command.output,
            masks=tuple(map(read_mask, command.content_masks)),
            settings=settings,
            batch_size=command.batch_size,
            callback=show,
            interrupted=lambda: bool(asked),
        )
    if result.status == "stopped":
        display.say(f"stopped: {result.frames} frames are kept; the same command resumes from here")
        return stopped_code(asked)
    display.say(f"wrote {command.output}: {result.frames} frames in {clock(time.perf_counter() - began)}")
    return ExitCode.DONE


def _run_many(command: Apply, settings: ApplySettings) -> ExitCode:
    for option, file in (("--export", command.export), ("--report", command.report)):
        if file is not None:
            raise error(f"{option} is for one image", cure="apply the generator to one content and its styles")
    tasks = _tasks(command)
    folder = Folder(command.output, tasks, suffix=command.format)
    read = {path.parent for task in tasks for path in (task.content, *task.styles)}
    folder.check(_shared(command), read=read, weights=[command.weights or "auto"])
    stylizer, facts = _load(command), _facts(command, settings)
    folder.open(lambda _: facts, also_read=[*command.content_masks, *command.style_masks])
    left = folder.left(tasks, retry_failed=command.retry_failed)
    devices.keep_memory()
    display = Display(command.output.name, quiet=command.quiet)
    for line in left_out_of(command.content, *command.styles):
        display.say(line)
    with folder.working(display) as (asked, save):
        # Of all contents, so that a resumed run pads images as the first one did.
        shapes = list(filter(None, map(header_shape, {task.content for task in tasks}))) if left else []
        options = {
            "batch_size": command.batch_size,
            "programs": command.programs,
            "shapes": shapes,
            "many_styles": len({task.styles for task in tasks}) > command.programs > 0,
        }
        for done, (task, outcome) in enumerate(_outcomes(left, stylizer, settings, command, options), start=1):
            save(task, outcome.image, outcome.error)
            display.count(done, len(left), "images")
            if asked:
                break
    folder.merge()
    return folder.end(tasks, asked, display)


def _tasks(command: Apply) -> list[Task]:
    """Return every content in every style, or in all styles mixed; contents of one style follow each other."""
    content, styles = command.content, command.styles
    contents = named(images_in(content, "CONTENT")) if content.is_dir() else {content.stem: content}
    if not any(style.is_dir() for style in styles):
        return unique([Task(name, path, styles) for name, path in contents.items()])
    folder, *others = styles
    if others:
        raise error("a folder of styles must be given alone", got=f"{len(styles)} styles", cure="pass the folder only")
    if command.style_masks or command.content_masks:
        raise error("masks are for single styles", got="a folder of styles", cure="pass the styles one by one")
    found = named(images_in(folder, "STYLE"))
    return unique([Task(f"{a}_{b}", c, (s,)) for b, s in found.items() for a, c in contents.items()])


def _facts(command: Apply, settings: ApplySettings) -> dict[str, object]:
    """Return what all images depend on, apart from themselves."""
    masks: list[object] = [len(command.content_masks), len(command.style_masks)]
    return {
        "settings": asdict(settings),
        "generator": readable_sha256(find_generator(command.checkpoint)),
        # Version 0.1.0 read masks without their opacity.
        "masks": [*masks, "luminance times opacity"] if any(masks) else masks,
        "loading": [command.backbone, command.weights, command.similarity, command.precision],
    }


def _outcomes(
    tasks: Sequence[Task],
    stylizer: Stylizer,
    settings: ApplySettings,
    command: Apply,
    options: Mapping[str, Any],
) -> Iterator[tuple[Task, Outcome]]:
    """Yield what becomes of every task; a style that cannot be read fails its own tasks only."""
    masks = tuple(map(read_mask, command.content_masks))
    # Style by style, each of which is read once.
    for styles in dict.fromkeys(task.styles for task in tasks):
        own = [task for task in tasks if task.styles == styles]
        try:
            images = _styles(styles, command)
        except UserError as problem:
            if not command.styles[0].is_dir():
                raise
            yield from ((task, Outcome(index, None, problem)) for index, task in enumerate(own))
            continue
        contents = [Content(ImageFile(task.content), masks) for task in own]
        for outcome in apply.repaint_many(stylizer, contents, images, settings=settings, **options):
            yield own[outcome.index], outcome
