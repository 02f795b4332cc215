"""`swag-jax train`: a generator, on every device and in several processes; resumable."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from swag_jax import devices, params
from swag_jax._checks import one_line
from swag_jax.cli._display import Display, steps_line, weights_lines
from swag_jax.cli._exit import ExitCode, stoppable, stopped_code
from swag_jax.cli._flags import Changes, Group, Quiet, changed, changes, description_of, flag
from swag_jax.cli._images import left_out_of
from swag_jax.cli._settings import ProcessFlags
from swag_jax.generators import METHODS, Recipe
from swag_jax.train import Cadence, NonFiniteStepError, TrainProgress, recipe, train_generator


@dataclass(frozen=True, kw_only=True)
class Train(ProcessFlags, Quiet):
    """Train a generator on every device.

    Ctrl-C and SIGTERM stop after a checkpoint; the same command resumes from the last one. Exit code 1 says that a
    loss was not finite, 130 and 143 that it was stopped.
    """

    contents: Path = flag("A folder of content images", metavar="DIR")
    styles: Path = flag("A folder of style images; for johnson, the one style image", metavar="DIR")
    output: Path = flag("The run's folder", short="-o", metavar="RUN")
    recipe: str = flag()
    tensorboard: bool = flag("Write TensorBoard's events too", False)
    cadence: Changes = changes(Cadence())
    settings: Changes

    def run(self) -> ExitCode:
        """Train; the same command resumes."""
        self.join()
        settings = recipe(self.recipe)
        # Another encoder has other layers; layers that were given replace them.
        if (encoder := self.settings.get("encoder", settings.encoder)) != settings.encoder:
            settings = settings.for_encoder(encoder)
        settings, cadence = changed(settings, self.settings), changed(Cadence(), self.cadence)
        source = params.resolve(settings.encoder, weights=settings.weights)
        opening = weights_lines(f"encoder: {settings.encoder}, ", source)
        opening += left_out_of(self.contents, self.styles, deep=True)
        quiet = self.quiet or devices.process_index() > 0
        display = Display(self.output.name, quiet=quiet, opening=opening)

        def callback(progress: TrainProgress) -> None:
            # Not before the first step: the compiler's memory is free by then.
            devices.keep_memory()
            for problem in progress.damaged:
                display.say(f"left out: {problem}")
            display.show(steps_line(progress), progress.step, progress.steps)

        with stoppable(display.say, "without a checkpoint") as asked, display:
            try:
                result = train_generator(
                    settings,
                    self.contents,
                    self.styles,
                    self.output,
                    cadence=cadence,
                    tensorboard=self.tensorboard,
                    callback=callback,
                    interrupted=lambda: bool(asked),
                    notice=_complain if self.quiet else display.say,  # repaired damage is told in any case
                )
            except NonFiniteStepError as problem:
                _complain(problem)
                return ExitCode.DIVERGED
        if result.status == "stopped":
            display.say(f"stopped at step {result.step} of {settings.steps}; the same command resumes")
            return stopped_code(asked or [signal.SIGINT])  # if only another process was asked
        display.say(f"wrote {result.path}: {settings.kind} after {result.step} steps")
        return stopped_code(asked)


def _complain(text: object) -> None:
    print(f"swag-jax: {one_line(text)}", file=sys.stderr)


def _command(kind: str) -> type[Train]:
    """Return the command of a kind of generator, whose flags are those of its recipe."""
    recipes, start = METHODS[kind].recipes, recipe(kind)

    @dataclass(frozen=True, kw_only=True)
    class TrainKind(Train):
        usage: ClassVar[str] = f"swag-jax train {kind} --contents DIR --styles DIR -o RUN [flags]"
        epilog: ClassVar[str] = "Recipes. " + " ".join(_describe(kind, name, found) for name, found in recipes.items())

        recipe: str = flag("Where to start", kind, metavar="NAME", names=tuple(recipes))
        settings: Changes = changes(start)

    TrainKind.__doc__ = f"{recipes[kind].source.partition(':')[0]}.\n\n{description_of(Train)}"
    return TrainKind


def _describe(kind: str, name: str, found: Recipe) -> str:
    given = "" if name == kind else f" --recipe {name}"
    images = f"--contents {found.contents} --styles {found.styles}"
    command = f"swag-jax train {kind} {images} -o RUN{given} --weights {found.weights}"
    return f"{name}: {found.source}. Hardware and time: {found.hardware}. As published: {command}."


TRAIN = Group("A generator of stylized images", {kind: _command(kind) for kind in METHODS}, metavar="GENERATOR")
