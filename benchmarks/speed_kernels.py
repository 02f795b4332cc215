"""What the CPU's forms of convolution and pooling save: a step alone and inside `lax.scan`, plain and not.

    python benchmarks/speed_kernels.py --size 256

Prints and writes processor milliseconds per step of Adam on VGG19 (loss, gradient, update); processor time is what
other work on the machine disturbs least.
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


def main() -> None:
    """Measure both kinds of kernels and write them down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/speed_kernels-jaxVERSION.json")
    arguments = parser.parse_args()
    found = {kernels: measure(kernels, arguments.size) for kernels in ("cpu", "plain")}
    for kernels, times in found.items():
        print(f"jax {jax.__version__}  {kernels:5}  " + "  ".join(f"{k} {v:.0f} ms" for k, v in times.items()))
    record = {"jax": jax.__version__, "python": platform.python_version(), "size": arguments.size, "cpu_ms": found}
    output = arguments.output or RESULTS / f"speed_kernels-jax{jax.__version__}.json"
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
