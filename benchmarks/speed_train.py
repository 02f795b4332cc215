"""Steps per second of training: swag_jax beside PyTorch, with the same recipe, weights and pictures.

A step is what the published recipe does with one batch that is on the device already: encoding, painting, encoding,
losses, gradients, Adam. Each side runs in a process of its own; all sides of one configuration are warmed up first and
then take turns (`worker.py`). At last, how many pictures per second `swag_jax.train` reads, resizes and crops.

    python benchmarks/speed_train.py --generators adain --sizes 128 --batches 4
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from speed_generators import FILES, jobs
from stylize_job import PRECISIONS, Job
from worker import HERE, Worker, WorkerEndedError, default_device, report, started, take_turns, write

from swag_jax import sample, train, write_image
from swag_jax.train.data import AHEAD

PICTURE = 640
"""Longer side of the JPEG files that the reading is measured with: COCO's."""


def sides_of(job: Job, options: argparse.Namespace) -> dict[str, tuple[str, Job]]:
    """Return what to compare for one job, by label."""
    sides = {"swag_jax": ("swag_training", job)}
    if options.torch:
        sides["torch"] = ("torch_training", job)
        for mode in options.compile:
            sides[f"torch.compile {mode}"] = ("torch_training", replace(job, compiler=mode))
    return sides


def summary(worker: Worker) -> dict[str, Any]:
    """Put one row of the report together."""
    memory, job = worker.ask("memory"), worker.job
    used = memory["device_peak_bytes"] or memory["peak_bytes"] - memory["after_import_bytes"]
    return {
        "side": worker.label,
        "generator": job.backbone,
        "size": job.size,
        "batch": job.pairs,
        "precision": job.precision,
        "seconds_per_step": statistics.median(worker.seconds),
        "steps_per_second": 1 / statistics.median(worker.seconds),
        "cpu_seconds_per_step": statistics.median(worker.cpu_seconds),
        "rounds": worker.seconds,
        "mib": used / 2**20,
        "memory": memory,
        "setup_seconds": worker.setup_seconds,
        "first_loss": worker.rounds[0]["first_loss"],
        "last_loss": worker.rounds[-1]["last_loss"],
        "versions": worker.ask("describe"),
    }


def compare(sides: dict[str, tuple[str, Job]], rounds: int) -> list[dict[str, Any]]:
    """Measure one configuration; a side that runs out of memory leaves a row that says so."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = []
        for label, (side, job) in sides.items():
            try:
                workers.append(stack.enter_context(started(label, side, job)))
            except WorkerEndedError as problem:
                about = {"side": label, "generator": job.backbone, "size": job.size, "batch": job.pairs}
                rows.append({**about, "precision": job.precision, "error": str(problem)})
        if workers:
            take_turns(workers, rounds)
        rows += map(summary, workers)
    base = next((row for row in rows if row["side"] == "torch" and "error" not in row), None)
    for row in rows:
        if base is not None and "error" not in row:
            row["ratio_to_torch"] = row["seconds_per_step"] / base["seconds_per_step"]
    return rows


def reading(count: int, kind: str) -> dict[str, Any]:
    """Measure how many pictures per second are read for the recipe of a kind, once reading ahead has filled up."""
    settings = train.recipe(kind).settings
    with tempfile.TemporaryDirectory() as folder:
        names = ("harbor", "mountains", "swirls", "mosaic")
        paths = tuple(Path(folder) / f"{name}.jpg" for name in names)
        for path, name in zip(paths, names, strict=True):
            write_image(path, sample(name, size=PICTURE))
        found = train.batches(paths, paths, settings=settings, damage=train.Damage())
        for _ in range(2 + AHEAD // settings.batch_size):
            next(found)
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(found)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    pictures = 2 * count * settings.batch_size
    return {"recipe": kind, "pictures_per_second": pictures / seconds, "cpu_seconds_per_picture": cpu / pictures}


COLUMNS = {
    "generator": 10,
    "px": 6,
    "batch": 6,
    "precision": 10,
    "side": 22,
    "ratio": 8,
    "steps/s": 10,
    "CPU s": 10,
    "MiB": 8,
    "first loss": 12,
    "last loss": 12,
}


def cells(row: dict[str, Any]) -> list[str]:
    """Format one row of the printed table."""
    about = [row["generator"], str(row["size"]), str(row["batch"]), row["precision"], row["side"]]
    if "error" in row:
        return [*about, "-", "ended", *"----"]
    ratio = f"{row['ratio_to_torch']:.3f}" if "ratio_to_torch" in row else "-"
    speed = [f"{row['steps_per_second']:.3f}", f"{row['cpu_seconds_per_step']:.3f}", f"{row['mib']:.0f}"]
    return [*about, ratio, *speed, f"{row['first_loss']:.6g}", f"{row['last_loss']:.6g}"]


def line(values: Iterable[str]) -> str:
    """Set one row of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, COLUMNS.values(), strict=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Steps per second of training: swag_jax beside PyTorch.")
    parser.add_argument("--generators", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--sizes", nargs="+", type=int, help="square crops, pixels; default: 128, on a GPU 256")
    parser.add_argument("--batches", nargs="+", type=int, help="pairs at once; default: 4, on a GPU 8")
    parser.add_argument("--iterations", type=int, default=2, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: float32; on a GPU all")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--compile", nargs="*", metavar="MODE", help="also torch.compile in these modes; default: on a GPU"
    )
    parser.add_argument("--reading", type=int, default=20, help="batches that are read at last; 0 for none")
    parser.add_argument("--cpus", type=int, default=0, help="processors per side; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed_train.json")
    options = parser.parse_args()
    accelerated = options.device == "cuda"
    options.sizes = options.sizes or [256 if accelerated else 128]
    options.batches = options.batches or [8 if accelerated else 4]
    options.precisions = options.precisions or (list(PRECISIONS) if accelerated else ["float32"])
    if options.compile is None:
        options.compile = ["default"] if accelerated else []
    elif not options.compile:
        options.compile = ["default"]
    return options


def main() -> None:
    options, rows = parse(), []
    print(line(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(options, Path(folder)):
            measured = compare(sides_of(job, options), options.rounds)
            for row in measured:
                print(line(cells(row)), flush=True)
            rows += measured
            write(options.output, report("speed_train", vars(options), rows=rows))
    if options.reading:
        found = reading(options.reading, "adaattn")
        spent = found["cpu_seconds_per_picture"] * 1e3
        print(f"reading: {found['pictures_per_second']:.0f} pictures/s, {spent:.1f} CPU ms each")
        write(options.output, report("speed_train", vars(options), rows=rows, reading=found))


if __name__ == "__main__":
    main()
