"""Pairs of one bucket solved together: scale by scale and chunk by chunk like a single image, with a batch axis."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from swag_jax import devices
from swag_jax._checks import UserError
from swag_jax._types import AnyHostImage
from swag_jax.images import resize
from swag_jax.optimize import memory
from swag_jax.optimize.preparation import chunk_length, find_failure, finished
from swag_jax.optimize.programs import Programs
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.reader import PreparedPair
from swag_jax.optimize.result import Outcome, Result


@dataclass
class Joint:
    """One batch.

    Attributes:
        programs: The programs of the run.
        works: The pairs, at most `size` for every device.
        size: Pairs per device; what is missing is filled up with copies of the last pair.
        tell: Called after each chunk with its steps and seconds; returns whether to stop.
        histories: Losses by chunk.
        failures: Errors by place in `works`.
        step: Steps done.
        stopped: Whether `tell` has said so.
    """

    programs: Programs
    works: Sequence[PreparedPair]
    size: int
    tell: Callable[[Scale, int, float], bool]
    histories: list[dict[str, np.ndarray]] = field(default_factory=list)
    failures: dict[int, UserError] = field(default_factory=dict)
    step: int = 0
    stopped: bool = False

    def solve(self) -> list[Outcome]:
        """Work through the scales; return no outcomes if the run is stopped on the way.

        Raises:
            OutOfMemoryError: If the batch does not fit into memory.
        """
        began, compiling = time.perf_counter(), self.programs.seconds
        state = None
        for place, scale in enumerate(self.first.scales):
            if not self._over:
                state = self._solve_scale(place, scale, state)
        if self.stopped and self.step < sum(scale.steps for scale in self.first.scales):
            return []
        images = devices.gather(self.programs.images(state, solver=self.first.solver), length=len(self.works))
        compiled = self.programs.seconds - compiling
        spent = time.perf_counter() - began - compiled
        seconds = {"compile": compiled / len(self.works), "optimize": spent / len(self.works)}
        return [self._outcome(place, image, seconds) for place, image in enumerate(images)]

    @property
    def first(self) -> PreparedPair:
        """A pair like all others in what programs depend on."""
        return self.works[0]

    @property
    def _over(self) -> bool:
        """Whether further steps would be for nothing."""
        return self.stopped or len(self.failures) == len(self.works)

    @property
    def _filled(self) -> list[PreparedPair]:
        return devices.pad(self.works, size=self.size)

    def _solve_scale(self, place: int, scale: Scale, previous: Any) -> Any:
        remaining = scale.steps
        self._check_memory(scale, chunk_length(remaining))
        targets = devices.split(_stacked([self.programs.targets(work, place) for work in self._filled]))
        state = self._start() if previous is None else self.programs.carry(previous, scale, solver=self.first.solver)
        network = self.programs.network(self.first)
        while remaining and not self._over:
            steps = chunk_length(remaining)
            program = self.programs.chunk(self.first, scale, steps=steps, size=self.size)
            began = time.perf_counter()
            state, history = program(network, targets, state)
            self._record(devices.gather(history, length=len(self.works)))
            remaining -= steps
            self.stopped = self.tell(scale, steps, time.perf_counter() - began)
        return state

    def _start(self) -> Any:
        images = devices.split(np.stack([work.start for work in self._filled]))
        return self.programs.start(images, solver=self.first.solver, terms=self.first.objective.terms)

    def _check_memory(self, scale: Scale, steps: int) -> None:
        weights = sum(array.nbytes for array in jax.tree.leaves(self.first.loaded.network))
        program = self.programs.chunk(self.first, scale, steps=steps, size=self.size)
        memory.check_fits(program, scale, fixed=weights, sharing=memory.sharing())

    def _record(self, history: dict[str, np.ndarray]) -> None:
        self.histories.append(history)
        for place, work in enumerate(self.works):
            own = {name: values[place] for name, values in history.items()}
            failure = find_failure(own, before=self.step, source=work.loaded.source)
            if failure is not None:
                self.failures.setdefault(place, failure)
        self.step += history["total"].shape[1]

    def _outcome(self, place: int, image: AnyHostImage, seconds: dict[str, float]) -> Outcome:
        work = self.works[place]
        if place in self.failures:
            return Outcome(work.index, work.pair.name, None, self.failures[place])
        names = self.histories[0]
        result = Result(
            image=finished(resize(image, *work.shape), work.contents[-1], settings=work.pair.settings),
            history={name: np.concatenate([chunk[name][place] for chunk in self.histories]) for name in names},
            sizes=tuple((s.height, s.width) for s in work.scales),
            steps=tuple(s.steps for s in work.scales),
            status="done",
            settings=work.pair.settings,
            source=work.loaded.source,
            seconds={"load": work.seconds, **seconds},
        )
        return Outcome(work.index, work.pair.name, result, None)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
