"""Pairs times steps per second: batches and loops of single runs, swag_jax and PyTorch, one device and many.

Losses, weights and turns are those of `speed_stylize.py`; a batch of N has N different pairs. There are three parts,
each optional: `batches` (rate and memory by batch size, until memory ends), `devices` (simulated CPU devices with
constant work for each, which shows correctness and overhead only, since they share the processors) and `commands` (the
time a user waits: `swag-jax batch` compared with a shell loop of `swag-jax stylize`). See `benchmarks/README.md`.

    python benchmarks/speed_batch.py --backbones vgg19 --sizes 256 --batches 1 2 4 8
    python benchmarks/speed_batch.py --parts batches --device cuda
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import stylize_inputs
from speed_options import add_options, completed
from stylize_job import STYLE_LAYERS, Job, iteration_flops
from worker import Worker, WorkerEndedError, report, started, take_turns, write

PARTS = ("batches", "devices", "commands")
MAPPINGS = ("pmap", "shard_map")
BATCHES = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256)}
SPARE = 0.8
"""Share of the free host memory that the sides of one comparison may use; above it, a system may kill processes."""
COMMAND_CONTENTS, COMMAND_STYLES = ("coffee", "cat"), ("swirls", "mosaic", "woodcut")

Row = dict[str, Any]


def row_of(worker: Worker, **also: Any) -> Row:
    """Return one row of the report: how often per second one pair takes one step."""
    job = worker.job
    rates = [job.pairs / seconds for seconds in worker.seconds]
    memory = worker.ask("memory")
    used = memory["device_peak_bytes"] or memory["peak_bytes"] - memory["after_import_bytes"]
    return {
        "side": worker.label,
        **{name: getattr(job, name) for name in ("backbone", "size", "precision", "pairs", "devices", "mapping")},
        "rate": {"median": statistics.median(rates), "max": max(rates), "rounds": rates},
        "cpu_seconds_per_pair_step": statistics.median(worker.cpu_seconds) / job.pairs,
        "used_bytes": used,
        "memory": memory,
        "setup_seconds": worker.setup_seconds,
        "first_loss": worker.rounds[0]["first_loss"],
        "last_loss": worker.rounds[-1]["last_loss"],
        "flops_per_second": iteration_flops(job) * statistics.median(rates) / job.pairs,
        "versions": worker.ask("describe"),
        **also,
    }


def compare(sides: dict[str, tuple[str, Job]], rounds: int, *, rate_of_products: bool = False) -> list[Row]:
    """Measure sides that take turns; if one runs out of memory while it warms up, its row says so."""
    with ExitStack() as stack:
        workers, lost = list[Worker](), list[Row]()
        for label, (side, job) in sides.items():
            try:
                workers.append(stack.enter_context(started(label, side, job)))
            except WorkerEndedError as failure:
                lost.append({"side": label, "backbone": job.backbone, "size": job.size, "pairs": job.pairs,
                             "precision": job.precision, "failure": str(failure)})  # fmt: skip
        take_turns(workers, rounds)
        rows = [row_of(worker) for worker in workers]
        for row, worker in zip(rows, workers, strict=True):
            if rate_of_products:
                row["matrix_product_flops_per_second"] = worker.ask("matrix_rate")
        return rows + lost


def sides_of(job: Job, options: argparse.Namespace) -> dict[str, tuple[str, Job]]:
    """Return the sides to compare for one batch, by label: loops of single runs, and the batch."""
    single, batched = replace(job, pairs=1, mapping=""), replace(job, mapping="pmap")
    sides = {"swag_jax loop": ("swag_jax", single), "swag_jax batch": ("swag_jax", batched)}
    if not options.torch:
        return sides
    for name, mode in {"torch": "", **{f"torch.compile {mode}": mode for mode in options.compile}}.items():
        sides[f"{name} loop"] = ("torch", replace(single, compiler=mode))
        if job.pairs > 1:
            sides[f"{name} batch"] = ("torch", replace(job, compiler=mode))
    return sides


def expected_bytes(rows: Sequence[Row], sides: dict[str, tuple[str, Job]]) -> float:
    """Estimate the memory of all sides together: at most twice what each took for half the batch."""
    latest = {row["side"]: row for row in rows if "failure" not in row}
    return sum(
        latest[label]["used_bytes"] * job.pairs / latest[label]["pairs"]
        for label, (_, job) in sides.items()
        if label in latest
    )


def measure_batches(job: Job, batches: Sequence[int], options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Measure one backbone, size and precision for growing batches, until memory ends."""
    rows, failed = list[Row](), set[str]()
    for pairs in batches:
        weights, images = stylize_inputs.write(folder, job.backbone, job.size, pairs=pairs)
        larger = replace(job, pairs=pairs, weights=weights, images=images)
        sides = {label: side for label, side in sides_of(larger, options).items() if label not in failed}
        needed, free = expected_bytes(rows, sides), SPARE * psutil.virtual_memory().available
        if job.device == "cpu" and needed > free:
            print(f"batches end at {rows[-1]['pairs']}: {pairs} may take {needed / 2**30:.1f} GiB", flush=True)
            return
        found = compare(sides, options.rounds, rate_of_products=pairs == 1)
        failed |= {row["side"] for row in found if "failure" in row}
        rows += found
        yield from with_ratios(found)
        if not any(label.endswith("batch") and label not in failed for label in sides):
            return


