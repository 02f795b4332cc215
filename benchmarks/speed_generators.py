"""Milliseconds and memory per image of generators: swag_jax and PyTorch, with the same weights and images.

Encoding content and style, transferring and decoding are measured together. Each side runs in a separate process; all
sides of one configuration are warmed up first and then take turns (`worker.py`).

    python benchmarks/speed_generators.py --generators adain adaattn --sizes 256 512 --batches 1
"""

import argparse
import statistics
from typing import Any

from generator_jobs import CONFIGURATION, FILES, line, measure_all, print_row
from speed_options import add_options, completed
from worker import Worker

COLUMNS = {**CONFIGURATION, "ms": 10, "CPU ms": 10, "MiB": 8, "mean": 10}


def measure(worker: Worker) -> dict[str, Any]:
    """Return the numbers of one side."""
    images = worker.job.pairs
    return {
        "milliseconds_per_image": statistics.median(worker.seconds) / images * 1e3,
        "cpu_milliseconds_per_image": statistics.median(worker.cpu_seconds) / images * 1e3,
        "mean": worker.rounds[-1]["last_loss"],
    }


def show(row: dict[str, Any]) -> None:
    """Print one row."""
    numbers = []
    if "error" not in row:
        times = (row["milliseconds_per_image"], row["cpu_milliseconds_per_image"], row["mib"] / row["batch"])
        numbers = [*(f"{value:.1f}" for value in times), f"{row['mean']:.5f}"]
    print_row(row, numbers, COLUMNS)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Milliseconds per image of generators: swag_jax and PyTorch.")
    parser.add_argument("--generators", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512, 1024], help="square images, pixels")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images at once")
    add_options(parser, unit="batches", output="speed_generators.json")
    return completed(parser.parse_args())


def main() -> None:
    options = parse()
    print(line(COLUMNS, COLUMNS), flush=True)
    time = "milliseconds_per_image"
    measure_all("speed_generators", options, work="generator", measure=measure, time=time, show=show)


if __name__ == "__main__":
    main()
