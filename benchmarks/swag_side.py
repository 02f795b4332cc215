"""Stylization by Adam with swag_jax, through its public functions: one side of the speed benchmarks."""

import time
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from stylize_job import LEARNING_RATE, Job

from swag_jax import backbones, devices, losses, optimize
from swag_jax.optimize.solvers import run

MATRIX_PRECISIONS = {"float32": lax.Precision.HIGHEST, "tf32": lax.Precision.HIGH}


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds until the result of `function` is ready."""
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


class SwagSide:
    """The swag_jax side of the benchmark, see `stylize_job.Side`."""

    def __init__(self, job: Job):
        self.job = job
        devices.run_inline()  # as the command line does, here and below
        devices.keep_memory()
        self.solver = optimize.Adam(learning_rate=LEARNING_RATE)
        self.objective = losses.Objective(
            content_layers=(job.content_layer,),
            style_layers=job.style_layers,
            content_weight=job.content_weight,
            style_weight=job.style_weight,
            tv_weight=job.tv_weight,
        )
        precision = cast(backbones.Precision, job.precision)
        self.network, _ = backbones.load(
            job.backbone, weights=job.weights, layers=self.objective.layers, precision=precision, frozen=True
        )
        with np.load(job.images) as images:
            self.contents, styles = (jnp.asarray(images[name][: job.pairs]) for name in ("content", "style"))
        made = jax.jit(self._targets)
        self.targets = [made(self.network, *pair) for pair in zip(self.contents, styles, strict=True)]
        self._map()
        self._restart()
        self.iterate()
        self._restart()

    def _map(self) -> None:
        """Make the programs: of a single image, or of a batch on every device."""
        if not self.job.mapping:
            self.start, self.chunk = jax.jit(self._start), jax.jit(self._chunk, donate_argnums=2)
            self.arguments = (self.network, self.targets[0])
            return
        mapping = cast(devices.Mapping, self.job.mapping)
        self.start = devices.map_batch(self._start, mapping=mapping)
        self.chunk = devices.map_batch(self._chunk, shared=["network"], donated=["state"], mapping=mapping)
        stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *self.targets)
        self.arguments = (devices.replicate(self.network), devices.split(stacked))

    def _restart(self) -> None:
        contents = devices.split(np.asarray(self.contents)) if self.job.mapping else self.contents[0]
        self.state = self.start(contents)

    def _start(self, content):
        return self.solver.init(content, self.objective.terms)

    def _targets(self, network, content, style) -> losses.Targets:
        blend = jnp.ones(1)
        return optimize.make_targets(network, content, [style], objective=self.objective, blend=blend)

    def _loss(self, network, targets, image):
        return losses.evaluate(network, image, targets, objective=self.objective)

    def _gradient(self, network, targets, image):
        return jax.value_and_grad(self._loss, argnums=2, has_aux=True)(network, targets, image)

    def _chunk(self, network, targets, state):
        def evaluate(image):
            return self._gradient(network, targets, image)

        return run(evaluate, self.solver, state, steps=self.job.iterations)

    def iterate(self) -> tuple[float, float]:
        """Take the job's steps; return the loss before the first and before the last of them."""
        self.state, history = self.chunk(*self.arguments, self.state)
        totals = np.asarray(history["total"]).reshape(self.job.pairs, -1)
        return float(totals[:, 0].mean()), float(totals[:, -1].mean())

    def split(self, repeats: int) -> dict[str, list[float]]:
        """Measure `forward`, `backward` and `update` of a single pair in seconds, each `repeats` times.

        Forward is the loss alone; backward is loss and gradient, less the forward of the same repeat.
        """
        arrays = (self.network, self.targets[0], self.contents[0])
        state = jax.jit(self._start)(self.contents[0])
        loss, gradient = jax.jit(self._loss), jax.jit(self._gradient)
        evaluation = gradient(*arrays)
        update = jax.jit(lambda state, found: self.solver.step(lambda _: found, state))
        calls = (lambda: loss(*arrays), lambda: gradient(*arrays), lambda: update(state, evaluation))
        for call in calls:
            jax.block_until_ready(call())
        found: dict[str, list[float]] = {"forward": [], "backward": [], "update": []}
        for _ in range(repeats):
            forward, both, last = map(seconds, calls)
            found["forward"].append(forward)
            found["backward"].append(both - forward)
            found["update"].append(last)
        return found

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of arrays on the accelerator."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def matrix_rate(self, side: int, repeats: int) -> float:
        """Return the best rate, in FLOP/s, of a square matrix product at the job's precision."""
        dtype = jnp.bfloat16 if self.job.precision == "bfloat16" else jnp.float32
        precision = MATRIX_PRECISIONS.get(self.job.precision)
        a, b = jax.random.normal(jax.random.key(0), (2, side, side), dtype)
        product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=precision))
        return 2 * side**3 / min(seconds(lambda: product(a, b)) for _ in range(repeats + 1))

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
