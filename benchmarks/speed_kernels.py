"""What the CPU's forms of convolution and pooling save: a step of stylization, and the convolutions of training.

    python benchmarks/speed_kernels.py --size 256

Prints and writes processor milliseconds, which other work on the machine disturbs least: per step of Adam on VGG19
(loss, gradient, update), alone and inside `lax.scan`; and per 3x3 convolution with both its gradients, for a batch of
64 in bfloat16.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import swag_jax as swag
from swag_jax import optimize

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = 3
BATCH = 64
MAPS = ((32, 64), (16, 128), (8, 256), (4, 512), (2, 512))
"""Rows and channels of VGG19's blocks for pictures of 32 px."""


def milliseconds(run: Callable[[], Any]) -> float:
    """Return processor milliseconds per step of the second call; the first one compiles."""
    run()
    began = time.process_time()
    run()
    return (time.process_time() - began) / STEPS * 1e3


def measure(kernels: str, size: int) -> dict[str, float]:
    """Time `STEPS` steps as separate programs and as one scan."""
    objective, solver = swag.Settings().full_objective, swag.Adam()
    content, style = jax.random.uniform(jax.random.key(0), (2, size, size, 3))
    operations: Any = swag.backbones.Operations(kernels=kernels)  # pyright: ignore[reportArgumentType]
    network = swag.backbones.create("vgg19", until=objective.style_layers[-1], operations=operations)
    network = jax.jit(lambda network: network.frozen())(network)
    targets = swag.make_targets(network, content, [style], objective=objective, blend=jnp.ones(1))

    def evaluation(network: Any, targets: Any) -> Any:
        return jax.value_and_grad(lambda x: swag.evaluate(network, x, targets, objective=objective), has_aux=True)

    one = jax.jit(lambda network, targets, state: solver.step(evaluation(network, targets), state))
    scan = jax.jit(
        lambda network, targets, state: optimize.run(evaluation(network, targets), solver, state, steps=STEPS)
    )
    start = solver.init(content, objective.terms)

    def alone() -> None:
        state = start
        for _ in range(STEPS):
            state = one(network, targets, state)
        jax.block_until_ready(state.image)

    return {
        "alone": milliseconds(alone),
        "scan": milliseconds(lambda: jax.block_until_ready(scan(network, targets, start)[0].image)),
    }


def measure_convolution(kernels: str, rows: int, channels: int) -> float:
    """Time a convolution with its gradients on maps of `rows` x `rows`, in bfloat16."""
    operations: Any = swag.backbones.Operations("bfloat16", kernels=kernels)  # pyright: ignore[reportArgumentType]
    x = jax.random.normal(jax.random.key(0), (BATCH, rows, rows, channels), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels), jnp.bfloat16)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        value, pull = jax.vjp(lambda x, k: operations.convolve(x, k, padding=((1, 1), (1, 1))), x, kernel)
        return value, pull(cotangent)

    def run() -> None:
        for _ in range(STEPS):
            jax.block_until_ready(both(x, kernel, x))

    return milliseconds(run)


def main() -> None:
    """Measure both kinds of kernels and write them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/speed_kernels-jaxVERSION.json")
    arguments = parser.parse_args()
    found = {kernels: measure(kernels, arguments.size) for kernels in ("cpu", "plain")}
    for kernels, times in found.items():
        print(f"jax {jax.__version__}  {kernels:5}  " + "  ".join(f"{k} {v:.0f} ms" for k, v in times.items()))
    convolutions = {
        f"{rows}x{rows}x{channels}": {kernels: measure_convolution(kernels, rows, channels) for kernels in found}
        for rows, channels in MAPS
    }
    for name, times in convolutions.items():
        print(f"bfloat16 convolution of {name}:  " + "  ".join(f"{k} {v:.0f} ms" for k, v in times.items()))
    about = {"jax": jax.__version__, "python": platform.python_version(), "size": arguments.size, "batch": BATCH}
    record = {**about, "step_cpu_ms": found, "bfloat16_convolution_cpu_ms": convolutions}
    output = arguments.output or RESULTS / f"speed_kernels-jax{jax.__version__}.json"
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
