"""Seconds per iteration of stylization by Adam: swag_jax and PyTorch, with the same loss and weights.

Each side runs in a separate process. All sides of one configuration are warmed up first and then take
turns, in an order that rotates from round to round, so that other work on the machine affects all of them;
compare the ratios of medians before the seconds. See `benchmarks/README.md`.

    python benchmarks/speed_stylize.py --backbones vgg19 --sizes 256 512
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import stylize_inputs
from speed_options import add_options, completed
from stylize_job import STYLE_LAYERS, Job, iteration_flops
from worker import Worker, report, started, take_turns, write


def summary(worker: Worker) -> dict[str, Any]:
    """Ask for everything but the rounds, and return one row of the report."""
    memory = worker.ask("memory")  # first: the next commands need memory themselves
    split = {name: statistics.median(values) for name, values in worker.ask("split").items()}
    rate = worker.ask("matrix_rate")
    flops = iteration_flops(worker.job)
    median = statistics.median(worker.seconds)
    return {
        "side": worker.label,
        "backbone": worker.job.backbone,
        "size": worker.job.size,
        "precision": worker.job.precision,
        "seconds_per_iteration": {"median": median, "min": min(worker.seconds), "rounds": worker.seconds},
        "cpu_seconds_per_iteration": statistics.median(worker.cpu_seconds),
        "split_seconds": split,
        "memory": memory,
        "setup_seconds": worker.setup_seconds,
        "first_loss": worker.rounds[0]["first_loss"],
        "last_loss": worker.rounds[-1]["last_loss"],
        "flops_per_iteration": flops,
        "flops_per_second": flops / median,
        "matrix_product_flops_per_second": rate,
        "share_of_matrix_product_rate": flops / median / rate,
        "versions": worker.ask("describe"),
    }


def compare(sides: dict[str, tuple[str, Job]], rounds: int) -> list[dict[str, Any]]:
    """Measure one configuration: all sides warmed up, then taking turns."""
    with ExitStack() as stack:
        workers = [stack.enter_context(started(label, side, job)) for label, (side, job) in sides.items()]
        take_turns(workers, rounds)
        return [summary(worker) for worker in workers]


def sides_of(job: Job, options: argparse.Namespace) -> dict[str, tuple[str, Job]]:
    """Return the sides to compare for one job, by label."""
    sides = {"swag_jax": ("swag_jax", job)}
    if options.torch:
        sides["torch"] = ("torch", job)
        for mode in options.compile:
            sides[f"torch.compile {mode}"] = ("torch", replace(job, compiler=mode))
    return sides


def jobs(options: argparse.Namespace, folder: Path) -> Iterator[Job]:
    """Return one job per configuration, with its files written into `folder`."""
    for backbone, size in itertools.product(options.backbones, options.sizes):
        weights, images = stylize_inputs.write(folder, backbone, size)
        for precision in options.precisions:
            yield Job(
                backbone,
                size,
                precision,
                weights,
                images,
                device=options.device,
                iterations=options.iterations,
                cpus=options.cpus,
            )


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to every row its median as a multiple of eager PyTorch's of the same configuration."""
    base = next((row for row in rows if row["side"] == "torch"), None)
    for row in rows:
        if base is not None:
            medians = (r["seconds_per_iteration"]["median"] for r in (row, base))
            row["ratio_to_torch"] = next(medians) / next(medians)
    return rows


COLUMNS = {
    "backbone": 9,
    "px": 5,
    "precision": 10,
    "side": 22,
    "ratio": 7,
    "median s": 9,
    "min s": 9,
    "CPU s": 9,
    "forward": 9,
    "backward": 9,
    "update": 9,
    "MiB": 7,
    "GFLOP/s": 9,
    "share": 7,
    "first loss": 11,
    "last loss": 11,
}


def cells(row: dict[str, Any]) -> list[str]:
    """Format one row of the printed table; memory is the device's, or the process's above its imports."""
    times, split, memory = row["seconds_per_iteration"], row["split_seconds"], row["memory"]
    used = memory["device_peak_bytes"] or memory["peak_bytes"] - memory["after_import_bytes"]
    return [
        row["backbone"],
        str(row["size"]),
        row["precision"],
        row["side"],
        f"{row['ratio_to_torch']:.3f}" if "ratio_to_torch" in row else "-",
        *(f"{times[name]:.4f}" for name in ("median", "min")),
        f"{row['cpu_seconds_per_iteration']:.4f}",
        *(f"{split[name]:.4f}" for name in ("forward", "backward", "update")),
        f"{used / 2**20:.0f}",
        f"{row['flops_per_second'] / 1e9:.1f}",
        f"{row['share_of_matrix_product_rate']:.1%}",
        *(f"{row[name]:.6g}" for name in ("first_loss", "last_loss")),
    ]


def line(values: Iterable[str]) -> str:
    """Format one row of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, COLUMNS.values(), strict=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Seconds per iteration: swag_jax and PyTorch.")
    parser.add_argument("--backbones", nargs="+", default=sorted(STYLE_LAYERS), choices=sorted(STYLE_LAYERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="square images, pixels")
    add_options(parser, iterations=5, rounds=7, output="speed_stylize.json")
    return completed(parser.parse_args())


def main() -> None:
    options, rows = parse(), []
    print(line(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(options, Path(folder)):
            measured = with_ratios(compare(sides_of(job, options), options.rounds))
            for row in measured:
                print(line(cells(row)), flush=True)
            rows += measured
            write(options.output, report("speed_stylize", vars(options), rows=rows))


if __name__ == "__main__":
    main()
