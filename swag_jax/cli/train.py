"""`swag-jax train`: a generator, on every device and in several processes; the same command goes on."""

import argparse
import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swag_jax import devices, params
from swag_jax._checks import one_line
from swag_jax.cli._display import Display, steps_line
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import add_attributes, chosen_attributes, with_flags
from swag_jax.cli._pairs import left_out_of
from swag_jax.generators import METHODS, Recipe
from swag_jax.train import Cadence, NonFiniteStepError, TrainProgress, recipe, train_generator


def add_parser(commands: Any) -> None:
    """Register the command, with a command of its own for every kind of generator."""
    parser = commands.add_parser("train", help="a generator of stylized images")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="GENERATOR")
    for kind in METHODS:
        _add_kind(kinds, kind)


def _add_kind(kinds: Any, kind: str) -> None:
    method, recipes = METHODS[kind], METHODS[kind].recipes
    parser = kinds.add_parser(
        kind,
        help=recipes[kind].source.partition(":")[0],
        usage=f"swag-jax train {kind} --contents DIR --styles DIR -o RUN [flags]",
        description=f"Train a generator ({kind}) on every device. Ctrl-C and SIGTERM stop behind a checkpoint; the "
        "same command goes on from the last one. Exit code 1 says that a loss was not finite, 130 and 143 that it was "
        "stopped.",
        epilog="Recipes. " + " ".join(_describe(kind, name, found) for name, found in recipes.items()),
    )
    styles = "A folder of style images" if method.network.reads_styles else "The one style image"
    parser.add_argument("--contents", type=Path, required=True, metavar="DIR", help="A folder of content images")
    parser.add_argument("--styles", type=Path, required=True, metavar="DIR", help=styles)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="The run's folder")
    parser.add_argument(
        "--recipe",
        choices=list(recipes),
        default=kind,
        metavar="NAME",
        help=f"Where to start: {', '.join(recipes)} (default: {kind})",
    )
    add_attributes(parser, Cadence(), title="run", prefix="cadence")
    parser.add_argument("--tensorboard", action="store_true", help="Write TensorBoard's events too")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="Address of process 0, where there are several")
    parser.add_argument("--processes", type=int, metavar="N", help="How many processes there are")
    parser.add_argument("--process", type=int, metavar="I", help="The number of this one, from 0")
    parser.add_argument("--quiet", action="store_true", help="Print nothing but errors")
    start = recipe(kind)
    add_attributes(parser, start, title="settings")
    add_attributes(parser, start.objective, title="losses")
    add_attributes(parser, start.config, title="generator")
    add_attributes(parser, start.objective.smoothing, title="smoothing")
    parser.set_defaults(run=run)


def _describe(kind: str, name: str, found: Recipe) -> str:
    given = "" if name == kind else f" --recipe {name}"
    images = f"--contents {found.contents} --styles {found.styles}"
    command = f"swag-jax train {kind} {images} -o RUN{given} --weights {found.weights}"
    return f"{name}: {found.source}. Hardware and time: {found.hardware}. As published: {command}."


def _callback(display: Display) -> Callable[[TrainProgress], None]:
    """Return what shows the progress, and keeps memory from then on: the compiler's is free by then."""

    def show(progress: TrainProgress) -> None:
        devices.keep_memory()
        for problem in progress.damaged:
            display.say(f"left out: {problem}")
        display.show(steps_line(progress), progress.step, progress.steps)

    return show


def _notice(display: Display, *, quiet: bool) -> Callable[[str], None]:
    """Return what tells of damage that was made good: also where nothing but errors is printed."""
    return (lambda line: print(f"swag-jax: {one_line(line)}", file=sys.stderr)) if quiet else display.say


def run(arguments: argparse.Namespace) -> ExitCode:
    """Train; leave a folder such that the same command goes on."""
    devices.initialize(coordinator=arguments.coordinator, processes=arguments.processes, process=arguments.process)
    settings, given = recipe(arguments.recipe), chosen_attributes(arguments)
    if given.get("encoder", settings.encoder) != settings.encoder:
        settings = settings.for_encoder(given["encoder"])
    settings = with_flags(settings, given)
    cadence = dataclasses.replace(Cadence(), **chosen_attributes(arguments, prefix="cadence"))
    source = params.resolve(settings.encoder, weights=settings.weights)
    quiet = arguments.quiet or devices.process_index() > 0
    advice = source.advice()
    display = Display(
        arguments.output.name,
        quiet=quiet,
        opening=[
            f"encoder: {settings.encoder}, {source.describe()}",
            *([f"         {advice}"] if advice else []),
            *left_out_of(arguments.contents, arguments.styles, deep=True),
        ],
    )
    with stoppable(display.say, "without a checkpoint") as asked, display:
        try:
            result = train_generator(
                settings,
                arguments.contents,
                arguments.styles,
                arguments.output,
                cadence=cadence,
                tensorboard=arguments.tensorboard,
                callback=_callback(display),
                interrupted=lambda: bool(asked),
                notice=_notice(display, quiet=arguments.quiet),
            )
        except NonFiniteStepError as problem:
            print(f"swag-jax: {one_line(problem)}", file=sys.stderr)
            return ExitCode.DIVERGED
    if result.status == "stopped":
        display.say(f"stopped at step {result.step} of {settings.steps}; the same command resumes")
        return stopped_code(asked or [signal.SIGINT])  # where only another process was asked
    display.say(f"wrote {result.path}: {settings.kind} after {result.step} steps")
    return stopped_code(asked)
