"""Every figure and the robustness table, one after the other; finished parts are not repeated.

Run: `python benchmarks/paper/all.py [--size N] [--steps N] [-o DIR]`.
"""

import subprocess
import sys
from pathlib import Path

from experiment import parse

SCRIPTS = (
    "architectures",
    "reweighting",
    "presets",
    "networks",
    "smoothings",
    "reconstruction",
    "textures",
    "robustness",
)

STATISTICS = ("resnet50", "no_resnet50", "pseudo_vgg", "pseudo_resvgg", "preact_resnet50", "vgg19")
"""The random networks of the paper's figure 3, and two more."""

TRAINED = ("resnet50", "vgg19", "efficientnet-lite0")
"""Networks measured trained and random."""


def commands(options: list[str], folder: Path, size: int) -> list[list[str]]:
    """Return the commands to run, with the options for each script; activations are measured first."""
    here, python = Path(__file__).resolve().parent, sys.executable
    scripts = [[python, str(here / f"{name}.py"), *options] for name in SCRIPTS]
    stats = [python, "-m", "swag_jax", "stats", "--peaks"]
    outputs = {name: folder / f"statistics-{name}" for name in ("random", "trained")}
    random, trained = (["--json", f"{path}.json", "--plot", f"{path}.png"] for path in outputs.values())
    statistics = [
        [*stats, "--networks", ",".join(STATISTICS), "--weights", "random", *random],
        [*stats, "--networks", ",".join(TRAINED), "--weights", "embedded,random", *trained],
    ]
    ablations = [str(here / "ablations.py"), "--size", str(size), "-o", str(folder)]
    return [*statistics, [python, *ablations], *scripts]


def main() -> int:
    """Run all commands; return 1 if any failed."""
    arguments = parse("All figures of the SWAG paper, and the robustness table")
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = commands(sys.argv[1:], arguments.output, arguments.size)
    failed = [line for line in lines if subprocess.run(line).returncode]
    for line in failed:
        print("failed:", " ".join(line[1:]), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
