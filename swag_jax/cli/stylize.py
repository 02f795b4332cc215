"""`swag-jax stylize`: one picture by optimization."""

import argparse
import contextlib
import datetime
import json
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import jax

from swag_jax import _versions, params
from swag_jax._checks import error
from swag_jax._files import replacing
from swag_jax.cli._display import Display, clock
from swag_jax.cli._flags import add_settings, chosen_settings
from swag_jax.images import check_output, read_alpha, read_image, resize, write_image
from swag_jax.optimize import Progress, Result, Settings, stylize
from swag_jax.optimize.settings import COLORS, INITS


def add_parser(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "stylize",
        help="one picture by optimization",
        description="Paint the CONTENT picture in the manner of one or more STYLE pictures.",
    )
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the picture to repaint")
    parser.add_argument("styles", type=Path, nargs="+", metavar="STYLE", help="a painting; several are mixed")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="png, jpg, webp or tiff")
    parser.add_argument(
        "--keep-colors",
        nargs="?",
        const="luminance",
        choices=COLORS,
        dest="setting_colors",
        help="keep the content's colors: by luminance (default) or by match, recoloring the style first",
    )
    parser.add_argument(
        "--init", metavar="INIT", help=f"where to start: {', '.join(INITS)}, or a picture's path (default: content)"
    )
    parser.add_argument("--every", type=int, metavar="N", help="also write the picture after every N steps")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="settings, weights, losses, seconds, versions")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_settings(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check everything first, then work, then write."""
    settings, init = _settings(arguments)
    check_output(arguments.output)
    if arguments.report is not None:
        _check_report(arguments.report)
    if arguments.every is not None and arguments.every < 1:
        raise error("--every must be at least 1", got=arguments.every)
    content = read_image(arguments.content)
    styles = [read_image(path) for path in arguments.styles]
    start = None if init is None else read_image(init)
    with _stoppable() as interrupted:
        snapshots = _Snapshots(arguments, interrupted)
        with Display(arguments.output.name, quiet=arguments.quiet, also=snapshots) as display:
            announce(display, settings)
            result = stylize(content, styles, settings=settings, init=start, callback=display, every=arguments.every)
        _write(arguments, result, display)
    return 0


def announce(display: Display, settings: Settings) -> None:
    """Say which weights are used, and how to get better ones."""
    source = params.resolve(settings.backbone, settings.weights)
    display.say(f"weights: {source.describe()}")
    if advice := source.advice():
        display.say(f"         {advice}")


def _settings(arguments: argparse.Namespace) -> tuple[Settings, Path | None]:
    """Return the settings and the path of the starting picture, if one was given."""
    settings = chosen_settings(arguments)
    if arguments.init is None or arguments.init in INITS:
        return settings.replace(**({"init": arguments.init} if arguments.init else {})), None
    return settings, Path(arguments.init)


class _Snapshots:
    """Writes the picture so far after every N steps, and stops the run after Ctrl-C."""

    def __init__(self, arguments: argparse.Namespace, interrupted: list[bool]):
        self.output: Path = arguments.output
        self.every: int | None = arguments.every
        self.interrupted = interrupted

    def __call__(self, progress: Progress) -> bool:
        if self.every and progress.step % self.every == 0 and progress.step < progress.steps:
            name = f"{self.output.stem}-{progress.step:05d}{self.output.suffix}"
            write_image(self.output.with_name(name), progress.picture())
        return bool(self.interrupted)


@contextlib.contextmanager
def _stoppable() -> Iterator[list[bool]]:
    """Turn the first Ctrl-C into a request to stop and keep the picture so far; the second one ends the program."""
    asked: list[bool] = []

    def ask(_signal, _frame) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _write(arguments: argparse.Namespace, result: Result, display: Display) -> None:
    write_image(arguments.output, result.image, alpha=_alpha(arguments, result))
    if arguments.report is not None:
        write_report(arguments.report, arguments, result)
    seconds = sum(result.seconds.values())
    stopped = f", stopped at step {len(result.history['total'])}" if result.status == "stopped" else ""
    display.say(f"wrote {arguments.output} in {clock(seconds)}{stopped}")


def _alpha(arguments: argparse.Namespace, result: Result):
    """Return the content's transparency at the result's size, where the output can hold it."""
    alpha = read_alpha(arguments.content)
    if alpha is None or arguments.output.suffix.lower() in (".jpg", ".jpeg"):
        return None
    return resize(alpha, *result.image.shape[:2])


def _check_report(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise error("--report must name a file in an existing folder", got=path)


def write_report(path: Path, arguments: argparse.Namespace, result: Result) -> None:
    """Write everything needed to understand and repeat a run, as JSON."""
    device = jax.devices()[0]
    report = {
        "content": str(arguments.content),
        "styles": [str(path) for path in arguments.styles],
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
