"""Options of all speed benchmarks."""

import argparse
from pathlib import Path

from stylize_job import PRECISIONS
from worker import HERE, default_device


def add_options(
    parser: argparse.ArgumentParser, *, output: str, unit: str = "iterations", iterations: int = 2, rounds: int = 5
) -> None:
    """Add turns, precisions, sides, device and output.

    Args:
        output: The name of the results.
        unit: The meaning of one iteration, for the help.
        iterations: How many make a round.
    """
    parser.add_argument("--iterations", type=int, default=iterations, help=f"{unit} per round")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: float32; on a GPU all")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--compile", nargs="*", metavar="MODE", help="also torch.compile in these modes; default: on a GPU"
    )
    parser.add_argument("--cpus", type=int, default=0, help="processors per side; default: all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default_device())
    parser.add_argument("--output", type=Path, default=HERE / "results" / output)


def completed(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options with the defaults that depend on the device."""
    accelerated = options.device == "cuda"
    options.precisions = options.precisions or (list(PRECISIONS) if accelerated else ["float32"])
    if options.compile is None:
        options.compile = ["default"] if accelerated else []
    elif not options.compile:
        options.compile = ["default"]
    return options
