"""`swag-jax train`: a generator, on every device and in several processes; resumable."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from swag_jax import devices, params
from swag_jax._checks import one_line
from swag_jax.cli._display import Display, steps_line
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import Changes, Group, Quiet, changed, changes, description_of, flag
from swag_jax.cli._pairs import left_out_of
from swag_jax.cli._settings import ProcessFlags
from swag_jax.generators import METHODS, Recipe
from swag_jax.train import Cadence, NonFiniteStepError, TrainProgress, recipe, train_generator


@dataclass(frozen=True, kw_only=True)
class Train(ProcessFlags, Quiet):
    """Train a generator on every device.

    Ctrl-C and SIGTERM stop after a checkpoint; the same command resumes from the last one. Exit code 1 says that a
    loss was not finite, 130 and 143 that it was stopped.

    Attributes:
        contents: A folder of content images.
        styles: A folder of style images; for johnson, the one style image.
        output: The run's folder.
        recipe: Where to start.
        tensorboard: Write TensorBoard's events too.
    """

    contents: Path = flag(metavar="DIR")
    styles: Path = flag(metavar="DIR")
    output: Path = flag(short="-o", metavar="RUN")
    recipe: str
    tensorboard: bool = False
    cadence: Changes = changes(Cadence())
    settings: Changes

    def run(self) -> ExitCode:
        """Train; the same command resumes."""
        devices.initialize(coordinator=self.coordinator, processes=self.processes, process=self.process)
        settings = recipe(self.recipe)
        if (encoder := self.settings.get("encoder", settings.encoder)) != settings.encoder:
            settings = settings.for_encoder(encoder)
        settings, cadence = changed(settings, self.settings), changed(Cadence(), self.cadence)
        source = params.resolve(settings.encoder, weights=settings.weights)
        quiet = self.quiet or devices.process_index() > 0
        advice = source.advice()
        display = Display(
            self.output.name,
            quiet=quiet,
            opening=[
                f"encoder: {settings.encoder}, {source.describe()}",
                *([f"         {advice}"] if advice else []),
                *left_out_of(self.contents, self.styles, deep=True),
            ],
        )
        with stoppable(display.say, "without a checkpoint") as asked, display:
            try:
                result = train_generator(
                    settings,
                    self.contents,
                    self.styles,
                    self.output,
                    cadence=cadence,
                    tensorboard=self.tensorboard,
                    callback=_callback(display),
                    interrupted=lambda: bool(asked),
                    notice=_notice(display, quiet=self.quiet),
                )
            except NonFiniteStepError as problem:
                print(f"swag-jax: {one_line(problem)}", file=sys.stderr)
                return ExitCode.DIVERGED
        if result.status == "stopped":
            display.say(f"stopped at step {result.step} of {settings.steps}; the same command resumes")
            return stopped_code(asked or [signal.SIGINT])  # if only another process was asked
        display.say(f"wrote {result.path}: {settings.kind} after {result.step} steps")
        return stopped_code(asked)


def _command(kind: str) -> type[Train]:
    """Return the command of a kind of generator, whose flags are those of its recipe."""
    recipes, start = METHODS[kind].recipes, recipe(kind)

    @dataclass(frozen=True, kw_only=True)
    class TrainKind(Train):
        usage: ClassVar[str] = f"swag-jax train {kind} --contents DIR --styles DIR -o RUN [flags]"
        epilog: ClassVar[str] = "Recipes. " + " ".join(_describe(kind, name, found) for name, found in recipes.items())

        recipe: str = flag(kind, metavar="NAME", names=tuple(recipes))
        settings: Changes = changes(start)

    TrainKind.__doc__ = f"{recipes[kind].source.partition(':')[0]}.\n\n{description_of(Train)}"
    return TrainKind


def _describe(kind: str, name: str, found: Recipe) -> str:
    given = "" if name == kind else f" --recipe {name}"
    images = f"--contents {found.contents} --styles {found.styles}"
    command = f"swag-jax train {kind} {images} -o RUN{given} --weights {found.weights}"
    return f"{name}: {found.source}. Hardware and time: {found.hardware}. As published: {command}."


TRAIN = Group("A generator of stylized images", {kind: _command(kind) for kind in METHODS}, metavar="GENERATOR")


def _callback(display: Display) -> Callable[[TrainProgress], None]:
    """Return what shows the progress, and keeps memory from then on: the compiler's is free by then."""

    def show(progress: TrainProgress) -> None:
        devices.keep_memory()
        for problem in progress.damaged:
            display.say(f"left out: {problem}")
        display.show(steps_line(progress), progress.step, progress.steps)

    return show


def _notice(display: Display, *, quiet: bool) -> Callable[[str], None]:
    """Return what tells of repaired damage, also if nothing but errors is printed."""
    return (lambda line: print(f"swag-jax: {one_line(line)}", file=sys.stderr)) if quiet else display.say
