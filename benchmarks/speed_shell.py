"""Seconds from the shell to the written image: `swag-jax apply` on one image, with a warm program cache.

    python benchmarks/speed_shell.py adain.safetensors photo.jpg painting.jpg --size 512 --beside ../older

Processor seconds tell more than seconds if other programs are at work. With `--beside`, another checkout of this
repository takes turns with this one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def run(root: Path, words: list[str]) -> tuple[float, float]:
    """Return seconds and processor seconds of one command of a checkout."""
    before, began = os.times(), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-P", "-m", "swag_jax", "apply", *words, "--quiet"], env=environment, check=True)
    seconds, after = time.perf_counter() - began, os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, spent


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds from the shell to the written image of swag-jax apply.")
    parser.add_argument("words", nargs="+", help="GENERATOR CONTENT [STYLE ...]")
    parser.add_argument("--size", type=int, default=512, help="longer side in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout of this repository")
    options = parser.parse_args()
    checkouts = [HERE, *([options.beside.resolve()] if options.beside else [])]
    measured: dict[Path, list[tuple[float, float]]] = {root: [] for root in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        words = [*options.words, "-o", str(Path(folder) / "out.png"), "--size", str(options.size)]
        for number in range(options.rounds + 1):
            for root, found in measured.items():
                each = run(root, words)
                if number:  # the first may compile
                    found.append(each)
    for root, found in measured.items():
        for name, values in zip(("seconds", "processor seconds"), zip(*found, strict=True), strict=True):
            print(f"{root}: {name} {statistics.median(values):.2f} (least {min(values):.2f})")


if __name__ == "__main__":
    main()
