"""Steps of training with swag_jax: one side of `speed_train.py`, see `stylize_job.Side`."""

from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from generator_swag import load
from stylize_job import Job

from swag_jax import backbones, devices, generators, train
from swag_jax.params.tree import flat_parameters
from swag_jax.train.state import initial_state, load_encoder
from swag_jax.train.step import make_step


def settings_of(job: Job) -> train.TrainSettings:
    """Return the published recipe at the job's size, batch and precision."""
    published = train.recipe(job.backbone)
    return published.replace(
        config=generators.JohnsonConfig(bounded=False) if job.backbone == "johnson" else published.config,
        weights=str(Path(job.weights) / "encoder.safetensors"),
        batch_size=job.pairs,
        size=job.size,
        crop=job.size,
        precision=cast(backbones.Precision, job.precision),
    )


class TrainingSide:
    """Takes steps on one batch; a round's losses are those of its first and its last step."""

    def __init__(self, job: Job):
        self.job, settings = job, settings_of(job)
        devices.run_inline()  # like the command line, here and after the first step
        encoder, _ = load_encoder(settings)
        generator = load(job).generator
        with np.load(job.images) as images:
            batch = {name: (255 * images[name] + 0.5).astype(np.uint8) for name in ("content", "style")}
        style_targets = None
        if not generator.reads_styles:
            style = jnp.asarray(batch.pop("style")[0], jnp.float32) / 255
            made = jax.jit(settings.method.style_targets, static_argnames="objective")
            style_targets = made(encoder, style, objective=settings.objective)
        state = initial_state(settings, generator.config) | {"parameters": flat_parameters(generator)}
        self.step = make_step(settings, generator.config)
        self.start = jax.device_get(state)
        self.arguments = devices.replicate_global(encoder), style_targets
        self.batch = devices.split(batch)
        self._restart()
        self.iterate()
        devices.keep_memory()
        self._restart()

    def _restart(self) -> None:
        self.state = devices.replicate_global(self.start)

    def iterate(self) -> tuple[float, float]:
        """Take the job's steps."""
        totals = []
        for _ in range(self.job.iterations):
            self.state, report = self.step(*self.arguments, self.state, self.batch)
            totals.append(report["total"])
        jax.block_until_ready(self.state)
        return float(totals[0]), float(totals[-1])

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of arrays on the accelerator."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
