"""`swag-jax stylize`: one image by optimization."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from swag_jax import devices, params
from swag_jax._checks import error
from swag_jax._files import check_target
from swag_jax.cli._display import Display, clock, steps_line
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import Quiet, flag, word
from swag_jax.cli._outputs import check_outputs, kept_alpha, write_report, write_result
from swag_jax.cli._settings import PairFlags
from swag_jax.images import read_image
from swag_jax.images.io import check_output
from swag_jax.optimize import Progress, Result, StylizeSettings, stylize


@dataclass(frozen=True, kw_only=True)
class Stylize(PairFlags, Quiet):
    """One image by optimization.

    Paint the CONTENT image in the manner of one or more STYLE images. Ctrl-C and SIGTERM stop early and keep the image
    so far, with exit codes 130 and 143.

    Attributes:
        content: The image to repaint.
        styles: A painting; several are mixed.
        output: The result: .png, .jpg, .jpeg, .webp, .tif or .tiff.
        every: Also write the image after every N steps, as OUT-00N.
        report: Write settings, weights, losses, seconds and versions here.
    """

    usage: ClassVar[str] = "swag-jax stylize CONTENT STYLE [STYLE ...] -o OUT [flags]"

    content: Path = word("CONTENT")
    styles: tuple[Path, ...] = word("STYLE")
    output: Path = flag(short="-o", metavar="OUT")
    every: int | None = None
    report: Path | None = flag(None, metavar="FILE.json")

    def run(self) -> ExitCode:
        """Check everything first, then work, then write."""
        settings, init = self.chosen_start()
        _check_outputs(self, settings, init)
        content = read_image(self.content)
        styles = [read_image(path) for path in self.styles]
        start = None if init is None else read_image(init)
        display = Display(self.output.name, quiet=self.quiet, opening=describe_weights(settings))
        writer = _Writer(self, display)
        devices.keep_memory()
        with stoppable(display.say, "without an image") as writer.asked:
            with display:
                result = stylize(content, styles, settings=settings, init=start, callback=writer, every=self.every)
            write_result(self.output, result.image, writer.alpha)
        if self.report is not None:
            write_report(self.report, _report(self, result))
        display.say(_closing(self.output, result))
        return stopped_code(writer.asked)


def describe_weights(settings: StylizeSettings) -> list[str]:
    """Say which weights are used, and how to get better ones."""
    source = params.resolve(settings.backbone, weights=settings.weights)
    advice = source.advice()
    return [f"weights: {source.describe()}", *([f"         {advice}"] if advice else [])]


def _check_outputs(command: Stylize, settings: StylizeSettings, init: Path | None) -> None:
    """Raise unless all that will be written can be, and none of it over a file that is read."""
    output, report, every = command.output, command.report, command.every
    check_output(output)
    if report is not None:
        check_target(report, what="--report")
    if every is not None and every < 1:
        raise error("--every must be at least 1", got=every)
    snapshots = [snapshot(output, step) for step in range(every, settings.steps, every)] if every else []
    for path in snapshots:
        check_output(path)
    check_outputs(
        [("-o", output), ("--report", report), *(("--every", path) for path in snapshots)],
        [("CONTENT", command.content), *(("STYLE", path) for path in command.styles), ("--init", init)],
        weights=[settings.weights],
    )


def snapshot(output: Path, step: int) -> Path:
    """Return where `--every` writes the image after a step."""
    return output.with_name(f"{output.stem}-{step:05d}{output.suffix}")


class _Writer:
    """Shows the progress, writes the image so far after every N steps, and stops the run when asked."""

    def __init__(self, command: Stylize, display: Display):
        self.output = command.output
        self.every = command.every
        self.display = display
        self.asked: list[int] = []
        self.alpha = kept_alpha(command.output, command.content)

    def __call__(self, progress: Progress) -> bool:
        self.display.show(steps_line(progress), progress.step, progress.steps)
        if self.every and progress.step % self.every == 0 and progress.step < progress.steps:
            write_result(snapshot(self.output, progress.step), progress.image(), self.alpha)
        return bool(self.asked)


def _closing(output: Path, result: Result) -> str:
    line = f"wrote {output} in {clock(sum(result.seconds.values()))}"
    if result.status != "stopped":
        return line
    height, width = result.image.shape[:2]
    return f"{line}, stopped at step {sum(result.steps)} of {result.settings.steps} ({width}x{height})"


def _report(command: Stylize, result: Result) -> dict[str, Any]:
    """Return what is needed to understand and repeat a run."""
    return {
        "content": str(command.content),
        "styles": [str(path) for path in command.styles],
        "init": command.init or result.settings.init,
        "output": str(command.output),
        "status": result.status,
        "settings": asdict(result.settings),
        "layers": list(result.settings.full_objective.layers),
        "weights": {**asdict(result.source), "description": result.source.describe(), "advice": result.source.advice()},
        "scales": [{"height": h, "width": w, "steps": n} for (h, w), n in zip(result.sizes, result.steps, strict=True)],
        "losses": {name: [float(v) for v in values] for name, values in result.history.items()},
        "seconds": result.seconds,
    }
