"""Training images: two folders become batches of crops, in an order that only the seed decides.

Contents are shuffled anew in every epoch, each with a style drawn at random. Which images, crops and flips stand at a
place of the sequence depends on the seed and that place alone, so that a run resumes exactly where it was interrupted,
and any number of processes reads the same batches together. Grain reads ahead in threads.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from swag_jax import devices
from swag_jax._checks import UserError, error
from swag_jax._files import real, what_is_missing
from swag_jax.images._decode import SUFFIXES, left_out
from swag_jax.images.crop import read_crop
from swag_jax.train.settings import TrainSettings

THREADS = 8
"""Threads that decode; Pillow releases Python's lock while it works."""

AHEAD = 64
"""Pairs of images that are decoded ahead."""

TRIES = 100
"""Damaged images that are tried in a row until the folder is given up."""


def find_images(path: Path, *, what: str, besides: Path | None = None) -> tuple[Path, ...]:
    """Return all images of a folder and its folders, sorted; or the one image that `path` is.

    Those in the folder `besides` do not count: that of a run's samples, which may be in `path`.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        got = what_is_missing(path) or path
        raise error(f"{what} must be a folder of images", got=got, cure="pass an existing folder")
    found = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    own = None if besides is None else real(besides)
    if not (images := tuple(sorted(p for p in found if p.is_file() and real(p.parent) != own))):
        rule = f"{what} must hold images ({', '.join(SUFFIXES)})"
        raise error(rule, got=f"none in {path}", cure=left_out(path, deep=True))
    return images


@dataclass
class SkippedFiles:
    """Images that could not be read, each once, and why."""

    told: dict[Path, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _new: list[str] = field(default_factory=list)

    def add(self, path: Path, problem: UserError) -> None:
        """Remember an image; from any thread."""
        with self._lock:
            if path not in self.told:
                self.told[path] = str(problem)
                self._new.append(str(problem))

    def new(self) -> list[str]:
        """Return what has come up since the last call."""
        with self._lock:
            found, self._new = self._new, []
            return found


@dataclass(frozen=True)
class Cropped:
    """Makes training pairs: called with a content's place and a random generator. `damage` gets damaged images."""

    contents: Sequence[Path]
    styles: Sequence[Path]
    settings: TrainSettings
    damage: SkippedFiles

    def __call__(self, place: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return the 8-bit crops of one pair by name: `content` and, if there are styles, `style`.

        A damaged image gives way to another one, drawn at random; if none of a folder can be read, this is an error.
        """
        pair = {"content": self._crop(self.contents, place, rng)}
        if self.styles:
            pair["style"] = self._crop(self.styles, int(rng.integers(len(self.styles))), rng)
        return pair

    def _crop(self, images: Sequence[Path], place: int, rng: np.random.Generator) -> np.ndarray:
        s = self.settings
        for _ in range(TRIES):
            where, mirrored = rng.random(2), bool(rng.random() < 0.5)
            try:
                return read_crop(
                    images[place],
                    size=s.size,
                    crop=s.crop,
                    where=(where[0], where[1]),
                    squash=s.squash,
                    flip=s.flip and mirrored,
                )
            except UserError as problem:
                self.damage.add(images[place], problem)
                place = int(rng.integers(len(images)))
        folder = images[0].parent
        raise error(f"images of {folder} must be readable", got=f"{TRIES} damaged ones, one after another")


class Feed:
    """Batches on the devices, one ahead of the step that takes them."""

    def __init__(self, batches: Any):
        self._batches = batches
        self.state: dict[str, int] = batches.get_state()
        self.waited = 0.0
        self._ahead: Any = None

    def take(self) -> Any:
        """Return the next batch, split over the devices."""
        if self._ahead is None:
            self.fetch()
        (batch, self.state), self._ahead = self._ahead, None  # pyright: ignore[reportGeneralTypeIssues]
        return batch

    def fetch(self) -> None:
        """Bring the next batch to the devices while they work."""
        began = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - began
        self._ahead = devices.split(batch), self._batches.get_state()


def batches(contents: Sequence[Path], styles: Sequence[Path], *, settings: TrainSettings, damage: SkippedFiles) -> Any:
    """Return an endless iterator over this process's share of the batches.

    Its `get_state` returns its place, and `set_state` moves it there. The batch must divide among the devices.

    """
    grain, process, processes = _grain(), devices.process_index(), devices.process_count()
    share, rest = divmod(settings.batch_size, processes * devices.count())
    if rest:
        rule = f"the batch size must be a multiple of the number of devices ({processes * devices.count()})"
        raise error(rule, got=settings.batch_size, cure="pass another batch size")
    pairs = grain.MapDataset.source(range(len(contents))).seed(settings.seed).shuffle().repeat()
    # Images are drawn before the processes share them out, so that the number of processes changes nothing.
    own = pairs.random_map(Cropped(contents, styles, settings, damage))[process::processes]
    reading = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    return iter(own.to_iter_dataset(reading).batch(share * devices.count(), drop_remainder=True))


def _grain() -> Any:
    try:
        import grain
    except ModuleNotFoundError as problem:
        cure = "pip install 'swag-jax[train]'"
        raise error("training reads images with Grain", got="no such package", cure=cure) from problem
    return grain
