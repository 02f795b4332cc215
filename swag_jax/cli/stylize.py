"""`swag-jax stylize`: one image by optimization."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swag_jax import devices, params
from swag_jax._checks import error
from swag_jax._files import check_target
from swag_jax.cli._display import Display, clock, steps_line
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import add_init, add_keep_colors, add_settings, chosen_init, chosen_settings
from swag_jax.cli._outputs import check_outputs, kept_alpha, write_report, write_result
from swag_jax.images import read_image
from swag_jax.images.io import OUTPUT_FORMATS, check_output
from swag_jax.optimize import Progress, Result, StylizeSettings, stylize


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "stylize",
        help="one image by optimization",
        usage="swag-jax stylize CONTENT STYLE [STYLE ...] -o OUT [flags]",
        description="Paint the CONTENT image in the manner of one or more STYLE images. Ctrl-C and "
        "SIGTERM stop early and keep the image so far, with exit codes 130 and 143.",
    )
    parser.add_argument("content", type=Path, metavar="CONTENT", help="The image to repaint")
    parser.add_argument("styles", type=Path, nargs="+", metavar="STYLE", help="A painting; several are mixed")
    suffixes = ", ".join(OUTPUT_FORMATS)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=f"The result: {suffixes}")
    add_keep_colors(parser)
    add_init(parser)
    parser.add_argument(
        "--every", type=int, metavar="N", help="Also write the image after every N steps, as OUT-00N (default: no)"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.json", help="Write settings, weights, losses, seconds and versions here"
    )
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    add_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Check everything first, then work, then write."""
    settings, init = chosen_init(arguments.init, chosen_settings(arguments))
    _check_outputs(arguments, settings, init)
    content = read_image(arguments.content)
    styles = [read_image(path) for path in arguments.styles]
    start = None if init is None else read_image(init)
    display = Display(arguments.output.name, quiet=arguments.quiet, opening=describe_weights(settings))
    writer = _Writer(arguments, display)
    devices.keep_memory()
    with stoppable(display.say, "without an image") as writer.asked:
        with display:
            result = stylize(content, styles, settings=settings, init=start, callback=writer, every=arguments.every)
        write_result(arguments.output, result.image, writer.alpha)
    if arguments.report is not None:
        write_report(arguments.report, _report(arguments, result))
    display.say(_closing(arguments.output, result))
    return stopped_code(writer.asked)


def describe_weights(settings: StylizeSettings) -> list[str]:
    """Say which weights are used, and how to get better ones."""
    source = params.resolve(settings.backbone, weights=settings.weights)
    advice = source.advice()
    return [f"weights: {source.describe()}", *([f"         {advice}"] if advice else [])]


def _check_outputs(arguments: argparse.Namespace, settings: StylizeSettings, init: Path | None) -> None:
    """Raise unless all that will be written can be, and none of it over a file that is read."""
    output, report, every = arguments.output, arguments.report, arguments.every
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
        [("CONTENT", arguments.content), *(("STYLE", path) for path in arguments.styles), ("--init", init)],
        weights=[settings.weights],
    )


def snapshot(output: Path, step: int) -> Path:
    """Return where `--every` writes the image after a step.

    Args:
        output: The result.
        step: The step.
    """
    return output.with_name(f"{output.stem}-{step:05d}{output.suffix}")


class _Writer:
    """Shows the progress, writes the image so far after every N steps, and stops the run when asked."""

    def __init__(self, arguments: argparse.Namespace, display: Display):
        self.output: Path = arguments.output
        self.every: int | None = arguments.every
        self.display = display
        self.asked: list[int] = []
        self.alpha = kept_alpha(arguments.output, arguments.content)

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


def _report(arguments: argparse.Namespace, result: Result) -> dict[str, Any]:
    """Return what is needed to understand and repeat a run."""
    return {
        "content": str(arguments.content),
        "styles": [str(path) for path in arguments.styles],
        "init": arguments.init or result.settings.init,
        "output": str(arguments.output),
        "status": result.status,
        "settings": asdict(result.settings),
        "layers": list(result.settings.full_objective.layers),
        "weights": {**asdict(result.source), "description": result.source.describe(), "advice": result.source.advice()},
        "scales": [{"height": h, "width": w, "steps": n} for (h, w), n in zip(result.sizes, result.steps, strict=True)],
        "losses": {name: [float(v) for v in values] for name, values in result.history.items()},
        "seconds": result.seconds,
    }
