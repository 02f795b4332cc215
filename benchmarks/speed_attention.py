"""Temporary memory and time of attention in chunks, compared with the whole matrix, as in AdaAttN at relu3_1.

    python benchmarks/speed_attention.py
    python benchmarks/speed_attention.py --sizes 128 256 --repeats 5 --memory-only

Queries and keys are 448 wide and values have 256 channels, with equal numbers of content and style positions: 1,024 for
images of 128 pixels, 16,384 for 512. Memory is what XLA's compiled program allocates in addition to its arguments and
results.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from swag_jax._numerics import root
from swag_jax.attention import weighted_moments

RESULTS = Path(__file__).resolve().parent / "results"
WIDTH, CHANNELS, STRIDE = 448, 256, 4
MIB = 2**20


def whole(queries: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute the whole matrix, like the papers and PyTorch's releases."""

    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    weights = jax.nn.softmax(multiply(queries, keys.T), axis=1)
    mean = multiply(weights, values)
    return mean, root(multiply(weights, values**2) - mean**2)


def cosine(queries: jax.Array, keys: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compare by cosines, which needs no rows of the matrix."""
    return weighted_moments(queries, keys, values, similarity="cosine")


FORMS: dict[str, Callable[..., Any]] = {"whole": whole, "chunks": weighted_moments, "cosine": cosine}


def program(form: str, gradient: bool) -> Callable[..., Any]:
    """Return mean and deviation, or the gradients of their summed squares at queries, keys and values."""
    if not gradient:
        return FORMS[form]

    def energy(*arguments: jax.Array) -> jax.Array:
        return sum((x**2).sum() for x in FORMS[form](*arguments))  # pyright: ignore[reportReturnType]

    return jax.grad(energy, (0, 1, 2))


def measure(form: str, size: int, *, gradient: bool, repeats: int, largest_mib: float) -> dict[str, Any]:
    """Compile for images of `size` pixels; run, unless the program needs more than `largest_mib`."""
    positions = (size // STRIDE) ** 2
    keys = jax.random.split(jax.random.key(0), 3)
    widths = ((WIDTH, 0.4), (WIDTH, 0.4), (CHANNELS, 1.0))
    arguments = [s * jax.random.normal(key, (positions, w)) for key, (w, s) in zip(keys, widths, strict=True)]
    compiled = jax.jit(program(form, gradient)).lower(*arguments).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None, "this backend does not tell what a program allocates"
    mib = analysis.temp_size_in_bytes / MIB
    about = {"form": form, "pixels": size, "positions": positions, "gradient": gradient, "temporary_mib": round(mib, 1)}
    if not repeats or mib > largest_mib:
        return about
    jax.block_until_ready(compiled(*arguments))
    walls, processor = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*arguments))
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return {**about, "seconds": round(min(walls), 3), "processor_seconds": round(min(processor), 3)}


def main() -> None:
    """Measure every form at every size, print a table and write the JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 384, 512], help="pixels")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program; the fastest counts")
    parser.add_argument("--memory-only", action="store_true", help="compile, and run nothing")
    parser.add_argument("--largest-mib", type=float, default=6000, help="run no program that needs more")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "speed_attention.json")
    arguments = parser.parse_args()
    repeats = 0 if arguments.memory_only else arguments.repeats
    found = []
    for gradient in (False, True):
        for size in arguments.sizes:
            for form in FORMS:
                row = measure(form, size, gradient=gradient, repeats=repeats, largest_mib=arguments.largest_mib)
                found.append(row)
                print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    about = {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "processors": os.cpu_count(),
        "width": WIDTH,
        "channels": CHANNELS,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
