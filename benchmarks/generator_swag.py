"""Generators painting with swag_jax: one side of `speed_generators.py`, see `stylize_job.Side`."""

from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from stylize_job import Job

from swag_jax import backbones, devices, generators
from swag_jax.apply import Stylizer
from swag_jax.apply.functional import StyleConditioning, paint, read
from swag_jax.generators.registry import with_parameters


def load(job: Job) -> Stylizer:
    """Return the generator `job.backbone` with the weights in the folder `job.weights`."""
    folder, precision = Path(job.weights), cast(backbones.Precision, job.precision)
    compute = backbones.Compute(precision)
    if job.backbone == "johnson":
        arrays = {}
        for key, value in load_file(folder / "johnson.safetensors").items():
            name = key.replace(".norm.weight", ".scale").replace(".norm.bias", ".bias").replace("weight", "kernel")
            name = name.replace("output.conv", "output")
            arrays[name] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        config = generators.JohnsonConfig(bounded=False)
        return Stylizer(None, with_parameters(config, arrays, compute=compute))
    generator = generators.load_generator(folder / f"converted-{job.backbone}.safetensors", compute=compute)
    weights = str(folder / "encoder.safetensors")
    encoder, _ = backbones.load("vgg19", weights=weights, layers=generator.layers, precision=precision, frozen=True)
    return Stylizer(encoder, generator)


class GeneratorSide:
    """Encodes content and style, transfers, decodes; a round's "losses" are the mean of the images."""

    def __init__(self, job: Job):
        self.job = job
        devices.run_inline()  # as the command line does, here and below
        devices.keep_memory()
        self.stylizer = load(job)
        with np.load(job.images) as images:
            self.images = [jnp.asarray(images[name]) for name in ("content", "style")]
        self.program = jax.jit(self._paint)
        self.iterate()

    def _paint(self, stylizer: Stylizer, contents: jax.Array, styles: jax.Array) -> jax.Array:
        def one(content: jax.Array, style: jax.Array) -> jax.Array:
            kept = (read(stylizer, style, key=jax.random.key(0)),) if stylizer.reads_styles else ()
            return paint(stylizer, StyleConditioning(kept, jnp.ones(1), jnp.ones(())), content)

        return jax.vmap(one)(contents, styles)

    def iterate(self) -> tuple[float, float]:
        """Paint the batch `iterations` times."""
        found = [self.program(self.stylizer, *self.images) for _ in range(self.job.iterations)]
        return float(found[0].mean()), float(jax.block_until_ready(found[-1]).mean())

    def device_peak_bytes(self) -> int | None:
        """Return the peak memory of arrays on the accelerator."""
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def describe(self) -> dict[str, str]:
        """Return device and versions."""
        return {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
