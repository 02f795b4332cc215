"""The training of a generator in a folder, where an interrupted run is resumed."""

import contextlib
import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from swag_jax import _versions, devices, generators
from swag_jax._checks import UserError, check_range, error
from swag_jax._files import check_apart, make_folder, tells_of_no_room
from swag_jax.generators import Generator
from swag_jax.generators.checkpoint import GENERATOR_FILE, encoder_notes, find_generator
from swag_jax.generators.registry import with_parameters
from swag_jax.images import read_image, write_image
from swag_jax.params import Source
from swag_jax.params.checkpoint_file import tensors_sha256
from swag_jax.train.data import Feed, SkippedFiles, batches, find_images
from swag_jax.train.journal import Journal, find_event_writer
from swag_jax.train.record import FILE, check_settings, fingerprint, write_settings
from swag_jax.train.settings import DRAWN, TrainSettings
from swag_jax.train.sheets import Samples
from swag_jax.train.state import State, initial_state, load_encoder
from swag_jax.train.step import Report, make_step

if TYPE_CHECKING:
    from swag_jax.train.checkpoint import Checkpoints

SAMPLES = "samples"
"""The folder of sample sheets in a run's folder."""


@dataclass(frozen=True)
class Cadence:
    """How often a run does what does not change its result.

    Attributes:
        log: Steps between lines of losses.
        save: Steps between checkpoints.
        keep: Checkpoints that are kept, the last ones.
        sheet: Steps between sample sheets; 0 for none.
        shown: Contents, and styles, of a sample sheet.
    """

    log: int = 50
    save: int = 1000
    keep: int = 3
    sheet: int = 1000
    shown: int = 4

    def __post_init__(self):
        for name in ("log", "save", "keep", "shown"):
            check_range(getattr(self, name), what=name, low=1)
        check_range(self.sheet, what="sheet", low=0)


@dataclass(frozen=True)
class TrainProgress:
    """How far a training is.

    Attributes:
        step: Steps done, of `steps` in all.
        losses: Means of the total and every weighted term since the last progress.
        rate: Steps per second since then.
        waiting: Share of the time since then that was spent waiting for images.
        damaged: Images newly found to be unreadable: one message each.
    """

    step: int
    steps: int
    losses: dict[str, float]
    rate: float
    waiting: float
    seconds_left: float
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class TrainResult:
    """A trained generator.

    Attributes:
        path: The checkpoint that holds it.
        source: Where its encoder's weights came from.
        step: Steps done.
        status: `done`, or `stopped` if it was interrupted.
    """

    generator: Generator
    path: Path
    source: Source
    step: int
    status: str


class NonFiniteStepError(UserError):
    """A loss or an update was not finite; no checkpoint is written after it.

    Attributes:
        step: The step, counted from 1.
        term: The term that failed, or `update`.
    """

    def __init__(self, *, step: int, term: str, value: float, kept: int | None):
        self.step, self.term = step, term
        last = "there is no checkpoint yet" if kept is None else f"the checkpoint of step {kept} is kept"
        super().__init__(
            f"losses and updates must be finite, got {value} for {term} at step {step}; {last}: "
            "lower the learning rate, or use --precision float32, in another folder."
        )


@devices.drives_devices
def train_generator(
    settings: TrainSettings,
    contents: Path,
    styles: Path,
    folder: Path,
    *,
    cadence: Cadence | None = None,
    tensorboard: bool = False,
    callback: Callable[[TrainProgress], object] | None = None,
    interrupted: Callable[[], bool] | None = None,
    notice: Callable[[str], object] | None = None,
) -> TrainResult:
    """Train a generator on every device; the same call resumes an interrupted run.

    The folder gets `settings.json`, `losses.jsonl`, `checkpoints/`, a `generator-STEP.safetensors` for each of them,
    `samples/`, and `generator.safetensors`, the last one, for `load_generator`.

    Args:
        settings: What is trained, and how.
        contents: A folder of content images.
        styles: A folder of style images; one image if the generator learns one style.
        folder: The run's folder, which is made if it does not exist.
        tensorboard: Whether TensorBoard's events are written too.
        callback: Called with every line of losses.
        interrupted: Asked after every step (by several processes: with every line); a true answer ends the run, after
            a checkpoint.
        notice: Called with a line for all damage in the folder that could be repaired: a checkpoint, for which the
            sound one before it is taken, the settings or the losses; default: a warning.

    Returns:
        The generator, and how the run ended.

    Raises:
        UserError: If a setting, a folder or the weights are bad, or the folder holds another run, or one whose
            checkpoints are all damaged or gone.
        NonFiniteStepError: If a loss or an update is not finite.
    """
    run = _Run(settings, contents, styles, folder, cadence or Cadence(), tensorboard, callback, interrupted, notice)
    try:
        return run.go()
    except Exception as problem:  # Orbax and TensorBoard have their own errors for a full disk
        if isinstance(problem, UserError) or not tells_of_no_room(problem):
            raise
        cure = "make room on the disk; the same command resumes from the last checkpoint"
        raise error(f"cannot write into {folder}: no room on the disk", cure=cure) from problem


