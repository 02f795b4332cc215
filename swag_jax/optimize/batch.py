"""Many images at once: pairs in shape buckets, each bucket one compiled program over a batch on every device.

Pairs are made ready ahead by threads (`reader`) and wait in buckets: of one network, objective and solver, and of the
same scales. Batches are cut from a bucket and solved together (`joint`): by `jax.vmap` on each device, side by side on
all of them (`devices.map_batch`). Nothing is summed over pairs, so that each comes out as it would alone; one that
fails ends in an error of its own.

A batch that is not full is solved at the next of a few sizes per device (1 to 8, then four for each doubling), so that
the number of programs stays small and the copies of its last pair that fill it up are less than a fifth of it.
"""

import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import jax
import numpy as np

from swag_jax import devices
from swag_jax._checks import UserError, check_name, check_range, error
from swag_jax._types import Key, Keys
from swag_jax.images._arrays import ImageSource
from swag_jax.optimize import memory
from swag_jax.optimize.joint import Joint
from swag_jax.optimize.preparation import chunk_length
from swag_jax.optimize.programs import Programs
from swag_jax.optimize.pyramid import Scale
from swag_jax.optimize.reader import THREADS, Pair, PreparedPair, Reader
from swag_jax.optimize.result import BatchProgress, BatchResult, Outcome, OutOfMemoryError
from swag_jax.optimize.settings import StylizeSettings

LARGEST = {"cpu": 4, "gpu": 64, "tpu": 64}
"""Pairs per device beyond which a larger batch is not tried. Our choice: on a CPU a pair costs the same in every
batch, and small ones report, and stop, sooner."""

AHEAD = 128
"""Pairs that may wait for others of their shape, and as many that may be made ready meanwhile. Our choice: at 512
pixels they take about 2 GiB of host memory."""

