"""`swag-jax stylize`: one image by optimization."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from swag_jax import devices, params
from swag_jax._checks import error
from swag_jax.cli._display import Display, clock, steps_line, weights_lines
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import Quiet, flag, word
from swag_jax.cli._outputs import check_outputs, kept_alpha, labeled, write_report, write_result
from swag_jax.cli._settings import MaskedPairFlags
from swag_jax.images import read_image, read_mask
from swag_jax.optimize import Progress, Result, StylizeSettings, stylize


@dataclass(frozen=True, kw_only=True)
class Stylize(MaskedPairFlags, Quiet):
    """One image by optimization.

    Paint the CONTENT image in the manner of one or more STYLE images. Ctrl-C and SIGTERM stop early and keep the image
    so far, with exit codes 130 and 143. A run of more than five minutes keeps its state in OUT.state, from which the
    same command resumes it, also after a kill.
    """

    usage: ClassVar[str] = "swag-jax stylize CONTENT STYLE [STYLE ...] -o OUT [flags]"

    content: Path = word("CONTENT", "The image to repaint")
    styles: tuple[Path, ...] = word("STYLE", "A painting; several are mixed")
    output: Path = flag("The result: .png, .jpg, .jpeg, .webp, .tif or .tiff", short="-o", metavar="OUT")
    every: int | None = flag("Also write the image after every N steps, as OUT-00N", None)
    tile: int | None = flag(
        "Side in pixels of the tiles that larger images are solved in, with the same result; 0: never; by default, "
        "only if the whole does not fit into memory",
        None,
    )
    report: Path | None = flag("Write settings, weights, losses, seconds and versions here", None, metavar="FILE.json")

    def run(self) -> ExitCode:
        """Check everything first, then work, then write."""
        settings, init = self.chosen_start()
        _check(self, settings, init)
        display = Display(self.output.name, quiet=self.quiet, opening=settings_lines(settings))
        with stoppable(display.say, "without an image") as asked:

            def callback(progress: Progress) -> bool:
                display.show(steps_line(progress), progress.step, progress.steps)
                return bool(asked)

            with display:
                result = self.make(callback)
        line = f"wrote {self.output} in {clock(sum(result.seconds.values()))}"
        line += f", in tiles of {result.tile} px" if result.tile else ""
        if result.status == "stopped":
            height, width = result.image.shape[:2]
            line += f", stopped at step {sum(result.steps)} of {result.settings.steps} ({width}x{height})"
        display.say(line)
        return stopped_code(asked)

    def make(self, callback: Callable[[Progress], bool]) -> Result:
        """Stylize, and write all files; a true answer of `callback` stops it early."""
        settings, init = self.chosen_start()
        content, *styles = map(read_image, (self.content, *self.styles))
        start = None if init is None else read_image(init)
        content_masks, style_masks = (list(map(read_mask, paths)) for paths in (self.content_masks, self.style_masks))
        alpha = kept_alpha(self.output, self.content)
        devices.keep_memory()

        def tell(progress: Progress) -> bool:
            stops = callback(progress)
            if self.every and progress.step % self.every == 0 and progress.step < progress.steps:
                write_result(_snapshot(self.output, progress.step), progress.image(), alpha)
            return stops

        result = stylize(
            content,
            styles,
            settings=settings,
            init=start,
            content_masks=content_masks,
            style_masks=style_masks,
            callback=tell,
            every=self.every,
            tile=self.tile,
            state_file=_state_file(self.output),
        )
        write_result(self.output, result.image, alpha)
        if self.report is not None:
            write_report(self.report, _report(self, result))
        return result


def settings_lines(settings: StylizeSettings) -> list[str]:
    """Say which weights settings mean, and how to get better ones."""
    return weights_lines("weights: ", params.resolve(settings.backbone, weights=settings.weights))


def _check(command: Stylize, settings: StylizeSettings, init: Path | None) -> None:
    output, every = command.output, command.every
    if every is not None and every < 1:
        raise error("--every must be at least 1", got=every)
    snapshots = [_snapshot(output, step) for step in range(every, settings.steps, every)] if every else []
    check_outputs(
        [
            ("-o", output),
            ("--report", command.report),
            ("the state of -o", _state_file(output)),
            *labeled("--every", snapshots),
        ],
        [("CONTENT", command.content), *labeled("STYLE", command.styles), ("--init", init), *command.mask_files()],
        weights=[settings.weights],
    )


def _state_file(output: Path) -> Path:
    return output.with_name(f"{output.name}.state")


def _snapshot(output: Path, step: int) -> Path:
    return output.parent / f"{output.stem}-{step:05d}{output.suffix}"


def _report(command: Stylize, result: Result) -> dict[str, Any]:
    """Return what is needed to understand and repeat a run."""
    return {
        "content": str(command.content),
        "styles": [str(path) for path in command.styles],
        "init": command.init or result.settings.init,
        "content_masks": [str(path) for path in command.content_masks],
        "style_masks": [str(path) for path in command.style_masks],
        "output": str(command.output),
        "status": result.status,
        "settings": asdict(result.settings),
        "tile": result.tile,
        "layers": list(result.settings.full_objective.layers),
        "weights": {**asdict(result.source), "description": result.source.describe(), "advice": result.source.advice()},
        "scales": [{"height": h, "width": w, "steps": n} for (h, w), n in zip(result.sizes, result.steps, strict=True)],
        "losses": {name: [float(v) for v in values] for name, values in result.history.items()},
        "seconds": result.seconds,
    }
