"""The pictures that networks are trained on: a folder of classes, or shards packed from one.

Three layouts are read:

* `DATA/train/CLASS/**` and `DATA/val/CLASS/**`, any picture files;
* Tiny-ImageNet-200 as published, whose `val/val_annotations.txt` names the classes of `val/images/*`;
* shards that `weights/pack.py` wrote, `DATA/train-000.npz` and so on.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from swag_jax._checks import error
from swag_jax._files import replacing

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
ANNOTATIONS = "val_annotations.txt"


@dataclass(frozen=True)
class Pictures:
    """One split of a data set.

    Attributes:
        pixels: `count size size 3`, uint8.
        labels: `count`, int32: places in `classes`.
        classes: Names, in order.
        damaged: Files that could not be read, which are left out.
    """

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def read(data: Path, split: str, *, size: int = 64) -> Pictures:
    """Read one split into memory.

    Args:
        data: The folder of the data set, in one of the layouts of this module.
        split: `train` or `val`.
        size: Side of a picture in pixels; larger ones are cropped to a square in the middle and scaled.

    Raises:
        UserError: If there is no picture of that split.
    """
    shards = sorted(data.glob(f"{split}-*.npz"))
    if shards:
        return _read_shards(shards)
    files = list(labelled_files(data, split))
    if not files:
        raise error(
            f"{data} must hold pictures in {split}/CLASS/",
            cure="give the folder of an image-folder data set, of Tiny-ImageNet-200, or of packed shards",
        )
    classes = tuple(sorted({name for _, name in files}))
    with ThreadPoolExecutor() as threads:
        pixels = list(threads.map(lambda file: _pixels(file[0], size), files))
    places = {name: place for place, name in enumerate(classes)}
    whole = [(picture, places[name]) for picture, (_, name) in zip(pixels, files, strict=True) if picture is not None]
    damaged = tuple(str(file) for picture, (file, _) in zip(pixels, files, strict=True) if picture is None)
    labels = np.array([label for _, label in whole], np.int32)
    return Pictures(np.stack([picture for picture, _ in whole]), labels, classes, damaged)


def labelled_files(data: Path, split: str) -> Iterator[tuple[Path, str]]:
    """Yield every picture file of a split with the name of its class, in the order of the names."""
    annotations = data / split / ANNOTATIONS
    if annotations.is_file():
        for line in annotations.read_text().splitlines():
            name, label = line.split("\t")[:2]
            yield data / split / "images" / name, label
        return
    for folder in sorted((data / split).glob("*/")):
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                yield file, folder.name


def _pixels(file: Path, size: int) -> np.ndarray | None:
    """Return a picture as `size size 3`, or nothing if the file is damaged."""
    try:
        with Image.open(file) as image:
            return np.asarray(square(image.convert("RGB"), size))
    except (OSError, ValueError):
        return None


def square(image: Image.Image, size: int) -> Image.Image:
    """Return the square in the middle of a picture, scaled to `size`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    return middle if side == size else middle.resize((size, size), Image.Resampling.LANCZOS)


# --- Shards


def write_shards(folder: Path, split: str, pictures: Pictures, *, quality: int, limit: int) -> list[Path]:
    """Write a split as WebP pictures in files of at most `limit` bytes, for machines that little can travel to.

    Args:
        folder: Where the shards go.
        split: `train` or `val`.
        pictures: The split.
        quality: WebP's, 1 to 100.
        limit: Largest size of a shard in bytes.

    Returns:
        The files.
    """
    with ThreadPoolExecutor() as threads:
        coded = list(threads.map(lambda picture: _webp(picture, quality), pictures.pixels))
    files = []
    for number, (first, last) in enumerate(_spans([len(code) for code in coded], limit)):
        file = folder / f"{split}-{number:03d}.npz"
        with replacing(file) as temporary, temporary.open("wb") as opened:
            np.savez(
                opened,
                codes=np.frombuffer(b"".join(coded[first:last]), np.uint8),
                ends=np.cumsum([len(code) for code in coded[first:last]]),
                labels=pictures.labels[first:last],
                classes=np.array(pictures.classes),
            )
        files.append(file)
    return files


def _webp(picture: np.ndarray, quality: int) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(picture).save(memory, "webp", quality=quality, method=4)
    return memory.getvalue()


def _spans(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of runs whose lengths add up to at most `limit`."""
    first, total = 0, 0
    for place, length in enumerate(lengths):
        if total + length > limit and place > first:
            yield first, place
            first, total = place, 0
        total += length
    yield first, len(lengths)


def _read_shards(shards: Sequence[Path]) -> Pictures:
    pixels, labels, classes = [], [], ()
    for shard in shards:
        with np.load(shard) as arrays:
            codes, ends = arrays["codes"].tobytes(), arrays["ends"].tolist()
            labels.append(arrays["labels"])
            classes = tuple(arrays["classes"].tolist())
        bounds = list(itertools.pairwise([0, *ends]))
        with ThreadPoolExecutor() as threads:
            pixels += threads.map(lambda span, codes=codes: _decoded(codes[span[0] : span[1]]), bounds)
    return Pictures(np.stack(pixels), np.concatenate(labels), classes)


def _decoded(code: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(code)) as image:
        return np.asarray(image.convert("RGB"))
