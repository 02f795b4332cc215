"""Many pictures at once: pairs in shape buckets, each bucket one compiled program over a batch on every device.

Pairs are made ready ahead by threads (`reader`) and wait in buckets: of one network, objective and solver, and of the
same scales. A bucket runs scale by scale and chunk by chunk like a single picture, with a batch axis (`jax.vmap`) on
each device and all devices side by side (`devices.spread`). Nothing is summed over pairs, so that each comes out as
it would alone; one that fails ends in an error of its own.

Batch sizes are powers of two times the number of devices. A remainder is filled up with copies of its last pair, which
wastes less than half of a batch, and the number of programs stays small.
"""

import functools
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from swag_jax import devices
from swag_jax._checks import UserError, check_name, check_range, error
from swag_jax._types import AnyHostImage, Image, Key, Keys
from swag_jax.images import resize
from swag_jax.images._picture import Picture
from swag_jax.losses import Targets, content_targets, style_targets
from swag_jax.optimize import memory
from swag_jax.optimize.once import Once
from swag_jax.optimize.preparation import (
    STEPS_BETWEEN_CALLBACKS,
    find_failure,
    finished,
    make_targets,
    take_steps,
)
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.reader import THREADS, Pair, Reader, Work
from swag_jax.optimize.result import OutOfMemoryError, Result
from swag_jax.optimize.settings import Settings
from swag_jax.optimize.solvers import Solver, State

LARGEST = {"cpu": 4, "gpu": 64, "tpu": 64}
"""Pairs per device beyond which a larger batch is not tried. Our choice: on a CPU a pair costs the same in every
batch, and small ones report, and stop, sooner."""

AHEAD = 128
"""Pairs that may wait for others of their shape, and as many that may be made ready meanwhile. Our choice: at 512
pixels they take about 2 GiB of host memory."""

TARGETS = 2**30
"""Bytes of targets that are remembered for other pairs with the same content or style. Our choice."""


@dataclass(frozen=True)
class Outcome:
    """How one pair ended.

    Attributes:
        index: Its place among the pairs.
        name: Its name.
        result: The picture and its record; `seconds` are the pair's share of its batch's. `None` if there is none.
        error: What was wrong with the pair; `None` if nothing was, also where the run was stopped before it.
    """

    index: int
    name: str
    result: Result | None
    error: UserError | None


@dataclass(frozen=True)
class BatchProgress:
    """The state of many pairs between two compiled chunks of steps.

    Attributes:
        done: Pairs that have a picture.
        failed: Pairs that ended in an error.
        pairs: Pairs in all; `None` where that is not known.
        rate: Pairs times steps per second, at the present size.
        seconds: Seconds since the start.
        seconds_left: Expected seconds to the end, from the pixels and steps so far; `None` where `pairs` is.
        compilations: Programs compiled so far.
    """

    done: int
    failed: int
    pairs: int | None
    rate: float
    seconds: float
    seconds_left: float | None
    compilations: int


@dataclass(frozen=True)
class BatchResult:
    """Many stylized pictures and how they came about.

    Attributes:
        outcomes: How each pair ended, in the order of the pairs.
        compilations: Programs compiled.
        seconds: Seconds in all.
    """

    outcomes: tuple[Outcome, ...]
    compilations: int
    seconds: float

    @property
    def images(self) -> list[AnyHostImage | None]:
        """The pictures in the order of the pairs; `None` for a pair without one."""
        return [None if outcome.result is None else outcome.result.image for outcome in self.outcomes]

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of the pairs that ended in an error."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]


BatchCallback: TypeAlias = Callable[[BatchProgress], object]
"""Called between chunks of steps; returning True stops the run."""


