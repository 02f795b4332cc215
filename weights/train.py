"""Train a network of swag_jax as a classifier, on every device, and go on where an interrupted run stopped.

python weights/train.py resnet50 --data tiny-imagenet-200 -o runs/resnet50

The run's folder holds `recipe.json`, `log.jsonl` (one line per report and per validation) and `checkpoints/`. The same
command goes on from the last checkpoint and ends with the parameters of an unbroken run; interrupting it (Ctrl-C,
SIGTERM) writes one first. `weights/export.py` turns a run into the file that style transfer reads.
"""

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pictures
from recipe import CLASSES, Recipe, State, chosen_pictures, initial_state, make_classify, make_step

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._files import replacing
from swag_jax.backbones import Precision

RECIPES = {
    # What made the embedded weights: both networks at once on two CPU cores, in about an hour and a half.
    ("vgg19", "cpu"): Recipe(
        "vgg19",
        epochs=1.6,
        batch=64,
        learning_rate=0.04,
        sizes=((0.7, 32), (0.9, 40), (1.0, 48)),
        initial="embedded",
        validation_size=48,
    ),
    ("resnet50", "cpu"): Recipe("resnet50", epochs=1.86, batch=64, learning_rate=0.06, sizes=((0.7, 48), (1.0, 64))),
    # For one accelerator and half an hour; not run yet.
    ("vgg19", "gpu"): Recipe("vgg19", epochs=60, batch=256, learning_rate=0.1, smallest_crop=0.25, jitter=0.3),
    ("resnet50", "gpu"): Recipe(
        "resnet50",
        epochs=60,
        batch=256,
        learning_rate=0.15,
        sizes=((0.5, 96), (1.0, 128)),
        smallest_crop=0.25,
        jitter=0.3,
        validation_size=128,
    ),
}
"""By network and hardware."""

VALIDATION_BATCH = 200


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


@dataclasses.dataclass
class Run:
    """One training run in its folder.

    Attributes:
        recipe: What is trained, and how.
        folder: Where everything goes.
        train: The training pictures, in host memory.
        validation: The validation pictures.
        keep: Steps between checkpoints.
        report: Steps between lines.
        validate: Steps between validations.
        validated: Pictures of a validation on the way; the last one takes all.
        say: Where lines go.
    """

    recipe: Recipe
    folder: Path
    train: pictures.Pictures
    validation: pictures.Pictures
    keep: int = 500
    report: int = 50
    validate: int = 500
    validated: int = 1000
    say: Callable[[str], None] = print

    def __post_init__(self):
        self.steps = self.recipe.steps(len(self.train.labels))
        self.stopped = False
        # Labels are places among the classes, so both splits must have the same ones.
        if self.train.classes != self.validation.classes or len(self.train.classes) > CLASSES:
            raise error(
                f"train/ and val/ must hold the same classes, at most {CLASSES}",
                got=f"{len(self.train.classes)} and {len(self.validation.classes)}, "
                f"{len(set(self.train.classes) ^ set(self.validation.classes))} of them in one only",
            )
        if not self.steps:
            count = len(self.train.labels)
            raise error(
                "a run must have at least one step",
                got=f"{self.recipe.epochs} epochs of {count} pictures in batches of {self.recipe.batch}",
            )

    def go(self) -> dict[str, float]:
        """Train to the end, or until interrupted; return the last validation.

        Raises:
            UserError: If the folder holds a run of another recipe, or the loss is not finite.
        """
        self._check_recipe()
        with ocp.CheckpointManager(
            (self.folder / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
        ) as manager:
            state = self._restored(manager)
            return self._train(state, manager)

    def _check_recipe(self) -> None:
        file = self.folder / "recipe.json"
        recipe = json.loads(json.dumps(dataclasses.asdict(self.recipe)))
        if file.exists() and (found := json.loads(file.read_text())) != recipe:
            different = {key: (found.get(key), value) for key, value in recipe.items() if found.get(key) != value}
            raise error(
                f"{self.folder} must hold a run of this recipe",
                got=f"one that differs: {different} (there, here)",
                cure="choose another folder with -o, or the options it began with",
            )
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(recipe, indent=1) + "\n")

    def _restored(self, manager: ocp.CheckpointManager) -> State:
        step = manager.latest_step()
        some = np.random.default_rng(self.recipe.seed).permutation(len(self.train.labels))[:256]
        first = initial_state(self.recipe, self.steps, self.train.pixels[np.sort(some)])
        if step is None:
            return first
        self.say(f"going on from step {step}")
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, first)
        return dict(manager.restore(step, args=ocp.args.StandardRestore(shapes)))

    def _train(self, state: State, manager: ocp.CheckpointManager) -> dict[str, float]:
        pixels, labels = jnp.asarray(self.train.pixels), jnp.asarray(self.train.labels)
        reports: list[dict[str, jax.Array]] = []
        began, first = time.monotonic(), int(state["step"])
        step, last = first, {}
        stops = step == self.steps
        while not stops:
            size = self.recipe.size(step, self.steps)
            chosen = chosen_pictures(self.recipe, step, len(labels))
            advance = make_step(self.recipe, steps=self.steps, size=size)
            state, report = advance(state, pixels, labels, devices.shares(chosen))
            reports.append(report)
            step += 1
            stops = self.stopped or step == self.steps  # asked once: a signal may come at any time
            keeps = stops or step % self.keep == 0
            if keeps or step % self.report == 0:
                self._report(step, size, reports, (step - first) / (time.monotonic() - began))
                reports = []
            if keeps:
                manager.save(step, args=ocp.args.StandardSave(state), force=True)
                manager.wait_until_finished()  # the next step takes the state's memory
            if step % self.validate == 0 or step == self.steps:
                last = self._validate(step, state, None if step == self.steps else self.validated)
        if step < self.steps:
            self.say(f"interrupted at step {step}; the same command goes on")
        return last

    def _report(self, step: int, size: int, reports: list[dict[str, jax.Array]], rate: float) -> None:
        means = {name: float(np.mean([report[name] for report in reports])) for name in reports[0]}
        # A finite loss may have a gradient that is not, and parameters that must not be kept.
        if not np.isfinite([means["loss"], means["change"]]).all():
            raise NonFiniteLossError(
                f"loss and update must stay finite; one was not between steps {step - len(reports)} and {step}. "
                f"Lower --learning-rate; the last good checkpoint is in {self.folder}"
            )
        left = (self.steps - step) / rate / 60
        self.say(
            f"step {step}/{self.steps}  {size} px  loss {means['loss']:.3f}  accuracy {means['accuracy']:.3f}  "
            f"{rate * self.recipe.batch:.0f} pictures/s  {left:.0f} min left"
        )
        self._log({"step": step, "size": size, **means, "pictures_per_second": rate * self.recipe.batch})

    def _validate(self, step: int, state: State, count: int | None) -> dict[str, float]:
        count = min(count or len(self.validation.labels), len(self.validation.labels))
        accuracy = top1(self.recipe, state["averages"], self.validation, count=count)
        found = {"step": step, "validated": count, "size": self.recipe.validation_size, "top1": accuracy}
        self.say(f"  top-1 {accuracy:.2%} of {count} validation pictures, averaged parameters")
        self._log(found)
        return found

    def _log(self, entry: dict[str, float]) -> None:
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")