def with_ratios(rows: list[Row]) -> list[Row]:
    """Add to every row its median rate as a multiple of PyTorch's and of swag_jax's loop in the same comparison."""
    medians = {row["side"]: row["rate"]["median"] for row in rows if "failure" not in row}
    for row in rows:
        for loop in ("torch loop", "swag_jax loop"):
            if loop in medians and "failure" not in row:
                row[f"times {loop}"] = row["rate"]["median"] / medians[loop]
    return rows


def memory_per_pair(rows: Sequence[Row]) -> list[Row]:
    """Fit a line through the memory by size of the batch, for each side that ran at least two."""
    found = []
    kept = [row for row in rows if row["side"].endswith("batch") and "failure" not in row]
    names = ("side", "backbone", "size", "precision")
    for key, group in itertools.groupby(sorted(kept, key=by(*names)), by(*names)):
        pairs, used = zip(*((row["pairs"], row["used_bytes"]) for row in group), strict=True)
        if len(pairs) > 1:
            slope, constant = np.polyfit(pairs, used, 1)
            found.append({**dict(zip(names, key, strict=True)), "bytes_per_pair": slope, "constant_bytes": constant})
    return found


def by(*names: str) -> Callable[[Row], tuple]:
    """Return a sorting key."""
    return lambda row: tuple(row[name] for name in names)


def measure_devices(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Measure one pair per simulated device, compared with a batch of as many on one device."""
    size, backbone = min(options.sizes), options.backbones[0]
    for number in options.devices:
        weights, images = stylize_inputs.write(folder, backbone, size, pairs=number)
        common = {"pairs": number, "iterations": options.iterations, "cpus": options.cpus}
        job = Job(backbone, size, "float32", weights, images, **common)
        sides = {"one device": ("swag_jax", replace(job, mapping="pmap"))}
        for mapping in MAPPINGS:
            sides[f"{mapping}, {number} devices"] = ("swag_jax", replace(job, mapping=mapping, devices=number))
        yield from compare(sides, options.rounds)


def measure_commands(options: argparse.Namespace, folder: Path) -> Row:
    """Time `swag-jax batch` and a shell loop of `swag-jax stylize`, each from an empty program cache."""
    folders = {"contents": COMMAND_CONTENTS, "styles": COMMAND_STYLES}
    for name, samples in folders.items():
        (folder / name).mkdir()
        for sample in samples:
            command = f"import swag_jax as s; s.write_image({str(folder / name / sample)!r} + '.png', "
            subprocess.run([sys.executable, "-c", f"{command}s.sample({sample!r}, size=256))"], check=True)
    flags = ["--size", str(min(options.sizes)), "--steps", str(options.command_steps), "--quiet"]
    batch = ["batch", "--contents", "contents", "--styles", "styles", "--no-sheet", "-o", "batch", *flags]
    loop = [
        ["stylize", f"contents/{content}.png", f"styles/{style}.png", "-o", f"{content}_{style}.png", *flags]
        for content, style in itertools.product(COMMAND_CONTENTS, COMMAND_STYLES)
    ]
    return {
        "pairs": len(loop),
        "size": min(options.sizes),
        "steps": options.command_steps,
        "batch_seconds": seconds_of([batch], folder, home=folder / "home_batch"),
        "loop_seconds": seconds_of(loop, folder, home=folder / "home_loop"),
    }


def seconds_of(commands: Sequence[Sequence[str]], folder: Path, *, home: Path) -> float:
    """Run commands one after the other in one folder; return the seconds they took."""
    environment = {**os.environ, "SWAG_JAX_HOME": str(home)}
    began = time.perf_counter()
    for command in commands:
        subprocess.run([sys.executable, "-m", "swag_jax", *command], cwd=folder, env=environment, check=True)
    return time.perf_counter() - began


COLUMNS = ("backbone", "px", "precision", "pairs", "side", "pairs*steps/s", "x torch", "x loop", "MiB", "first loss")
WIDTHS = (9, 5, 10, 6, 24, 14, 8, 8, 8, 12)


def cells(row: Row) -> list[str]:
    """Format one row of the printed table; memory is the device's, or the process's above its imports."""
    start = [row["backbone"], str(row["size"]), row["precision"], str(row["pairs"]), row["side"]]
    if "failure" in row:
        return [*start, "no memory", "-", "-", "-", "-"]
    ratios = [f"{row[name]:.2f}" if name in row else "-" for name in ("times torch loop", "times swag_jax loop")]
    rate, used = row["rate"]["median"], row["used_bytes"] / 2**20
    return [*start, f"{rate:.3f}", *ratios, f"{used:.0f}", f"{row['first_loss']:.6g}"]


def line(values: Sequence[str]) -> str:
    """Format one row of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, WIDTHS, strict=True))


