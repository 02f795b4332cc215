"""Steps per second of training: swag_jax and PyTorch, with the same recipe, weights and images.

A step of a published recipe, with a batch that is on the device already: encoding, painting, encoding, losses,
gradients, Adam. Each side runs in a separate process; all sides of one configuration are warmed up first and then take
turns (`worker.py`). At the end: how many images per second `swag_jax.train` reads, resizes and crops.

    python benchmarks/speed_train.py --generators adain --sizes 128 --batches 4
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from generator_jobs import CONFIGURATION, FILES, line, measure_all, print_row
from speed_options import add_options, completed
from worker import Worker, report, write

from swag_jax import sample, train, write_image
from swag_jax.train.data import AHEAD, SkippedFiles, batches

COLUMNS = {**CONFIGURATION, "steps/s": 10, "CPU s": 10, "MiB": 8, "first loss": 12, "last loss": 12}

LONGER_SIDE = 640
"""Longer side of the JPEG files for measuring the reading: COCO's."""


def measure(worker: Worker) -> dict[str, Any]:
    """Return the numbers of one side."""
    seconds = statistics.median(worker.seconds)
    return {
        "seconds_per_step": seconds,
        "steps_per_second": 1 / seconds,
        "cpu_seconds_per_step": statistics.median(worker.cpu_seconds),
        "first_loss": worker.rounds[0]["first_loss"],
        "last_loss": worker.rounds[-1]["last_loss"],
    }


def reading(count: int, kind: str) -> dict[str, Any]:
    """Measure how many images per second are read for a recipe, after the read-ahead buffer is full."""
    settings = train.recipe(kind)
    with tempfile.TemporaryDirectory() as folder:
        names = ("coffee", "astronaut", "swirls", "mosaic")
        paths = tuple(Path(folder) / f"{name}.jpg" for name in names)
        for path, name in zip(paths, names, strict=True):
            write_image(path, sample(name, size=LONGER_SIDE))
        found = batches(paths, paths, settings=settings, damage=SkippedFiles())
        for _ in range(2 + AHEAD // settings.batch_size):
            next(found)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(found)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    images = 2 * count * settings.batch_size
    return {"recipe": kind, "images_per_second": images / seconds, "cpu_seconds_per_image": cpu / images}


def show(row: dict[str, Any]) -> None:
    """Print one row."""
    numbers = []
    if "error" not in row:
        speed = [f"{row['steps_per_second']:.3f}", f"{row['cpu_seconds_per_step']:.3f}", f"{row['mib']:.0f}"]
        numbers = [*speed, f"{row['first_loss']:.6g}", f"{row['last_loss']:.6g}"]
    print_row(row, numbers, COLUMNS)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Steps per second of training: swag_jax and PyTorch.")
    parser.add_argument("--generators", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--sizes", nargs="+", type=int, help="square crops, pixels; default: 128, on a GPU 256")
    parser.add_argument("--batches", nargs="+", type=int, help="pairs at once; default: 4, on a GPU 8")
    parser.add_argument("--reading", type=int, default=20, help="batches that are read at last; 0 for none")
    add_options(parser, unit="steps", output="speed_train.json")
    options = completed(parser.parse_args())
    accelerated = options.device == "cuda"
    options.sizes = options.sizes or [256 if accelerated else 128]
    options.batches = options.batches or [8 if accelerated else 4]
    return options


def main() -> None:
    options = parse()
    print(line(COLUMNS, COLUMNS), flush=True)
    about = {"work": "training", "measure": measure, "time": "seconds_per_step"}
    rows = measure_all("speed_train", options, **about, show=show)
    if options.reading:
        found = reading(options.reading, "adaattn")
        spent = found["cpu_seconds_per_image"] * 1e3
        print(f"reading: {found['images_per_second']:.0f} images/s, {spent:.1f} CPU ms each")
        write(options.output, report("speed_train", vars(options), rows=rows, reading=found))


if __name__ == "__main__":
    main()