def stylize_batch(
    contents: Picture | Sequence[Picture],
    styles: Picture | Sequence[Picture | Sequence[Picture]],
    *,
    settings: Settings | Sequence[Settings] | None = None,
    keys: Keys | Sequence[Key] | None = None,
    callback: BatchCallback | None = None,
    batch_size: int | None = None,
    max_shapes: int | None = None,
    mapping: devices.Mapping = "pmap",
) -> BatchResult:
    """Stylize many pairs in compiled batches on every device; each comes out as from `stylize`.

    Args:
        contents: One content picture per pair, `height width 3` in [0, 1]: an array of them or a list, where sizes
            may differ. A single picture serves all pairs. Instead of a picture, a function that reads it.
        styles: One style picture per pair, likewise; a list within the list is several styles to be mixed.
        settings: For all pairs, or one per pair.
        keys: Randomness of the initial noise, one per pair; default: from each pair's `settings.seed`.
        callback: Called with a `BatchProgress` between chunks of steps; returning True stops the run.
        batch_size: Pairs of one batch at most, over all devices; default: as many as fit into memory.
        max_shapes: Work at this many aspect ratios at most, from 1:2 to 2:1, which bounds the number of programs where
            every picture has another shape: pictures are stretched to the nearest and the results back. Default:
            every pair is worked at its own, as by `stylize`.
        mapping: How a batch is mapped over the devices: `pmap` or `shard_map`.

    Returns:
        The outcome of every pair, in order. A pair that cannot be done holds its error and disturbs no other.

    Raises:
        UserError: If the numbers of contents, styles, settings and keys do not fit together, or a setting is bad.

    Example:
        >>> import numpy as np
        >>> content, *styles = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> found = stylize_batch(content, styles, settings=Settings(size=48, steps=4))
        >>> [image.shape for image in found.images], found.failed
        ([(32, 48, 3), (32, 48, 3)], [])
    """
    chosen = list(settings) if isinstance(settings, Sequence) else [settings or Settings()]
    drawn = None if keys is None else [keys[place] for place in range(len(keys))]
    columns = _broadcast({
        "contents": _as_list(contents),
        "styles": _as_list(styles),
        "settings": chosen,
    })  # fmt: skip
    number = len(columns["contents"])
    if drawn is not None and len(drawn) != number:
        raise error(f"there must be one key per pair ({number})", got=len(drawn))
    pairs = [Pair(*column) for column in zip(*columns.values(), drawn or [None] * number, strict=True)]
    run = _Run(
        total=len(pairs), callback=callback, batch_size=batch_size, ahead=AHEAD, max_shapes=max_shapes, mapping=mapping
    )
    for each in set(chosen):
        run.reader.load(each)
    found = {outcome.index: outcome for outcome in run.outcomes(pairs)}
    outcomes = (found.get(i, Outcome(i, pair.name, None, None)) for i, pair in enumerate(pairs))
    return BatchResult(tuple(outcomes), run.compilations, time.perf_counter() - run.began)


def stylize_stream(
    pairs: Iterable[Pair],
    *,
    total: int | None = None,
    callback: BatchCallback | None = None,
    batch_size: int | None = None,
    max_shapes: int | None = None,
    ahead: int = AHEAD,
    mapping: devices.Mapping = "pmap",
) -> Iterator[Outcome]:
    """Stylize a stream of pairs, of which only a window is in memory at a time.

    Args:
        pairs: The pairs; they are drawn while earlier ones are at work.
        total: How many there are; default: their number where they have one. It is only reported.
        callback: Called with a `BatchProgress` between chunks of steps; returning True stops the run.
        batch_size: Pairs of one batch at most, over all devices; default: as many as fit into memory.
        max_shapes: Work at this many aspect ratios at most, from 1:2 to 2:1, which bounds the number of programs where
            every picture has another shape: pictures are stretched to the nearest and the results back. Default:
            every pair is worked at its own, as by `stylize`.
        ahead: How many pairs may wait for others of their shape, and how many are made ready meanwhile.
        mapping: How a batch is mapped over the devices: `pmap` or `shard_map`.

    Returns:
        The outcome of every pair, as soon as its batch is done; not in order. After a stop, no more come.

    Raises:
        UserError: If an option is out of range.

    Example:
        >>> import numpy as np
        >>> pictures = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> settings = Settings(size=48, steps=4)
        >>> for outcome in stylize_stream([Pair(pictures[0], style, settings) for style in pictures[1:]]):
        ...     outcome.index, outcome.result.image.shape
        (0, (32, 48, 3))
        (1, (32, 48, 3))
    """
    if total is None and isinstance(pairs, Sequence):
        total = len(pairs)
    run = _Run(
        total=total, callback=callback, batch_size=batch_size, ahead=ahead, max_shapes=max_shapes, mapping=mapping
    )
    return run.outcomes(pairs)


def _as_list(pictures: Any) -> list[Any]:
    """Return pictures as a list; a single one as a list of one."""
    if callable(pictures) or (not isinstance(pictures, list | tuple) and np.ndim(pictures) == 3):
        return [pictures]
    return list(pictures)


