"""One image by optimization, many, or a stream of them; and the pure solve of one scale.

Many pairs are prepared ahead by threads and batched by problem: network, objective, solver and scales. A pair that
fails has its own error and disturbs no other.

"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import ArrayLike

from swag_jax import devices
from swag_jax._checks import UserError, check_name, check_range, error
from swag_jax._scheduler import OutOfMemoryError, schedule
from swag_jax._types import AnyImage, Image, Key, Keys, Masks
from swag_jax.backbones import Backbone
from swag_jax.images._arrays import ImageSource, as_image
from swag_jax.losses import Objective
from swag_jax.optimize import memory
from swag_jax.optimize.engine import Programs, Run, check_memory, chunk_length, make_targets, objective_with_gradient
from swag_jax.optimize.pairs import Pair, PreparedPair, Problem, Reader
from swag_jax.optimize.result import BatchProgress, BatchResult, Outcome, Progress, Result
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.optimize.solvers import History, Solver, run
from swag_jax.optimize.state_file import StateFile, run_key
from swag_jax.optimize.tiles import TiledPrograms, check_host_memory, fitting_side

LARGEST = {"cpu": 4, "gpu": 64, "tpu": 64}
"""Pairs per device beyond which a larger batch is not tried. Our choice: on a CPU a pair costs the same in every
batch, and small ones report, and stop, sooner."""

AHEAD = 128
"""Pairs that may wait for others of their shape, and as many that may be made ready meanwhile. Our choice: at 512
pixels they take about 2 GiB of host memory."""

LEAST_SIDE = 32
"""Of a tile; smaller ones are all border."""

Callback: TypeAlias = Callable[[Progress], object]
BatchCallback: TypeAlias = Callable[[BatchProgress], object]
"""Called between chunks of steps; returning True stops the run."""


def solve(
    network: Backbone,
    content: Image,
    styles: Sequence[AnyImage],
    *,
    objective: Objective,
    solver: Solver,
    steps: int,
    init: Image | None = None,
    regions: Masks | None = None,
) -> tuple[Image, History]:
    """Stylize one image at one scale, as a pure function to be jitted, vmapped or sharded.

    Args:
        content: `height width 3` in [0, 1].
        styles: One or more style images, of any sizes, mixed equally.
        solver: `LBFGS()` or `Adam()`.
        steps: Each is one evaluation of loss and gradient.
        init: Where to start; default: the content.
        regions: Where each style goes: its weight at each pixel of the content; default: they are mixed everywhere.

    Returns:
        The image in [0, 1], and the loss (`total`) and every weighted term by step.

    Raises:
        UserError: If an array is no image: by its shape and type and, outside of `jax.jit`, by its values.

    Example:
        >>> import jax
        >>> from swag_jax import backbones
        >>> network = backbones.create("vgg19", until="relu1_1")
        >>> objective = Objective(content_layers=("relu1_1",), style_layers=("relu1_1",))
        >>> batch = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
        >>> def one(content, style):
        ...     return solve(network, content, [style], objective=objective, solver=StylizeSettings().method, steps=2)
        >>> images, history = jax.vmap(one)(batch, batch[::-1])
        >>> images.shape, history["total"].shape
        ((2, 32, 32, 3), (2, 2))
    """
    network = network.frozen()
    content, styles = as_image(content, "content"), [as_image(style, "style") for style in styles]
    init = content if init is None else as_image(init, "init")
    targets = make_targets(network, content, styles, objective=objective, regions=regions)
    state = solver.init(init, objective.terms)
    state, history = run(objective_with_gradient(network, targets, objective), solver, state, steps=steps)
    return solver.image(state), history


@devices.drives_devices
def stylize(
    content: ArrayLike,
    style: ArrayLike | Sequence[ArrayLike],
    *,
    settings: StylizeSettings | None = None,
    key: Key | None = None,
    init: ArrayLike | None = None,
    content_masks: Sequence[ArrayLike] = (),
    style_masks: Sequence[ArrayLike] = (),
    callback: Callback | None = None,
    every: int | None = None,
    tile: int | None = None,
    state_file: Path | str | None = None,
) -> Result:
    """Paint `content` in the manner of `style` by optimizing an image, coarse to fine.

    Args:
        content: `height width 3` in [0, 1].
        style: The style image, or several to be mixed; any sizes.
        settings: Network, losses, solver and sizes; see `swag_jax.presets`.
        key: Randomness of the initial noise; default: from `settings.seed`.
        init: An image to start from, instead of what `settings.init` says.
        content_masks: Where each style goes: how much it counts at each pixel, `height width` in [0, 1], one mask for
            each style. Where all are 0, no style is asked for. Empty: the styles are mixed everywhere.
        style_masks: The part of each style to use, likewise; empty: all of it.
        callback: Called with a `Progress` between chunks of steps; returning True stops the run.
        every: Call it at every multiple of this many steps, and at the end of each scale; default: after every 5 steps
            on the CPU, 20 elsewhere.
        tile: Side in pixels of the tiles that larger scales are solved in, with the same result to rounding, one on
            each device at a time, and images in host memory; 0: never in tiles; default: only if the whole does not
            fit into the device's memory.
        state_file: Where the run keeps its state every five minutes, and when it is stopped after more than that. If
            the file is there already, the run is resumed. It is removed at the end.

    Returns:
        The image at the content's aspect ratio with `settings.size` as its longer side, and the run's record.

    Raises:
        UserError: If an input or a setting is bad.
        NonFiniteLossError: If a loss is not finite, naming step and term.
        OutOfMemoryError: If the device's memory does not hold the run, naming the size that would fit.

    Example:
        >>> import numpy as np
        >>> content, style = np.random.default_rng(0).random((2, 32, 48, 3))
        >>> result = stylize(content, style, settings=StylizeSettings(size=48, steps=4))
        >>> result.image.shape
        (32, 48, 3)
    """
    settings = settings or StylizeSettings()
    if tile:
        check_range(tile, what="tile", low=LEAST_SIDE)

    def tell(run: Run, steps: int, seconds: float) -> bool:
        return callback is not None and callback(_progress(run, rate=steps / seconds)) is True

    styles: Any = tuple(style) if isinstance(style, (list, tuple)) else style
    pair = Pair(
        content, styles, settings, key, init=init, content_masks=tuple(content_masks), style_masks=tuple(style_masks)
    )
    programs, prepared = _prepared(pair, tile, every)
    file = None if state_file is None else StateFile(Path(state_file), run_key(pair, prepared))
    engine = Run(programs, [prepared], tell, every=every, file=file)
    engine.seconds["compile"] = programs.seconds
    (found,) = engine.solve()
    if isinstance(found, UserError):
        raise found
    if file is not None and found.status == "done":
        file.remove()
    return dataclasses.replace(found, tile=programs.side if isinstance(programs, TiledPrograms) else 0)


def _prepared(pair: Pair, tile: int | None, every: int | None) -> tuple[Programs, PreparedPair]:
    """Make a single image ready, and what computes it: whole if it fits and no tiles are asked for."""
    whole, reader = Programs(mapping=None), Reader(lazy=bool(tile))
    side = tile

    def check(problem: Problem) -> None:
        nonlocal side
        try:
            if not side:
                check_memory(whole, problem, every=every)
        except OutOfMemoryError:
            side = fitting_side(whole, problem, every=every) if tile is None else None
            if side is None:
                raise
        if side:
            check_host_memory(problem)
            reader.lazy = True

    prepared = reader.prepare(pair, check=check)
    return TiledPrograms(side) if side else whole, prepared


def _progress(run: Run, *, rate: float) -> Progress:
    ahead, scale = run.problem.scales[len(run.steps) :], run.scale
    work_left = scale.pixels * (scale.steps - run.steps[-1]) + sum(each.work for each in ahead)
    return Progress(
        step=run.step,
        steps=sum(scale.steps for scale in run.problem.scales),
        height=scale.height,
        width=scale.width,
        losses={name: float(values[0, -1]) for name, values in run.histories[-1].items()},
        rate=rate,
        seconds=sum(run.seconds.values()),
        seconds_left=work_left / (rate * scale.pixels),
        image=lambda: run.images()[0],
    )


@devices.drives_devices
def stylize_batch(
    contents: ImageSource | Sequence[ImageSource],
    styles: ImageSource | Sequence[ImageSource | Sequence[ImageSource]],
    *,
    settings: StylizeSettings | Sequence[StylizeSettings] | None = None,
    keys: Keys | Sequence[Key] | None = None,
    inits: ImageSource | Sequence[ImageSource | None] | None = None,
    callback: BatchCallback | None = None,
    batch_size: int | None = None,
    max_shapes: int | None = None,
    mapping: devices.Mapping = "pmap",
) -> BatchResult:
    """Stylize many pairs in compiled batches on every device; each comes out as from `stylize`.

    For masks, pass `Pair`s to `stylize_stream`.

    Args:
        contents: One content image per pair, `height width 3` in [0, 1]: an array of them or a list, whose sizes may
            differ, or one for all pairs. Instead of an image, a function that reads it.
        styles: One style image per pair, likewise; a list within the list is several styles to be mixed.
        settings: For all pairs, or one per pair.
        keys: Randomness of the initial noise, one per pair; default: from each pair's `settings.seed`.
        inits: Images to start from, as `contents`; `None` for a pair that starts as its settings say.
        callback: Called with a `BatchProgress` between chunks of steps; returning True stops the run.
        batch_size: Pairs of one batch at most, over all devices; default: as many as fit into memory.
        max_shapes: How many aspect ratios, from 1:2 to 2:1, images are stretched to (and results back), to bound the
            number of programs if every image has another shape; default: every pair keeps its own.
        mapping: How a batch is mapped over the devices: `pmap` or `shard_map`.

    Returns:
        The outcome of every pair, in order. A pair that cannot be done holds its error and disturbs no other.

    Raises:
        UserError: If there are not as many styles, settings, keys or inits as contents, or a setting is bad.

    Example:
        >>> import numpy as np
        >>> content, *styles = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> objective = Objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))
        >>> settings = StylizeSettings(size=48, steps=4, objective=objective)
        >>> found = stylize_batch(content, styles, settings=settings)
        >>> [image.shape for image in found.images], found.failed
        ([(32, 48, 3), (32, 48, 3)], [])
    """
    chosen = list(settings) if isinstance(settings, Sequence) else [settings or StylizeSettings()]
    columns = _broadcast({
        "contents": _as_list(contents),
        "styles": _as_list(styles),
        "settings": chosen,
        "inits": [None] if inits is None else _as_list(inits),
    })  # fmt: skip
    number = len(columns["contents"])
    if keys is not None and len(keys) != number:
        raise error(f"there must be one key per pair ({number})", got=len(keys))
    drawn = [None] * number if keys is None else [keys[place] for place in range(number)]
    rows = zip(*columns.values(), drawn, strict=True)
    pairs = [Pair(content, style, own, key=key, init=init) for content, style, own, init, key in rows]
    run = _Batches(number, callback, batch_size, max_shapes, mapping)
    # A network that cannot be loaded is the call's error, not every pair's.
    for each in set(chosen):
        run.reader.load(each)
    found = {outcome.index: outcome for outcome in run.outcomes(pairs)}
    outcomes = (found.get(i, Outcome(i, pair.name, None, None)) for i, pair in enumerate(pairs))
    return BatchResult(tuple(outcomes), run.programs.compiled, time.perf_counter() - run.began)


@devices.drives_devices
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
    """Stylize a stream of pairs, of which only a window is in memory at a time; other options: see `stylize_batch`.

    Args:
        pairs: They are drawn while earlier ones are at work.
        total: How many there are, to be reported; default: their number if they have one.
        ahead: How many pairs may wait for others of their shape, and how many are made ready meanwhile.

    Returns:
        The outcome of every pair, as soon as its batch is done; not in order. After a stop, no more come.

    Raises:
        UserError: If an option is out of range.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> objective = Objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))
        >>> settings = StylizeSettings(size=48, steps=4, objective=objective)
        >>> outcomes = stylize_stream([Pair(images[0], style, settings) for style in images[1:]])
        >>> sorted((outcome.index, outcome.result.image.shape) for outcome in outcomes)
        [(0, (32, 48, 3)), (1, (32, 48, 3))]
    """
    if total is None and isinstance(pairs, Sequence):
        total = len(pairs)
    return _Batches(total, callback, batch_size, max_shapes, mapping, ahead).outcomes(pairs)


def _as_list(images: Any) -> list[Any]:
    """Return images as a list; a single one, or what was taken for one, as a list of one."""
    if callable(images) or isinstance(images, str | bytes | os.PathLike):
        return [images]
    if not isinstance(images, list | tuple) and np.ndim(images) in (2, 3):
        return [images]
    return list(images)


def _broadcast(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    lengths = {name: len(values) for name, values in columns.items() if len(values) != 1}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        shown = ", ".join(f"{number} {name}" for name, number in lengths.items())
        raise error("there must be one of each per pair, or one for all", got=shown)
    pairs = next(iter(lengths.values()), 1)
    return {name: values * pairs if len(values) == 1 else values for name, values in columns.items()}


class _Batches:
    """One run over many pairs: how many are solved together, and its counts."""

    def __init__(
        self,
        total: int | None,
        callback: BatchCallback | None,
        batch_size: int | None,
        max_shapes: int | None,
        mapping: devices.Mapping,
        ahead: int = AHEAD,
    ):
        for name, value in (("batch size", batch_size), ("ahead", ahead), ("max shapes", max_shapes)):
            if value is not None:
                check_range(value, what=name, low=1)
        check_name(mapping, devices.MAPPINGS, what="mapping")
        self.callback, self.batch_size, self.total = callback, batch_size, total
        self.ahead = max(ahead, batch_size or 0)
        self.reader, self.programs = Reader(max_shapes=max_shapes), Programs(mapping=mapping)
        self.ready: list[int] = []  # the work of every pair made ready; threads append to it
        self.done = self.failed = self.done_work = 0
        self.began, self.stopped = time.perf_counter(), False

    def outcomes(self, pairs: Iterable[Pair]) -> Iterator[Outcome]:
        found = schedule(
            pairs,
            prepare=self._prepare,
            bucket=lambda pair: pair.problem.key,
            room=lambda pair: min(self._largest() * devices.count(), self.batch_size or self.ahead),
            run=self._solve,
            ahead=self.ahead,
            waiting=self.ahead,
            unit=devices.count(),
            over=lambda: self.stopped,
        )
        for index, pair, result in found:
            if isinstance(result, UserError):
                self.failed += 1
                yield Outcome(index, pair.name, None, result)
            else:
                self.done += 1
                yield Outcome(index, pair.name, result, None)

    def _prepare(self, pair: Pair) -> PreparedPair:
        prepared = self.reader.prepare(pair)
        self.ready.append(prepared.problem.work)
        return prepared

    def _largest(self) -> int:  # pairs per device
        if self.batch_size is not None:
            return _class_below(max(self.batch_size // devices.count(), 1))
        return LARGEST.get(jax.default_backend(), 64)

    def _solve(self, pairs: Sequence[PreparedPair]) -> Sequence[Result | UserError]:
        # Nothing is returned if it was stopped on the way.
        size = _class_above(-(-len(pairs) // devices.count()))
        if size > 1 and self.batch_size is None:
            self._check_fits(pairs[0].problem, size)
        before, batch = self.done_work, Run(self.programs, pairs, self._tell, size=size)
        try:
            found = batch.solve()
        except OutOfMemoryError:
            self.done_work = before  # it is tried again in smaller batches
            raise
        return [] if batch.stopped else found

    def _check_fits(self, problem: Problem, size: int) -> None:
        # What one pair and all of them take tells how many fit.
        finest = problem.scales[-1]

        def needed(size: int) -> int:
            program = self.programs.chunk(problem, finest, steps=chunk_length(finest.steps), size=size)
            return memory.needed_bytes(program)

        many, free = needed(size), memory.free_bytes() / memory.sharing()
        if many > memory.HEADROOM * free:
            fitting = _class_below(memory.largest_batch(needed(1), many, size=size, free=free))
            raise OutOfMemoryError("a batch must fit into memory.", fitting=fitting * devices.count())

    def _tell(self, batch: Run, steps: int, seconds: float) -> bool:
        self.done_work += len(batch.pairs) * batch.scale.pixels * steps
        if self.callback is not None:
            self.stopped = self.callback(self._progress(len(batch.pairs) * steps / seconds)) is True
        return self.stopped

    def _progress(self, rate: float) -> BatchProgress:
        seconds, left = time.perf_counter() - self.began, None
        if self.total is not None:
            # Pairs that are not ready yet are taken to be like those that are.
            expected = sum(self.ready) / len(self.ready) * (self.total - self.failed)
            left = max(expected - self.done_work, 0) * seconds / self.done_work
        return BatchProgress(self.done, self.failed, self.total, rate, seconds, left, self.programs.compiled)


# A batch that is not full is solved at the next of a few sizes per device, so that there are few programs, and the
# copies of its last pair that fill it up are less than a fifth of it.
def _class_above(number: int) -> int:
    """Return the smallest of 1, 2, ..., 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ... that is not below `number`."""
    step = _step(number)
    return -(-number // step) * step


def _class_below(number: int) -> int:

    return number // _step(number) * _step(number)


def _step(number: int) -> int:
    return max((1 << (number - 1).bit_length()) // 8, 1)
