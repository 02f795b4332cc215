"""What each of the CPU's forms of convolution and pooling saves of a whole step: loss, gradient and Adam.

    python benchmarks/speed_kernels.py --presets gatys_vgg19 swag_resnet50 --sizes 128 256
    python benchmarks/speed_kernels.py --presets swag_googlenet --sizes 128 --forms pool
    python benchmarks/speed_kernels.py --presets --recipes adain-small --sizes 64 128 --precision float32 --forms blocks

Turns off one form after another, and writes how many times the processor time, which other work on the machine disturbs
least, a step then takes. All variants are compiled first and then take turns.
"""

import argparse
import contextlib
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

import swag_jax as swag
from swag_jax import devices, presets, train
from swag_jax.backbones._layers import PRECISIONS
from swag_jax.backbones.kernels import _choice, _pool
from swag_jax.optimize import solvers
from swag_jax.train.state import initial_state, load_encoder
from swag_jax.train.step import make_step

RESULTS = Path(__file__).resolve().parent / "results"
STEPS = 2
FORMS = (
    *dict.fromkeys(f.name for f in (*_choice.FORMS, *_choice.KERNEL_GRADIENTS) if f.name != "xla"),
    "pool",
    "prepare",
)


@contextlib.contextmanager
def without(form: str) -> Iterator[None]:
    """Turn a form off; `none` turns off nothing, `all` all of them."""
    with contextlib.ExitStack() as stack:
        if form == "all":
            stack.enter_context(mock.patch.dict("os.environ", {_choice.VARIABLE: "xla"}))
        elif form == "pool":
            stack.enter_context(mock.patch.object(_pool, "uses_cpu_forms", return_value=False))
        elif form == "prepare":
            stack.enter_context(mock.patch("swag_jax.backbones.kernels.prepare", lambda kernel, _: kernel))
        for table in ("FORMS", "KERNEL_GRADIENTS"):
            kept = tuple(f for f in getattr(_choice, table) if f.name != form)
            stack.enter_context(mock.patch.object(_choice, table, kept))
        yield


def compiled(settings: swag.StylizeSettings, size: int) -> Callable[[], Any]:
    """Return what takes `STEPS` steps of a preset, in the forms that are on."""
    objective, solver = settings.full_objective, swag.Adam()
    content, style = jax.random.uniform(jax.random.key(0), (2, size, size, 3))
    pooling: dict[str, Any] = {"pooling": "average"} if settings.backbone.startswith("vgg") else {}
    network = swag.backbones.create(settings.backbone, until=objective.style_layers[-1], **pooling)
    network = jax.jit(lambda network: network.frozen())(network)  # a new function: traced anew for each form
    make_targets = jax.jit(lambda n, c, s: swag.make_targets(n, c, [s], objective=objective, blend=jnp.ones(1)))
    arguments = network, make_targets(network, content, style), solver.init(content, objective.terms)

    def run(network: Any, targets: Any, state: Any) -> Any:
        evaluate = jax.value_and_grad(lambda x: swag.evaluate(network, x, targets, objective=objective), has_aux=True)
        return solvers.run(evaluate, solver, state, steps=STEPS)

    program = jax.jit(run).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def trained(settings: train.TrainSettings, size: int) -> Callable[[], Any]:
    """Return what takes `STEPS` steps of training with crops of a size."""
    settings = settings.replace(crop=size, size=size, weights="random")
    encoder, step = load_encoder(settings)[0], make_step(settings, settings.config)
    shape = (settings.batch_size, size, size, 3)
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    batch = devices.split({"content": image, "style": image[::-1]})
    encoder = devices.replicate_global(encoder)
    state = [devices.replicate_global(jax.device_get(initial_state(settings, settings.config)))]

    def run() -> None:
        for _ in range(STEPS):
            state[0] = step(encoder, None, state[0], batch)[0]
        jax.block_until_ready(state[0])

    return run


def measure(make: Callable[[], Callable[[], Any]], forms: tuple[str, ...], rounds: int) -> dict[str, float]:
    """Return processor milliseconds of a step, by what is off."""
    runs = {}
    for form in ("none", *forms):
        with without(form):
            runs[form] = make()
            runs[form]()
    times: dict[str, list[float]] = {form: [] for form in runs}
    for turn in range(rounds):
        for form in list(runs)[:: 1 if turn % 2 else -1]:
            began = time.process_time()
            runs[form]()
            times[form].append((time.process_time() - began) / STEPS * 1e3)
    return {form: statistics.median(found) for form, found in times.items()}


def main() -> None:
    """Measure presets at sizes and write the table down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--presets", nargs="*", default=["gatys_vgg19", "swag_resnet50"])
    parser.add_argument("--recipes", nargs="*", default=[], help="of training, but for Johnson's")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16", help="of training")
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--forms", nargs="+", choices=(*FORMS, "all"), default=FORMS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="default: benchmarks/results/speed_kernels-jaxVERSION.json")
    arguments = parser.parse_args()
    steps = {}
    for size in arguments.sizes:
        makes = {name: functools.partial(compiled, getattr(presets, name), size) for name in arguments.presets}
        for name in arguments.recipes:
            settings = train.recipe(name).replace(precision=arguments.precision)
            makes[f"{name} in {arguments.precision}"] = functools.partial(trained, settings, size)
        for name, make in makes.items():
            found = steps[f"{name}, {size} px"] = measure(make, tuple(arguments.forms), arguments.rounds)
            ratios = "  ".join(f"{form} {found[form] / found['none']:.2f}" for form in arguments.forms)
            print(f"{name}, {size} px: {found['none']:.0f} ms; without {ratios}", flush=True)
    output = arguments.output or RESULTS / f"speed_kernels-jax{jax.__version__}.json"
    record = {"jax": jax.__version__, "python": platform.python_version(), "step_cpu_ms": steps}
    output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