BatchCallback: TypeAlias = Callable[[BatchProgress], object]
"""Called between chunks of steps; returning True stops the run."""


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

    Args:
        contents: One content image per pair, `height width 3` in [0, 1]: an array of them or a list, where sizes
            may differ. A single image serves all pairs. Instead of an image, a function that reads it.
        styles: One style image per pair, likewise; a list within the list is several styles to be mixed.
        settings: For all pairs, or one per pair.
        keys: Randomness of the initial noise, one per pair; default: from each pair's `settings.seed`.
        inits: Images to start from, as `contents`; `None` for a pair that starts as its settings say.
        callback: Called with a `BatchProgress` between chunks of steps; returning True stops the run.
        batch_size: Pairs of one batch at most, over all devices; default: as many as fit into memory.
        max_shapes: Work at this many aspect ratios at most, from 1:2 to 2:1, which bounds the number of programs where
            every image has another shape: images are stretched to the nearest and the results back. Default:
            every pair is worked at its own, as by `stylize`.
        mapping: How a batch is mapped over the devices: `pmap` or `shard_map`.

    Returns:
        The outcome of every pair, in order. A pair that cannot be done holds its error and disturbs no other.

    Raises:
        UserError: If there are not as many styles, settings, keys or inits as contents, or a setting is bad.

    Example:
        >>> import numpy as np
        >>> content, *styles = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> found = stylize_batch(content, styles, settings=StylizeSettings(size=48, steps=4))
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
    pairs = [
        Pair(content, style, own, key=key, init=init)
        for content, style, own, init, key in zip(*columns.values(), drawn, strict=True)
    ]
    run = _Run(
        total=len(pairs), callback=callback, batch_size=batch_size, ahead=AHEAD, max_shapes=max_shapes, mapping=mapping
    )
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
    """Stylize a stream of pairs, of which only a window is in memory at a time.

    Args:
        pairs: The pairs; they are drawn while earlier ones are at work.
        total: How many there are; default: their number where they have one. It is only reported.
        callback: Called with a `BatchProgress` between chunks of steps; returning True stops the run.
        batch_size: Pairs of one batch at most, over all devices; default: as many as fit into memory.
        max_shapes: Work at this many aspect ratios at most, from 1:2 to 2:1, which bounds the number of programs where
            every image has another shape: images are stretched to the nearest and the results back. Default:
            every pair is worked at its own, as by `stylize`.
        ahead: How many pairs may wait for others of their shape, and how many are made ready meanwhile.
        mapping: How a batch is mapped over the devices: `pmap` or `shard_map`.

    Returns:
        The outcome of every pair, as soon as its batch is done; not in order. After a stop, no more come.

    Raises:
        UserError: If an option is out of range.

    Example:
        >>> import numpy as np
        >>> images = np.random.default_rng(0).random((3, 32, 48, 3))
        >>> settings = StylizeSettings(size=48, steps=4)
        >>> for outcome in stylize_stream([Pair(images[0], style, settings) for style in images[1:]]):
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


def _as_list(images: Any) -> list[Any]:
    """Return images as a list; a single one, or what was taken for one, as a list of one."""
    if callable(images) or isinstance(images, str | bytes | os.PathLike):
        return [images]
    if not isinstance(images, list | tuple) and np.ndim(images) in (2, 3):
        return [images]
    return list(images)


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
    """One run over many pairs: its buckets, how many pairs fit into a batch, and its counts."""

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
        self.callback, self.batch_size, self.total = callback, batch_size, total
        self.ahead = max(ahead, batch_size or 0)
        self.reader, self.programs = Reader(max_shapes=max_shapes), Programs(mapping=mapping)
        self.limits: dict[Hashable, int] = {}
        self.counts = {"done": 0, "failed": 0, "ready": 0}
        self.ready_work = self.done_work = 0
        self.began = time.perf_counter()
        self.stopped = False

    def outcomes(self, pairs: Iterable[Pair]) -> Iterator[Outcome]:
        """Yield the outcome of every pair as its batch ends."""
        waiting: dict[Hashable, list[PreparedPair]] = {}
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
                    yield from self._solve(batch)
                if self.stopped:
                    return
            for works in list(waiting.values()):
                for batch in self._cut(works):
                    yield from self._solve(batch)
        finally:
            pool.shutdown(cancel_futures=True)

    def _counted(self, outcome: Outcome) -> Outcome:
        self.counts["failed" if outcome.error else "done"] += 1
        return outcome

    def _full(self, waiting: dict[Hashable, list[PreparedPair]], bucket: Hashable) -> Iterator[Sequence[PreparedPair]]:
        """Take the batches that are complete, and the largest that is not when too many pairs wait."""
        works = waiting[bucket]
        if len(works) >= min(self._largest(bucket) * devices.count(), self.batch_size or self.ahead):
            yield from self._cut(works)
            works.clear()
        if sum(map(len, waiting.values())) >= self.ahead:
            fullest = max(waiting.values(), key=len)
            yield from self._cut(fullest)
            fullest.clear()

    def _cut(self, works: Sequence[PreparedPair]) -> Iterator[Sequence[PreparedPair]]:
        """Cut pairs of one bucket into batches that fit into memory, by what is known of it as each is taken."""
        while works:
            room = min(self._fitting(works) * devices.count(), self.batch_size or self.ahead)
            yield works[:room]
            works = works[room:]

    def _largest(self, bucket: Hashable) -> int:
        """Return how many pairs per device are tried at most."""
        if self.batch_size is not None:
            most = _class_below(max(self.batch_size // devices.count(), 1))
        else:
            most = LARGEST.get(jax.default_backend(), 64)
        return min(most, self.limits.get(bucket, most))

    def _fitting(self, works: Sequence[PreparedPair]) -> int:
        """Return how many pairs per device to solve at once: all, or as many as fit into memory.

        Where all do not fit, what the programs for one pair and for all of them take tells how many do.
        """
        work, size = works[0], min(self._largest(works[0].bucket), _per_device(works))
        if size == 1 or self.batch_size is not None:
            return size
        many, free = self._needed(work, size), memory.free_bytes() / memory.sharing()
        if many > memory.HEADROOM * free:
            fitting = memory.largest_batch(self._needed(work, 1), many, size=size, free=free)
            self.limits[work.bucket] = size = _class_below(fitting)
        return size

    def _needed(self, work: PreparedPair, size: int) -> int:
        """Return the bytes that a batch takes on each device at the finest scale."""
        finest = work.scales[-1]
        return memory.needed_bytes(self.programs.chunk(work, finest, steps=chunk_length(finest.steps), size=size))

    def _solve(self, works: Sequence[PreparedPair]) -> Iterator[Outcome]:
        """Solve one batch, in halves where it does not fit after all."""
        if self.stopped:
            return
        size = _per_device(works)
        found = self._attempt(works, size)
        if not isinstance(found, OutOfMemoryError):
            yield from map(self._counted, found)
        elif size == 1:
            yield from (self._counted(Outcome(w.index, w.pair.name, None, found)) for w in works)
        else:
            self.limits[works[0].bucket] = _class_below(size // 2)
            for batch in self._cut(works):
                yield from self._solve(batch)

    def _attempt(self, works: Sequence[PreparedPair], size: int) -> list[Outcome] | OutOfMemoryError:
        """Solve one batch, or return the error that it did not fit; a traceback would keep its arrays alive."""

        def tell(scale: Scale, steps: int, seconds: float) -> bool:
            self.done_work += len(works) * scale.pixels * steps
            if self.callback is not None:
                self.stopped = self.callback(self._progress(len(works) * steps / seconds)) is True
            return self.stopped

        before = self.done_work
        try:
            with memory.explained(works[0].scales[-1].size):
                return Joint(self.programs, works, size, tell).solve()
        except OutOfMemoryError as failure:
            self.done_work = before
            return OutOfMemoryError(str(failure))

    def _progress(self, rate: float) -> BatchProgress:
        seconds, left = time.perf_counter() - self.began, None
        if self.total is not None:
            # Pairs that are not ready yet are taken to be like those that are.
            expected = self.ready_work / self.counts["ready"] * (self.total - self.counts["failed"])
            left = max(expected - self.done_work, 0) * seconds / self.done_work
        done, failed = self.counts["done"], self.counts["failed"]
        return BatchProgress(done, failed, self.total, rate, seconds, left, self.programs.compiled)


def _per_device(works: Sequence[PreparedPair]) -> int:
    return _class_above(-(-len(works) // devices.count()))


def _class_above(number: int) -> int:
    """Return the smallest of 1, 2, ..., 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ... that is not below `number`."""
    step = _step(number)
    return -(-number // step) * step


def _class_below(number: int) -> int:
    """Return the largest of them that is not above `number`."""
    return number // _step(number) * _step(number)


def _step(number: int) -> int:
    return max((1 << (number - 1).bit_length()) // 8, 1)