def plot(path: Path, rows: Sequence[Row]) -> None:
    """Draw rate and memory by size of the batch, a column for each backbone, size and precision."""
    from matplotlib.figure import Figure

    kept = [row for row in rows if "failure" not in row]
    names = ("backbone", "size", "precision")
    groups = [(key, list(group)) for key, group in itertools.groupby(sorted(kept, key=by(*names)), by(*names))]
    figure = Figure(figsize=(1 + 3.4 * len(groups), 6.4), layout="constrained")
    panels = figure.subplots(2, len(groups), squeeze=False, sharex=True)
    for (key, group), (rates, memory) in zip(groups, panels.T, strict=True):
        rates.set_title(" ".join(map(str, key)).replace(" float32", " px float32"))
        for side in dict.fromkeys(row["side"] for row in group):
            own = [row for row in group if row["side"] == side]
            if side.endswith("loop"):
                best = statistics.median(row["rate"]["median"] for row in own)
                rates.axhline(best, label=side, linestyle="--", color="C1" if side.startswith("torch") else "C0")
                continue
            style = {"marker": "o", "label": side, "color": "C1" if side.startswith("torch") else "C0"}
            pairs = [row["pairs"] for row in own]
            rates.plot(pairs, [row["rate"]["median"] for row in own], **style)
            memory.plot(pairs, [row["used_bytes"] / 2**30 for row in own], **style)
        rates.set_ylim(bottom=0)
        rates.set_xscale("log", base=2)
        memory.set_xlabel("pairs in the batch")
    panels[0, 0].set_ylabel("pairs x steps per second")
    panels[1, 0].set_ylabel("memory, GiB")
    panels[0, 0].legend()
    figure.savefig(path, dpi=110)


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Return one job per backbone, size and precision; weights and images are filled in batch by batch."""
    for backbone, size, precision in itertools.product(options.backbones, options.sizes, options.precisions):
        common = {"device": options.device, "iterations": options.iterations, "cpus": options.cpus}
        yield Job(backbone, size, precision, "", "", **common)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--backbones", nargs="+", default=["vgg19", "resnet50"], choices=sorted(STYLE_LAYERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="square images, pixels")
    parser.add_argument("--batches", nargs="+", type=int, help="pairs; default: powers of two until memory ends")
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8], help="simulated CPU devices")
    parser.add_argument("--command-steps", type=int, default=40, help="steps of each pair in the part `commands`")
    add_options(parser, rounds=3, output="speed_batch.json")
    options = completed(parser.parse_args())
    options.batches = sorted(options.batches or BATCHES[options.device])
    return options


def main() -> None:
    options = parse()
    rows, found = list[Row](), dict[str, Any]()

    def keep(row: Row, *, part: str) -> None:
        print(line(cells(row)), flush=True)
        found.setdefault(part, []).append(row)
        write(options.output, report("speed_batch", vars(options), **found))

    print(line(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "batches" in options.parts:
            for job in jobs(options):
                for row in measure_batches(job, options.batches, options, folder):
                    rows.append(row)
                    keep(row, part="batches")
            found["memory_per_pair"] = memory_per_pair(rows)
            plot(options.output.with_suffix(".png"), rows)
        if "devices" in options.parts:
            for row in measure_devices(options, folder):
                keep(row, part="devices")
        if "commands" in options.parts:
            found["commands"] = measure_commands(options, folder)
            print(found["commands"])
    write(options.output, report("speed_batch", vars(options), **found))


if __name__ == "__main__":
    main()