def top1(
    recipe: Recipe, trained: State, validation: pictures.Pictures, *, count: int, size: int | None = None
) -> float:
    """Return the share of validation pictures whose class is the likeliest.

    Args:
        recipe: The network's recipe.
        trained: Its parameters and statistics.
        validation: The pictures.
        count: How many of them are taken, evenly spread.
        size: Side in pixels they are scaled to; default: the recipe's.
    """
    classify = make_classify(recipe, size=size or recipe.validation_size)
    places = np.linspace(0, len(validation.labels) - 1, count).astype(int)
    right = 0
    for i in range(0, count, VALIDATION_BATCH):
        batch = places[i : i + VALIDATION_BATCH]
        right += int((np.asarray(classify(trained, validation.pixels[batch])) == validation.labels[batch]).sum())
    return right / count


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("network", choices=sorted({network for network, _ in RECIPES}))
    made.add_argument("--data", type=Path, required=True, help="image folder, Tiny-ImageNet-200, or packed shards")
    made.add_argument("-o", "--output", type=Path, required=True, help="the run's folder")
    made.add_argument("--recipe", choices=("cpu", "gpu"), default="cpu", help="where the options below come from")
    for field in dataclasses.fields(Recipe):
        if field.name not in ("network", "sizes", "precision"):
            made.add_argument(f"--{field.name.replace('_', '-')}", default=argparse.SUPPRESS, type=field.type)  # pyright: ignore
    made.add_argument("--precision", default=argparse.SUPPRESS, choices=get_args(Precision))
    made.add_argument("--keep", type=int, default=500, help="steps between checkpoints")
    made.add_argument("--report", type=int, default=50, help="steps between lines")
    made.add_argument("--validate", type=int, default=500, help="steps between validations")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Train; return the exit code."""
    given = vars(parser().parse_args(arguments))
    network, data, folder, hardware = (given.pop(name) for name in ("network", "data", "output", "recipe"))
    cadence = {name: given.pop(name) for name in ("keep", "report", "validate")}
    try:
        recipe = dataclasses.replace(RECIPES[network, hardware], **given)
        train, validation = (pictures.read(data, split) for split in ("train", "val"))
        for file in (*train.damaged, *validation.damaged):
            print(f"damaged, left out: {file}", file=sys.stderr)
        run = Run(recipe, folder, train, validation, **cadence, say=lambda line: print(line, flush=True))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(run, "stopped", True))
        finished = bool(run.go()) or not run.stopped
    except NonFiniteLossError as problem:
        print(problem, file=sys.stderr)
        return 1
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0 if finished else 130


if __name__ == "__main__":
    sys.exit(main())