class _Run:
    """One run: all that stays the same from step to step. Nothing is written before all of it is checked."""

    def __init__(
        self,
        settings: TrainSettings,
        contents: Path,
        styles: Path,
        folder: Path,
        cadence: Cadence,
        tensorboard: bool,
        callback: Callable[[TrainProgress], object] | None,
        interrupted: Callable[[], bool] | None,
        notice: Callable[[str], object] | None,
    ):
        self.settings, self.folder, self.cadence = settings, folder, cadence
        self.callback, self.interrupted, self.notice = callback, interrupted, notice
        self.contents = find_images(contents, what="contents", besides=folder / SAMPLES)
        self.styles = find_images(styles, what="styles", besides=folder / SAMPLES)
        self._check_files()
        reads_styles = settings.method.network.reads_styles
        if not reads_styles and len(self.styles) > 1:
            got = f"{len(self.styles)} images in {styles}"
            raise error(f"a {settings.kind} generator learns one style", got=got, cure="pass one image as the styles")
        self.damage = SkippedFiles()
        drawn = self.styles if reads_styles else ()
        self.batches = batches(self.contents, drawn, settings=settings, damage=self.damage)
        self.encoder, self.source = load_encoder(settings)
        self.config = settings.fitted_config(self.encoder)
        self.first = initial_state(settings, self.config)
        self.init = settings.init if settings.init in DRAWN else tensors_sha256(self.first["parameters"])
        self.style_targets = None if reads_styles else self._style_targets()
        shown = {"settings": settings, "config": self.config, "shown": cadence.shown, "damage": self.damage}
        self.samples = Samples(self.contents, self.styles, **shown) if cadence.sheet else None
        self.event_writer = find_event_writer() if tensorboard and devices.process_index() == 0 else None

    def _check_files(self) -> None:
        # A run must not write over what it reads, or remove it.
        inputs = [*(("the contents", path) for path in self.contents), *(("the styles", path) for path in self.styles)]
        inputs += [("weights", Path(self.settings.weights))]
        inputs += [] if self.settings.init in DRAWN else [("init", find_generator(self.settings.init, words=DRAWN))]
        own = [self.folder / name for name in (FILE, "losses.jsonl", GENERATOR_FILE)]
        own += [*self.folder.glob("generator-*.safetensors"), *self.folder.glob(f"{SAMPLES}/*")]
        check_apart([(f"the run's {path.name}", path) for path in own], inputs)

    def go(self) -> TrainResult:
        from swag_jax.train.checkpoint import Checkpoints  # Orbax takes a second to import

        facts = self._facts()
        # If the step size does not depend on how many steps there are, more of them continue as if planned.
        free = () if self.settings.drops else ("steps",)
        check_settings(self.folder, facts, free=free, say=self._say)
        with Checkpoints(self.folder / "checkpoints", keep=self.cadence.keep) as checkpoints:
            state = self._restored(checkpoints)
            if devices.process_index() == 0:
                write_settings(self.folder, facts)
            devices.wait_for_all(name="settings are noted")
            with self._journal(int(state["step"])) as journal:
                state = self._train(state, checkpoints, journal)
        step, generator = int(state["step"]), with_parameters(self.config, state["parameters"])
        status = "stopped" if step < self.settings.steps else "done"
        return TrainResult(generator, self.path, self.source, step, status)

    def _restored(self, checkpoints: "Checkpoints") -> State:
        found = checkpoints.restore(self.first, self.batches.get_state())
        if found is None:
            # If its checkpoints are gone, a new start would overwrite what a run has learned. One that is killed while
            # it writes its first checkpoint leaves a generator, and this.
            unfinished = any((self.folder / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
            if self.path.exists() and not unfinished:
                cure = f"choose another -o, perhaps with --init {self.path}, or move that file away"
                raise error(f"{self.folder} must hold the checkpoints of its {self.path.name}", got="none", cure=cure)
            return self.first
        state, place, damage = found
        for line in damage:
            self._say(line)
        self.batches.set_state(place)
        self._export(state, checkpoints)  # a process may be killed between a checkpoint and its export
        return state

    def _say(self, line: str) -> None:
        # Once for all processes.
        if devices.process_index() == 0:
            warnings.warn(line, stacklevel=2) if self.notice is None else self.notice(line)

    @property
    def path(self) -> Path:
        """The checkpoint for use."""
        return self.folder / GENERATOR_FILE

    def _journal(self, step: int) -> contextlib.AbstractContextManager[Journal | None]:
        # The first process writes it for all.
        if devices.process_index() != 0:
            return contextlib.nullcontext()
        journal = Journal(self.folder, step=step, event_writer=self.event_writer)
        if journal.damaged:
            self._say(f"{journal.path} had {journal.damaged} damaged lines, which are left out")
        return contextlib.closing(journal)

    def _train(self, state: State, checkpoints: "Checkpoints", journal: Journal | None) -> State:
        warmup = self.settings.warmup
        first, advance = (make_step(self.settings, self.config, warmup=early) for early in (True, False))
        encoder, state = devices.replicate_global((self.encoder, state))
        feed, watch, reports = Feed(self.batches), _Watch(), list[Report]()
        step, stops, cadence = int(state["step"]), False, self.cadence
        while step < self.settings.steps and not stops:
            state, report = (first if step < warmup else advance)(encoder, self.style_targets, state, feed.take())
            reports.append(report)
            step += 1
            if step < self.settings.steps:
                feed.fetch()
            jax.block_until_ready(reports[-2:-1])  # at most two steps are under way, so that waiting is seen
            logs, saves, draws = (self._due(step, every) for every in (cadence.log, cadence.save, cadence.sheet))
            logs |= step == warmup  # the terms after it are others
            stops = self._stops(logs or saves)
            if logs or saves or stops or step == 1:
                self._report(step, reports, *watch.lap(len(reports), feed.waited), journal, checkpoints)
                reports = []
            if saves or stops:
                checkpoints.save(state, feed.state)
                self._export(state, checkpoints)
            if draws:
                self._draw(step, state)
        return state

    def _due(self, step: int, every: int) -> bool:
        return step == self.settings.steps or (every > 0 and step % every == 0)

    def _stops(self, all_ask: bool) -> bool:
        # Several processes must agree, which takes time.
        if self.interrupted is None or (devices.process_count() > 1 and not all_ask):
            return False
        return devices.any_process(self.interrupted())

    def _report(
        self,
        step: int,
        reports: Sequence[Report],
        rate: float,
        waiting: float,
        journal: Journal | None,
        checkpoints: "Checkpoints",
    ) -> None:
        values = jax.device_get(list(reports))
        for place, one in enumerate(values, start=step - len(values) + 1):
            # The total comes last: a term says more.
            for name in sorted(one, key=lambda name: name == "total"):
                if not np.isfinite(one[name]):
                    checkpoints.wait()
                    kept = max(checkpoints.steps, default=None)
                    raise NonFiniteStepError(step=place, term=name, value=float(one[name]), kept=kept)
        means = {name: float(np.mean([one[name] for one in values])) for name in values[0]}
        if journal is not None:
            journal.write(step, {**means, "steps_per_second": rate, "waiting": waiting})
        left, damaged = (self.settings.steps - step) / rate, tuple(self.damage.new())
        if self.callback is not None:
            self.callback(TrainProgress(step, self.settings.steps, means, rate, waiting, left, damaged))

    def _draw(self, step: int, state: State) -> None:
        if self.samples is not None and devices.process_index() == 0:
            image = self.samples.draw(self.encoder, jax.device_get(state["parameters"]))
            path = self.folder / SAMPLES / f"step-{step:07d}.png"
            make_folder(path.parent)
            write_image(path, image)

    def _export(self, state: State, checkpoints: "Checkpoints") -> None:
        # The generator for use; earlier ones go with their checkpoints.
        if devices.process_index() != 0:
            return
        step = int(state["step"])
        generator = with_parameters(self.config, jax.device_get(state["parameters"]))
        own, kept = _of_step(self.folder, step), {_of_step(self.folder, s) for s in checkpoints.steps}
        for target in (own, self.path):
            generators.save_generator(target, generator, notes={**self._notes(), "step": str(step)})
        for old in set(self.folder.glob("generator-*.safetensors")) - kept:
            if old < own:  # a later one outlives its damaged checkpoint
                old.unlink()

    def _notes(self) -> dict[str, str]:
        return {
            **encoder_notes(self.source, seed=self.settings.seed, padding=self.settings.padding),
            "training": json.dumps(self._facts()),
            "versions": json.dumps(_versions.installed()),
        }

    def _facts(self) -> dict[str, Any]:
        # All that determines the result, as JSON has it.
        settings = dataclasses.asdict(dataclasses.replace(self.settings, config=self.config))
        del settings["weights"]
        facts = {
            "generator": self.settings.kind,
            **settings,
            "init": self.init,
            "weights": f"{self.source.name} {self.source.sha256 or ''}".strip(),
            "contents": fingerprint(self.contents),
            "styles": fingerprint(self.styles),
            "processes": devices.process_count(),
        }
        return json.loads(json.dumps(facts))

    def _style_targets(self) -> Any:
        style = jnp.asarray(read_image(self.styles[0], size=self.settings.style_size))
        compute = jax.jit(self.settings.method.style_targets, static_argnames="objective")
        return compute(self.encoder, style, objective=self.settings.objective)


class _Watch:
    """Measures rate and waiting from one report to the next."""

    def __init__(self):
        self._began, self._waited = time.perf_counter(), 0.0

    def lap(self, steps: int, waited: float) -> tuple[float, float]:
        now = time.perf_counter()
        seconds, self._began = now - self._began, now
        waiting, self._waited = (waited - self._waited) / seconds, waited
        return steps / seconds, waiting


def _of_step(folder: Path, step: int) -> Path:
    return folder / f"generator-{step:07d}.safetensors"
