"""Sides under measurement, each in a separate process, taking turns: the common part of the speed benchmarks.

python benchmarks/worker.py SIDE JOB      (started by the benchmarks; a job is one line of JSON)
"""

import importlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stylize_job import Job, Side

HERE = Path(__file__).resolve().parent
SIDES = {
    "swag_jax": ("swag_side", "SwagSide"),
    "torch": ("torch_baseline", "TorchSide"),
    "swag_generator": ("generator_swag", "GeneratorSide"),
    "torch_generator": ("generator_torch", "TorchGeneratorSide"),
    "swag_training": ("training_swag", "TrainingSide"),
    "torch_training": ("training_torch", "TorchTrainingSide"),
}
"""Module and class of each side."""
SPLIT_REPEATS = 5
# Side of the matrices whose product is the reference rate for networks.
MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
MATRIX_REPEATS = 5
ENVIRONMENT = {
    # PyTorch's threads spin while they wait for each other. On a machine that also does other work this was
    # seen to slow it down fourfold.
    "OMP_WAIT_POLICY": "PASSIVE",
    # All sides share one GPU.
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


def resident_bytes(kind: str) -> int:
    """Return this process's current (`VmRSS`) or peak (`VmHWM`) resident memory."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields[kind].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def make_side(name: str, job: Job) -> tuple[Side, int]:
    """Import one framework and warm up its side; return it with the memory in use after the import."""
    module, chosen = SIDES[name]
    side = getattr(importlib.import_module(module), chosen)
    baseline = resident_bytes("VmRSS")
    return side(job), baseline


def timed_round(side: Side) -> dict[str, float]:
    """Take the job's steps once."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    first, last = side.iterate()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    return {"seconds": seconds, "cpu_seconds": cpu, "first_loss": first, "last_loss": last}


def serve(name: str, job: Job) -> None:
    """Answer the commands on standard input, one JSON line each, until it ends."""
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


class WorkerEndedError(RuntimeError):
    """A side's process ended before it had answered, for example out of memory."""


@dataclass
class Worker:
    """One side in its process, and its measurements."""

    label: str
    job: Job
    process: subprocess.Popen[str]
    setup_seconds: float = 0.0
    rounds: list[dict[str, float]] = field(default_factory=list)

    def read(self) -> Any:
        """Wait for the next answer.

        Raises:
            WorkerEndedError: If the process has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerEndedError(f"the process of {self.label} ended early; its message stands above")
        return json.loads(line)

    def ask(self, command: str) -> Any:
        """Send one command and wait for its answer."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # there will be no answer then, which is what `read` tells
            print(command, file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    @property
    def seconds(self) -> list[float]:
        """Seconds of one step of the whole job, by round."""
        return [r["seconds"] / self.job.iterations for r in self.rounds]

    @property
    def cpu_seconds(self) -> list[float]:
        """Processor seconds of one step of the whole job over all threads, by round."""
        return [r["cpu_seconds"] / self.job.iterations for r in self.rounds]


@contextmanager
def started(label: str, side: str, job: Job) -> Iterator[Worker]:
    """Start one side's process, wait until it is warmed up, and stop it at the end.

    Raises:
        WorkerEndedError: If it ends before it is warmed up.
    """
    command = [sys.executable, str(HERE / "worker.py"), side, job.to_json()]
    environment = {**ENVIRONMENT, **os.environ, "JAX_PLATFORMS": job.device}
    if job.devices > 1:
        flags = os.environ.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={job.devices}"
    pipe = subprocess.PIPE
    worker = Worker(label, job, subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
    try:
        worker.setup_seconds = worker.read()["setup_seconds"]
        yield worker
    finally:
        worker.close()


def take_turns(workers: Sequence[Worker], rounds: int) -> None:
    """Measure rounds of all sides, in an order that rotates from round to round."""
    for turn in range(rounds):
        shift = turn % len(workers)
        for worker in (*workers[shift:], *workers[:shift]):
            worker.rounds.append(worker.ask("round"))


def default_device() -> str:
    """Return `cuda` if there is an NVIDIA GPU, else `cpu`."""
    found = shutil.which("nvidia-smi")
    listed = subprocess.run([found, "-L"], capture_output=True, check=False).stdout if found else b""
    return "cuda" if b"GPU" in listed else "cpu"


def report(benchmark: str, settings: dict[str, Any], **results: Any) -> dict[str, Any]:
    """Return a whole report."""
    return {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "settings": {name: value for name, value in settings.items() if name != "output"},
        **results,
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the report so far, so that an interrupted run keeps its measurements."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1], Job.from_json(sys.argv[2]))
