"""Seconds per iteration of stylization by Adam: swag_jax beside PyTorch, with the same loss and weights.

Each side runs in a process of its own. All sides of one configuration are warmed up first and then take
turns, in an order that rotates from round to round, so that they share whatever else the machine does;
compare the ratios of medians before the seconds. See `benchmarks/README.md`.

    python benchmarks/speed_stylize.py --backbones vgg19 --sizes 256 512
"""

import argparse
import itertools
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import stylize_inputs
from stylize_job import PRECISIONS, STYLE_LAYERS, Job, Side, iteration_flops

HERE = Path(__file__).resolve().parent
SPLIT_REPEATS = 5
# The side of the matrices whose product sets the rate that a network is compared with.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
MATRIX_REPEATS = 5
ENVIRONMENT = {
    # PyTorch's threads spin while they wait for each other. On a machine that also does other work this was
    # seen to slow it down fourfold.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Both sides live on one GPU at once.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def resident_bytes(kind: str) -> int:
    """Return this process's present (`VmRSS`) or greatest (`VmHWM`) resident memory."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields[kind].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def make_side(name: str, job: Job) -> tuple[Side, int]:
    """Import one framework and warm up its side; return it with the memory in use after the import."""
    if name == "swag_jax":
        from swag_side import SwagSide as Chosen
    else:
        from torch_baseline import TorchSide as Chosen
    baseline = resident_bytes("VmRSS")
    return Chosen(job), baseline


def timed_round(side: Side) -> dict[str, float]:
    """Take the job's steps once."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    first, last = side.iterate()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    return {"seconds": seconds, "cpu_seconds": cpu, "first_loss": first, "last_loss": last}


def serve(name: str, job: Job) -> None:
    """Answer the commands that arrive on standard input, one JSON line each, until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    if job.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cpus])
    begin = time.perf_counter()
    side, baseline = make_side(name, job)
    print(json.dumps({"setup_seconds": time.perf_counter() - begin}), file=answers)
    commands = {
        "round": lambda: timed_round(side),
        "split": lambda: side.split(SPLIT_REPEATS),
        "matrix_rate": lambda: side.matrix_rate(MATRIX_SIDE[job.device], MATRIX_REPEATS),
        "describe": side.describe,
        "memory": lambda: {
            "after_import_bytes": baseline,
            "peak_bytes": resident_bytes("VmHWM"),
            "device_peak_bytes": side.device_peak_bytes(),
        },
    }
    for line in sys.stdin:
        print(json.dumps(commands[line.strip()]()), file=answers)


@dataclass
class Worker:
    """One side in its process, and what has been measured of it."""

    label: str
    side: str
    job: Job
    process: subprocess.Popen[str]
    rounds: list[dict[str, float]] = field(default_factory=list)

    def read(self) -> Any:
        """Wait for the next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.label} process ended early; its message stands above")
        return json.loads(line)

    def ask(self, command: str) -> Any:
        """Send one command and wait for its answer."""
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def start(label: str, side: str, job: Job) -> Worker:
    """Start one side's process."""
    command = [sys.executable, str(HERE / "speed_stylize.py"), "--serve", side, job.to_json()]
    environment = {**ENVIRONMENT, **os.environ, "JAX_PLATFORMS": job.device}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
    return Worker(label, side, job, process)


def summary(worker: Worker, setup: dict[str, float]) -> dict[str, Any]:
    """Ask for everything but the rounds and put one row of the report together."""
    per_iteration = [r["seconds"] / worker.job.iterations for r in worker.rounds]
    memory = worker.ask("memory")  # first: what follows needs memory of its own
    split = {name: statistics.median(values) for name, values in worker.ask("split").items()}
    rate = worker.ask("matrix_rate")
    flops = iteration_flops(worker.job)
    median = statistics.median(per_iteration)
    return {
        "side": worker.label,
        "backbone": worker.job.backbone,
        "size": worker.job.size,
        "precision": worker.job.precision,
        "seconds_per_iteration": {"median": median, "min": min(per_iteration), "rounds": per_iteration},
        "cpu_seconds_per_iteration": statistics.median(r["cpu_seconds"] / worker.job.iterations for r in worker.rounds),
        "split_seconds": split,
        "memory": memory,
        "setup_seconds": setup["setup_seconds"],
        "first_loss": worker.rounds[0]["first_loss"],
        "last_loss": worker.rounds[-1]["last_loss"],
        "flops_per_iteration": flops,
        "flops_per_second": flops / median,
        "matrix_product_flops_per_second": rate,
        "share_of_matrix_product_rate": flops / median / rate,
        "versions": worker.ask("describe"),
    }


