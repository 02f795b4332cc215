"""Parts of `speed_generators.py` and `speed_train.py`: weights and images, sides, and rows of a table."""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from stylize_job import Job
from worker import HERE, Worker, WorkerEndedError, report, started, take_turns, write

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


CONFIGURATION = {"generator": 10, "px": 6, "batch": 6, "precision": 10, "side": 22, "ratio": 8}
"""Columns of the configuration, and their widths."""


def write_weights(folder: Path) -> None:
    """Write all weights in their published layouts, and the converted generators."""
    for name in {"encoder", *itertools.chain(*FILES.values())}:
        save_file(generator_weights(name, SEED), folder / f"{name}.safetensors")
    for kind in ("adain", "sanet", "adaattn"):
        sources = [folder / f"{name}.safetensors" for name in FILES[kind]]
        convert_generator(sources, kind, folder / f"converted-{kind}.safetensors")


def jobs(options: argparse.Namespace, folder: Path) -> Iterator[Job]:
    """Return one job per configuration, with its files written into `folder`."""
    write_weights(folder)
    for kind, size, batch in itertools.product(options.generators, options.sizes, options.batches):
        images = folder / f"images-{size}-{batch}.npz"
        content, style = (np.stack([reference_image(size, size, n + i) for i in range(batch)]) for n in (0, 100))
        np.savez(images, content=content, style=style)
        for precision in options.precisions:
            yield Job(
                kind,
                size,
                precision,
                str(folder),
                str(images),
                pairs=batch,
                device=options.device,
                iterations=options.iterations,
                cpus=options.cpus,
            )


def sides_of(job: Job, options: argparse.Namespace, *, work: str) -> dict[str, tuple[str, Job]]:
    """Return the sides to compare for one job, by label; `work` is the suffix of their names in `worker.SIDES`."""
    sides = {"swag_jax": (f"swag_{work}", job)}
    if options.torch:
        sides["torch"] = (f"torch_{work}", job)
        for mode in options.compile:
            sides[f"torch.compile {mode}"] = (f"torch_{work}", replace(job, compiler=mode))
    return sides


def compare(
    sides: Mapping[str, tuple[str, Job]], rounds: int, *, measure: Callable[[Worker], dict[str, Any]], time: str
) -> list[dict[str, Any]]:
    """Measure one configuration; if a side runs out of memory, its row says so.

    Args:
        sides: The sides to compare.
        rounds: How often each takes its turn.
        measure: Returns the numbers of one side.
        time: The number that is compared with PyTorch's.
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        workers = []
        for label, (side, job) in sides.items():
            try:
                workers.append(stack.enter_context(started(label, side, job)))
            except WorkerEndedError as problem:
                rows.append({**_about(label, job), "error": str(problem)})
        if workers:
            take_turns(workers, rounds)
        rows += [{**_about(worker.label, worker.job), **_common(worker), **measure(worker)} for worker in workers]
    base = next((row for row in rows if row["side"] == "torch" and "error" not in row), None)
    for row in rows:
        if base is not None and "error" not in row:
            row["ratio_to_torch"] = row[time] / base[time]
    return rows


def measure_all(
    name: str,
    options: argparse.Namespace,
    *,
    work: str,
    measure: Callable[[Worker], dict[str, Any]],
    time: str,
    show: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Measure every configuration, print its rows, and write the report so far under the benchmark's name."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(options, Path(folder)):
            measured = compare(sides_of(job, options, work=work), options.rounds, measure=measure, time=time)
            for row in measured:
                show(row)
            rows += measured
            write(options.output, report(name, vars(options), rows=rows))
    return rows


def _about(label: str, job: Job) -> dict[str, Any]:
    return {
        "side": label,
        "generator": job.backbone,
        "size": job.size,
        "batch": job.pairs,
        "precision": job.precision,
    }


def _common(worker: Worker) -> dict[str, Any]:
    memory = worker.ask("memory")
    used = memory["device_peak_bytes"] or memory["peak_bytes"] - memory["after_import_bytes"]
    return {
        "rounds": worker.seconds,
        "mib": used / 2**20,
        "memory": memory,
        "setup_seconds": worker.setup_seconds,
        "versions": worker.ask("describe"),
    }


def print_row(row: Mapping[str, Any], numbers: Iterable[str], widths: Mapping[str, int]) -> None:
    """Print one row of the table; `numbers` belong to the columns after those of the configuration."""
    about = [row["generator"], str(row["size"]), str(row["batch"]), row["precision"], row["side"]]
    if "error" in row:
        cells = [*about, "-", "ended", *("-" * (len(widths) - len(CONFIGURATION) - 1))]
    else:
        cells = [*about, f"{row['ratio_to_torch']:.3f}" if "ratio_to_torch" in row else "-", *numbers]
    print(line(cells, widths), flush=True)


def line(values: Iterable[str], widths: Mapping[str, int]) -> str:
    """Format one line of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, widths.values(), strict=True))