def _broadcast(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Repeat what is given once for all pairs.

    Raises:
        UserError: If the lengths differ otherwise, or one is 0.
    """
    lengths = {name: len(values) for name, values in columns.items() if len(values) != 1}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{number} {name}" for name, number in lengths.items())
        raise error("there must be one of each per pair, or one for all", got=shown)
    pairs = next(iter(lengths.values()), 1)
    return {name: values * pairs if len(values) == 1 else values for name, values in columns.items()}


class _Run:
    """One run over many pairs: its buckets, programs, targets and counts."""

    def __init__(
        self,
        *,
        total: int | None,
        callback: BatchCallback | None,
        batch_size: int | None,
        ahead: int,
        max_shapes: int | None,
        mapping: devices.Mapping,
    ):
        for name, value in (("batch size", batch_size), ("ahead", ahead), ("max shapes", max_shapes)):
            if value is not None:
                check_range(value, what=name, low=1)
        check_name(mapping, devices.MAPPINGS, what="mapping")
        self.mapping: devices.Mapping = mapping
        self.callback, self.batch_size, self.total = callback, batch_size, total
        self.ahead = max(ahead, batch_size or 0)
        self.reader = Reader(max_shapes=max_shapes)
        self.targets, self.replicas = Once(capacity=TARGETS), Once(capacity=TARGETS)
        self.limits: dict[Hashable, int] = {}
        self.programs: dict[Hashable, Compiled] = {}
        self.counts = {"done": 0, "failed": 0, "ready": 0}
        self.ready_work = self.done_work = 0
        self.began = time.perf_counter()
        self.compiling = 0.0
        self.stopped = False

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return len(self.programs)

    def outcomes(self, pairs: Iterable[Pair]) -> Iterator[Outcome]:
        """Yield the outcome of every pair as its batch ends."""
        waiting: dict[Hashable, list[Work]] = {}
        pool = ThreadPoolExecutor(THREADS)
        try:
            for index, pair, found in self.reader.ahead(pairs, pool=pool, most=self.ahead):
                if isinstance(found, UserError):
                    yield self._counted(Outcome(index, pair.name, None, found))
                    continue
                self.counts["ready"] += 1
                self.ready_work += found.pixel_steps
                waiting.setdefault(found.bucket, []).append(found)
                for batch in self._full(waiting, found.bucket):
                    yield from self._run(batch)
                if self.stopped:
                    return
            for works in list(waiting.values()):
                for batch in self._cut(works):
                    yield from self._run(batch)
        finally:
            pool.shutdown(cancel_futures=True)

    def _counted(self, outcome: Outcome) -> Outcome:
        self.counts["failed" if outcome.error else "done"] += 1
        return outcome

    def _full(self, waiting: dict[Hashable, list[Work]], bucket: Hashable) -> Iterator[list[Work]]:
        """Take the batches that are complete, and the largest that is not when too many pairs wait."""
        works = waiting[bucket]
        # One pair per device needs no model of the memory, which costs two compilations.
        if len(works) > devices.count() or self.batch_size is not None:
            room = self._limit(works[0]) * devices.count()
            while len(works) >= room:
                yield works[:room]
                del works[:room]
        if sum(map(len, waiting.values())) >= self.ahead:
            fullest = max(waiting.values(), key=len)
            yield from self._cut(fullest)
            fullest.clear()

    def _cut(self, works: list[Work]) -> Iterator[list[Work]]:
        if len(works) <= devices.count():
            yield from [list(works)] if works else []
            return
        room = self._limit(works[0]) * devices.count()
        yield from [works[start : start + room] for start in range(0, len(works), room)]

    def _limit(self, work: Work) -> int:
        """Return how many pairs of a bucket fit on each device."""
        if work.bucket not in self.limits:
            self.limits[work.bucket] = self._largest(work)
        return self.limits[work.bucket]

    def _largest(self, work: Work) -> int:
        if self.batch_size is not None:
            return _power_below(self.batch_size // devices.count())
        most = LARGEST.get(jax.default_backend(), 64)
        length = self.chunk_length(work.scales[-1].steps)
        one, two = (memory.needed_bytes(self.chunk(work, work.scales[-1], length, size)) for size in (1, 2))
        return _power_below(min(most, memory.largest_batch(one, two, free=memory.free_bytes() / memory.sharing())))

    def _run(self, works: list[Work]) -> Iterator[Outcome]:
        """Solve one batch, in halves where it does not fit after all."""
        if self.stopped:
            return
        size = _power_above(-(-len(works) // devices.count()))
        found = self._attempt(works, size)
        if not isinstance(found, OutOfMemoryError):
            yield from map(self._counted, found)
        elif size == 1:
            yield from (self._counted(Outcome(w.index, w.pair.name, None, found)) for w in works)
        else:
            self.limits[works[0].bucket] = size // 2
            for batch in self._cut(works):
                yield from self._run(batch)

    def _attempt(self, works: list[Work], size: int) -> list[Outcome] | OutOfMemoryError:
        """Solve one batch, or return the error that it did not fit; a traceback would keep its arrays alive."""
        before = self.done_work
        try:
            with memory.explained(works[0].scales[-1].size):
                return _Batch(self, works, size).solve()
        except OutOfMemoryError as failure:
            self.done_work = before
            return OutOfMemoryError(str(failure))

    def chunk_length(self, remaining: int) -> int:
        """Return the steps of the next chunk."""
        return min(remaining, STEPS_BETWEEN_CALLBACKS.get(jax.default_backend(), 20))

    def chunk(self, work: Work, scale: Scale, length: int, size: int) -> Compiled:
        """Return the compiled program of a chunk of steps for `size` pairs on each device."""
        objective, solver = work.objective, work.solver
        picture = jax.ShapeDtypeStruct((scale.height, scale.width, 3), jnp.float32)
        key = (work.loaded.structure, objective, solver, picture.shape, length, size)

        def lower() -> Any:
            mixed = functools.partial(make_targets, objective=objective, blend=[1.0])
            targets = jax.eval_shape(lambda n, p: mixed(n, p, [p]), work.loaded.network, picture)
            state = jax.eval_shape(functools.partial(solver.init, terms=objective.terms), picture)
            steps = functools.partial(take_steps, objective=objective, solver=solver, steps=length)
            program = devices.spread(steps, shared=["network"], donated=["state"], mapping=self.mapping)
            return program.lower(self.network(work), *devices.stand_ins((targets, state), size=size))

        return self.compiled(key, lower)

    def network(self, work: Work) -> Any:
        """Return the network of a pair, on every device."""
        return self.replicas.get(work.loaded.key, lambda: devices.replicate(work.loaded.network))

    def compiled(self, key: Hashable, lower: Callable[[], Any]) -> Compiled:
        """Return the program of `key`, compiled once."""
        if key not in self.programs:
            began = time.perf_counter()
            self.programs[key] = lower().compile()
            self.compiling += time.perf_counter() - began
        return self.programs[key]

    def advance(self, *, work: int, pair_steps: int, seconds: float) -> None:
        """Record a chunk of steps and tell of it."""
        self.done_work += work
        if self.callback is not None:
            self.stopped = self.callback(self._progress(pair_steps / seconds)) is True

    def _progress(self, rate: float) -> BatchProgress:
        seconds, left = time.perf_counter() - self.began, None
        if self.total is not None:
            # Pairs that are not ready yet are taken to be like those that are.
            expected = self.ready_work / self.counts["ready"] * (self.total - self.counts["failed"])
            left = max(expected - self.done_work, 0) * seconds / self.done_work
        done, failed = self.counts["done"], self.counts["failed"]
        return BatchProgress(done, failed, self.total, rate, seconds, left, self.compilations)


@dataclass
class _Batch:
    """Pairs of one bucket that are solved together."""

    run: _Run
    works: list[Work]
    size: int
    histories: list[dict[str, np.ndarray]] = field(default_factory=list)
    failures: dict[int, UserError] = field(default_factory=dict)
    step: int = 0

    def solve(self) -> list[Outcome]:
        """Work through the scales; return no outcomes if the run is stopped on the way."""
        began, compiling = time.perf_counter(), self.run.compiling
        state = None
        for place, scale in enumerate(self.first.scales):
            if not self._over:
                state = self._solve_scale(place, scale, state)
        if self.run.stopped and self.step < sum(scale.steps for scale in self.first.scales):
            return []
        pictures = self._program("picture", self.first.solver.picture, state)(state)
        images = devices.gather(pictures, length=len(self.works))
        compiled = self.run.compiling - compiling
        spent = time.perf_counter() - began - compiled
        seconds = {"compile": compiled / len(self.works), "optimize": spent / len(self.works)}
        return [self._outcome(place, image, seconds) for place, image in enumerate(images)]

    @property
    def first(self) -> Work:
        """A pair like all others in what programs depend on."""
        return self.works[0]

    @property
    def _over(self) -> bool:
        """Whether further steps would be for nothing."""
        return self.run.stopped or len(self.failures) == len(self.works)

    def _solve_scale(self, place: int, scale: Scale, previous: Any) -> Any:
        remaining = scale.steps
        self._check_memory(scale, self.run.chunk_length(remaining))
        targets = devices.split(_stacked([self._targets(work, place) for work in self._filled]))
        state = self._start() if previous is None else self._carry(previous, scale)
        network = self.run.network(self.first)
        while remaining and not self._over:
            length = self.run.chunk_length(remaining)
            program = self.run.chunk(self.first, scale, length, self.size)
            began = time.perf_counter()
            state, history = program(network, targets, state)
            self._record(devices.gather(history, length=len(self.works)))
            remaining -= length
            self.run.advance(
                work=len(self.works) * scale.pixels * length,
                pair_steps=len(self.works) * length,
                seconds=time.perf_counter() - began,
            )
        return state

    @property
    def _filled(self) -> list[Work]:
        return devices.filled(self.works, size=self.size)

    def _check_memory(self, scale: Scale, length: int) -> None:
        weights = sum(array.nbytes for array in jax.tree.leaves(self.first.loaded.network))
        program = self.run.chunk(self.first, scale, length, self.size)
        memory.check_fits(program, scale, fixed=weights, sharing=memory.sharing())

    def _start(self) -> State:
        images = devices.split(np.stack([work.start for work in self._filled]))
        start = functools.partial(_initialized, solver=self.first.solver, terms=self.first.objective.terms)
        return self._program("start", start, images, self.first.objective.terms)(images)

    def _carry(self, state: State, scale: Scale) -> State:
        def resized(state: Any) -> Any:
            return self.first.solver.resized(state, scale.height, scale.width)

        return self._program("carry", resized, state, scale.height, scale.width)(state)

    def _program(self, what: str, function: Callable[..., Any], argument: Any, *also: Hashable) -> Compiled:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(argument))
        program = devices.spread(function, mapping=self.run.mapping)
        return self.run.compiled((what, self.first.solver, shapes, *also), lambda: program.lower(argument))

    def _targets(self, work: Work, place: int) -> Targets:
        """Return the targets of a pair at one of its scales, in host memory."""
        objective, network, blend = work.objective, work.loaded.network, work.pair.settings.blend
        content, styles = work.contents[place], work.styles[place]
        shapes = tuple(style.shape for style in styles)

        def of_content() -> Any:
            targets = functools.partial(content_targets, objective=objective)
            return self._target("content", (content.shape,), targets, network, jnp.asarray(content))

        def of_styles() -> Any:
            targets = functools.partial(_style_targets, objective=objective)
            weights = jnp.asarray(blend or [1.0] * len(styles), jnp.float32)
            return self._target("style", shapes, targets, network, [jnp.asarray(s) for s in styles], weights)

        made = (work.loaded.key, objective)
        return Targets(
            content=self.run.targets.get((made, "content", work.content_key, content.shape), of_content),
            style=self.run.targets.get((made, "style", work.style_key, shapes, blend), of_styles),
        )

    def _target(self, what: str, shapes: tuple, function: Callable[..., Any], *arguments: Any) -> Any:
        key = (what, self.first.loaded.structure, self.first.objective, shapes)
        return jax.device_get(self.run.compiled(key, lambda: jax.jit(function).lower(*arguments))(*arguments))

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
        result = Result(
            image=finished(resize(image, *work.shape), work.contents[-1], settings=work.pair.settings),
            history={
                name: np.concatenate([chunk[name][place] for chunk in self.histories]) for name in self.histories[0]
            },
            sizes=tuple((s.height, s.width) for s in work.scales),
            steps=tuple(s.steps for s in work.scales),
            status="done",
            settings=work.pair.settings,
            source=work.loaded.source,
            seconds={"load": work.seconds, **seconds},
        )
        return Outcome(work.index, work.pair.name, result, None)


def _initialized(image: Image, *, solver: Solver, terms: tuple[str, ...]) -> Any:
    return solver.init(image, terms)


def _style_targets(network: Any, images: Sequence[Any], blend: Any, *, objective: Any) -> Any:
    return style_targets(network, images, objective=objective, blend=blend)


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _power_below(number: int) -> int:
    """Return the largest power of two that is not above `number`; at least 1."""
    return 1 << (max(number, 1).bit_length() - 1)


def _power_above(number: int) -> int:
    """Return the smallest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
