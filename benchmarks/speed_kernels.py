"""Time saved by the CPU's forms of convolution and pooling: in a step of stylization, and in convolutions of training.

    python benchmarks/speed_kernels.py --size 256

Prints and writes processor milliseconds, which other work on the machine disturbs least: per step of Adam on VGG19
(loss, gradient, update), alone and inside `lax.scan`; and per 3x3 convolution with both its gradients, as in training
of VGG19 (bfloat16) and of AdaIN (float32, reflected).
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

import swag_jax as swag
from swag_jax._types import Border
from swag_jax.backbones import Precision
from swag_jax.optimize import solvers

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = 3


class Convolution(NamedTuple):
    """A 3x3 convolution of a batch of square maps.

    Attributes:
        rows: Of a map.
    """

    precision: Precision
    images: int
    rows: int
    channels_in: int
    channels_out: int
    border: Border = "zeros"

    def __str__(self) -> str:
        maps = f"{self.images} maps of {self.rows}x{self.rows}"
        return f"{self.precision}, {maps}, {self.channels_in} to {self.channels_out} channels, {self.border}"


CONVOLUTIONS = (
    *(Convolution("bfloat16", 64, rows, n, n) for rows, n in ((32, 64), (16, 128), (8, 256), (4, 512), (2, 512))),
    *(Convolution("float32", 4, rows, n, n, "reflect") for rows, n in ((128, 64), (64, 128), (32, 256), (16, 512))),
    Convolution("float32", 4, 128, 64, 3, "reflect"),
)
"""VGG19's blocks for images of 32 px, and AdaIN's decoder for images of 128 px."""


def milliseconds(run: Callable[[], Any]) -> float:
    """Return processor milliseconds per step of the second call; the first one compiles."""
    run()
    began = time.process_time()
    run()
    return (time.process_time() - began) / STEPS * 1e3


def measure(kernels: str, size: int) -> dict[str, float]:
    """Time `STEPS` steps as separate programs and as one scan."""
    objective, solver = swag.StylizeSettings().full_objective, swag.Adam()
    content, style = jax.random.uniform(jax.random.key(0), (2, size, size, 3))
    compute: Any = swag.backbones.Compute(kernels=kernels)  # pyright: ignore[reportArgumentType]
    network = swag.backbones.create("vgg19", until=objective.style_layers[-1], compute=compute)
    network = jax.jit(swag.Backbone.frozen)(network)
    targets = swag.make_targets(network, content, [style], objective=objective)

    def evaluation(network: Any, targets: Any) -> Any:
        return jax.value_and_grad(lambda x: swag.evaluate(network, x, targets, objective=objective), has_aux=True)

    one = jax.jit(lambda network, targets, state: solver.step(evaluation(network, targets), state))
    scan = jax.jit(
        lambda network, targets, state: solvers.run(evaluation(network, targets), solver, state, steps=STEPS)
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


def measure_convolution(kernels: str, case: Convolution) -> float:
    """Time a convolution with its gradients."""
    compute: Any = swag.backbones.Compute(case.precision, kernels=kernels)  # pyright: ignore[reportArgumentType]
    maps = (case.images, case.rows, case.rows)
    x = jax.random.normal(jax.random.key(0), (*maps, case.channels_in), compute.dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, case.channels_in, case.channels_out), compute.dtype)
    gradient = jax.random.normal(jax.random.key(2), (*maps, case.channels_out), compute.dtype)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return compute.convolve(x, kernel, padding=((1, 1), (1, 1)), border=case.border)

        value, pull = jax.vjp(convolve, x, kernel)
        return value, pull(gradient)

    def run() -> None:
        for _ in range(STEPS):
            jax.block_until_ready(both(x, kernel, gradient))

    return milliseconds(run)


def main() -> None:
    """Measure both kinds of kernels and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/speed_kernels-jaxVERSION.json")
    arguments = parser.parse_args()
    found = {kernels: measure(kernels, arguments.size) for kernels in ("cpu", "plain")}
    for kernels, times in found.items():
        print(f"jax {jax.__version__}  {kernels:5}  " + "  ".join(f"{k} {v:.0f} ms" for k, v in times.items()))
    convolutions = {}
    for case in CONVOLUTIONS:
        times = convolutions[str(case)] = {kernels: measure_convolution(kernels, case) for kernels in found}
        print(f"convolution, {case}:  " + "  ".join(f"{k} {v:.0f} ms" for k, v in times.items()))
    about = {"jax": jax.__version__, "python": platform.python_version(), "size": arguments.size}
    record = {**about, "step_cpu_ms": found, "convolution_cpu_ms": convolutions}
    output = arguments.output or RESULTS / f"speed_kernels-jax{jax.__version__}.json"
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