def rotated(workers: list[Worker], turn: int) -> list[Worker]:
    """Return the workers in the order of one round."""
    shift = turn % len(workers)
    return workers[shift:] + workers[:shift]


def compare(sides: dict[str, tuple[str, Job]], rounds: int) -> list[dict[str, Any]]:
    """Measure one configuration: all sides warmed up, then taking turns."""
    workers, setups = [], {}
    with ExitStack() as stack:
        for label, (side, job) in sides.items():
            worker = start(label, side, job)
            stack.callback(worker.close)
            workers.append(worker)
            setups[label] = worker.read()
        for turn in range(rounds):
            for worker in rotated(workers, turn):
                worker.rounds.append(worker.ask("round"))
        return [summary(worker, setups[worker.label]) for worker in workers]


def sides_of(job: Job, options: argparse.Namespace) -> dict[str, tuple[str, Job]]:
    """Return what to compare for one job, by label."""
    sides = {"swag_jax": ("swag_jax", job)}
    if options.torch:
        sides["torch"] = ("torch", job)
        for mode in options.compile:
            sides[f"torch.compile {mode}"] = ("torch", replace(job, compiler=mode))
    return sides


def jobs(options: argparse.Namespace, folder: Path) -> Iterator[Job]:
    """Return one job per configuration, its files written into `folder`."""
    for backbone, size in itertools.product(options.backbones, options.sizes):
        weights, pictures = stylize_inputs.write(folder, backbone, size)
        for precision in options.precisions:
            yield Job(
                backbone,
                size,
                precision,
                weights,
                pictures,
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
    """Set one row of the table."""
    return "".join(f"{value:>{width}s}" for value, width in zip(values, COLUMNS.values(), strict=True))


def default_device() -> str:
    """Return `cuda` where an NVIDIA GPU answers, else `cpu`."""
    found = shutil.which("nvidia-smi")
    listed = subprocess.run([found, "-L"], capture_output=True, check=False).stdout if found else b""
    return "cuda" if b"GPU" in listed else "cpu"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Seconds per iteration: swag_jax beside PyTorch.")
    parser.add_argument("--backbones", nargs="+", default=sorted(STYLE_LAYERS), choices=sorted(STYLE_LAYERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512], help="square pictures, pixels")
    parser.add_argument("--iterations", type=int, default=5, help="iterations per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: float32; on a GPU all")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--compile", nargs="*", metavar="MODE", help="also torch.compile in these modes; default: on a GPU"
    )
    parser.add_argument("--cpus", type=int, default=0, help="processors per side; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--output", type=Path, default=HERE / "results" / "speed_stylize.json")
    options = parser.parse_args()
    accelerated = options.device == "cuda"
    options.precisions = options.precisions or (list(PRECISIONS) if accelerated else ["float32"])
    if options.compile is None:
        options.compile = ["default"] if accelerated else []
    elif not options.compile:
        options.compile = ["default"]
    return options


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Put the whole report together."""
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    machine = {"machine": platform.machine(), "system": platform.system(), "cpus": os.cpu_count()}
    return {
        "benchmark": "speed_stylize",
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **machine,
        "settings": settings,
        "rows": rows,
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the report so far: a run that breaks off keeps what it has measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    options, rows = parse(), []
    print(line(COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(options, Path(folder)):
            measured = with_ratios(compare(sides_of(job, options), options.rounds))
            for row in measured:
                print(line(cells(row)), flush=True)
            rows += measured
            write(options.output, report(rows, options))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], Job.from_json(sys.argv[3]))
    else:
        main()
