"""Milliseconds and memory per picture of generators: swag_jax beside PyTorch, with the same weights and pictures.

Encoding content and style, transferring and decoding are measured together. Each side runs in a process of its own; all
sides of one configuration are warmed up first and then take turns (`worker.py`).

    python benchmarks/speed_generators.py --generators adain adaattn --sizes 256 512 --batches 1
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from stylize_job import PRECISIONS, Job
from worker import HERE, Worker, WorkerEndedError, default_device, report, started, take_turns, write

sys.path[:0] = [str(HERE.parent / "tests")]

from reference.weights import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    generator_weights,
    reference_image,
)

from swag_jax.generators import convert_generator  # noqa: E402

FILES = {
    "johnson": ("johnson",),
    "adain": ("adain",),
    "sanet": ("adain", "sanet_transformer"),
    "adaattn": ("adaattn_decoder", "adaattn_transformer", "adaattn_3"),
}
"""The weights of each generator."""

SEED = 13


def write_weights(folder: Path) -> None:
    """Write all weights in their published layouts, and the generators as this package reads them."""
    for name in {"encoder", *itertools.chain(*FILES.values())}:
        save_file(generator_weights(name, SEED), folder / f"{name}.safetensors")
    for kind in ("adain", "sanet", "adaattn"):
        sources = [folder / f"{name}.safetensors" for name in FILES[kind]]
        convert_generator(sources, kind, folder / f"converted-{kind}.safetensors")


def jobs(options: argparse.Namespace, folder: Path) -> Iterator[Job]:
    """Return one job per configuration, its files written into `folder`."""
    write_weights(folder)
    for kind, size, batch in itertools.product(options.generators, options.sizes, options.batches):
        pictures = folder / f"pictures-{size}-{batch}.npz"
        content, style = (np.stack([reference_image(size, size, n + i) for i in range(batch)]) for n in (0, 100))
        np.savez(pictures, content=content, style=style)
        for precision in options.precisions:
            yield Job(
                kind,
                size,
                precision,
                str(folder),
                str(pictures),
                pairs=batch,
                device=options.device,
                iterations=options.iterations,
                cpus=options.cpus,
            )


def sides_of(job: Job, options: argparse.Namespace) -> dict[str, tuple[str, Job]]:
    """Return what to compare for one job, by label."""
    sides = {"swag_jax": ("swag_generator", job)}
    if options.torch:
        sides["torch"] = ("torch_generator", job)
        for mode in options.compile:
            sides[f"torch.compile {mode}"] = ("torch_generator", replace(job, compiler=mode))
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
        "milliseconds_per_picture": statistics.median(worker.seconds) / job.pairs * 1e3,
        "cpu_milliseconds_per_picture": statistics.median(worker.cpu_seconds) / job.pairs * 1e3,
        "rounds": worker.seconds,
        "mib_per_picture": used / job.pairs / 2**20,
        "memory": memory,
        "setup_seconds": worker.setup_seconds,
        "mean": worker.rounds[-1]["last_loss"],
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
            row["ratio_to_torch"] = row["milliseconds_per_picture"] / base["milliseconds_per_picture"]
    return rows


COLUMNS = {
    "generator": 10,
    "px": 6,
    "batch": 6,
    "precision": 10,
    "side": 22,
    "ratio": 8,
    "ms": 10,
    "CPU ms": 10,
    "MiB": 8,
    "mean": 10,
}


def cells(row: dict[str, Any]) -> list[str]:
    """Format one row of the printed table."""
    about = [row["generator"], str(row["size"]), str(row["batch"]), row["precision"], row["side"]]
    if "error" in row:
        return [*about, "-", "ended", "-", "-", "-"]
    numbers = ("milliseconds_per_picture", "cpu_milliseconds_per_picture", "mib_per_picture")
    ratio = f"{row['ratio_to_torch']:.3f}" if "ratio_to_torch" in row else "-"
    return [*about, ratio, *(f"{row[name]:.1f}" for name in numbers), f"{row['mean']:.5f}"]


def line(values: Iterable[str]) -> str:
    """Set one row of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, COLUMNS.values(), strict=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Milliseconds per picture of generators: swag_jax beside PyTorch.")
    parser.add_argument("--generators", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512, 1024], help="square pictures, pixels")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="pictures at once")
    parser.add_argument("--iterations", type=int, default=2, help="batches per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: float32; on a GPU all")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--compile", nargs="*", metavar="MODE", help="also torch.compile in these modes; default: on a GPU"
    )
    parser.add_argument("--cpus", type=int, default=0, help="processors per side; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed_generators.json")
    options = parser.parse_args()
    accelerated = options.device == "cuda"
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
            write(options.output, report("speed_generators", vars(options), rows=rows))


if __name__ == "__main__":
    main()
