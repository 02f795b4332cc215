"""`swag-jax stylize`: one image by optimization."""

import argparse
import contextlib
import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from swag_jax import _signals, _versions, devices, params
from swag_jax._checks import error
from swag_jax._files import check_target, replacing
from swag_jax._types import HostAlpha, HostImage
from swag_jax.cli._display import Display, clock
from swag_jax.cli._flags import add_init, add_keep_colors, add_settings, chosen_init, chosen_settings
from swag_jax.cli._outputs import check_outputs
from swag_jax.images import read_alpha, read_image, resize, write_image
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


def run(arguments: argparse.Namespace) -> int:
    """Check everything first, then work, then write."""
    settings, init = chosen_init(arguments.init, chosen_settings(arguments))
    _check_outputs(arguments, settings, init)
    content = read_image(arguments.content)
    styles = [read_image(path) for path in arguments.styles]
    start = None if init is None else read_image(init)
    writer = _Writer(arguments)
    display = Display(arguments.output.name, quiet=arguments.quiet, opening=describe_weights(settings), also=writer)
    devices.keep_memory()
    with stoppable(display.say, "without an image") as writer.asked:
        with display:
            result = stylize(content, styles, settings=settings, init=start, callback=display, every=arguments.every)
        writer.write(arguments.output, result.image)
    if arguments.report is not None:
        write_report(arguments.report, arguments, result)
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
    """Writes the image so far after every N steps with the content's transparency, and stops the run when asked."""

    def __init__(self, arguments: argparse.Namespace):
        self.output: Path = arguments.output
        self.every: int | None = arguments.every
        self.asked: list[int] = []
        opaque = OUTPUT_FORMATS[self.output.suffix.lower()] == "JPEG"
        self.alpha: HostAlpha | None = None if opaque else read_alpha(arguments.content)

    def __call__(self, progress: Progress) -> bool:
        if self.every and progress.step % self.every == 0 and progress.step < progress.steps:
            self.write(snapshot(self.output, progress.step), progress.image())
        return bool(self.asked)

    def write(self, path: Path, image: HostImage) -> None:
        alpha = None if self.alpha is None else resize(self.alpha, *image.shape[:2])
        write_image(path, image, alpha=alpha)


def stoppable(say: Callable[[str], None], otherwise: str) -> contextlib.AbstractContextManager[list[Any]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop and keep what there is; the second ends the program.

    Args:
        say: Tells the user.
        otherwise: How a second Ctrl-C ends.

    Returns:
        A context with a list that is empty until a stop is asked for.
    """
    return _signals.asked_first(lambda: say(f"stopping after these steps; Ctrl-C again to quit {otherwise}"))


def stopped_code(asked: Sequence[Any]) -> int:
    """Return the exit code of a command that has kept what there was: 0 where no stop was asked for."""
    return _signals.EXIT_CODES[asked[0]] if asked else 0


def _closing(output: Path, result: Result) -> str:
    line = f"wrote {output} in {clock(sum(result.seconds.values()))}"
    if result.status != "stopped":
        return line
    height, width = result.image.shape[:2]
    return f"{line}, stopped at step {sum(result.steps)} of {result.settings.steps} ({width}x{height})"


def write_report(path: Path, arguments: argparse.Namespace, result: Result) -> None:
    """Write everything needed to understand and repeat a run, as JSON."""
    device = jax.devices()[0]
    report = {
        "content": str(arguments.content),
        "styles": [str(path) for path in arguments.styles],
        "init": arguments.init or result.settings.init,
        "output": str(arguments.output),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "status": result.status,
        "settings": asdict(result.settings),
        "layers": list(result.settings.full_objective.layers),
        "weights": {**asdict(result.source), "description": result.source.describe(), "advice": result.source.advice()},
        "scales": [{"height": h, "width": w, "steps": n} for (h, w), n in zip(result.sizes, result.steps, strict=True)],
        "losses": {name: [float(v) for v in values] for name, values in result.history.items()},
        "seconds": result.seconds,
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "versions": _versions.installed(),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, default=str) + "\n")
