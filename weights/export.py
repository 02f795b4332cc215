"""Turn a training run into a checkpoint that style transfer reads, in 8 bits, and measure what the bits cost.

python weights/export.py runs/resnet50 --data tiny-imagenet-200 -o weights/resnet50-tiny-imagenet.safetensors
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pictures
from flax import nnx
from recipe import Classifier, Recipe, initial_state, merged

from swag_jax import backbones
from swag_jax._checks import UserError, error
from swag_jax._types import Images
from swag_jax.backbones import Backbone
from swag_jax.images import normalize
from swag_jax.params.quantize import dequantize, quantize
from swag_jax.params.safetensors_file import write_safetensors

MEASURED = 32
"""Validation pictures that the error of 8 bits is measured on."""


def read_run(folder: Path) -> tuple[Recipe, Classifier, int]:
    """Return a run's recipe, its classifier with averaged parameters, and how many steps lie behind it.

    Args:
        folder: The run's folder, see `weights/train.py`.

    Raises:
        UserError: If it holds no checkpoint.
    """
    file = folder / "recipe.json"
    if not file.is_file():
        raise error(f"{folder} must hold a run of weights/train.py", got="no recipe.json in it")
    values = json.loads(file.read_text())
    recipe = Recipe(**{**values, "sizes": tuple(map(tuple, values["sizes"]))})
    blank = Recipe(**{**values, "sizes": recipe.sizes, "initial": ""})
    abstract = jax.eval_shape(lambda: initial_state(blank, 1, np.zeros((1, 64, 64, 3), np.uint8)))
    with ocp.CheckpointManager((folder / "checkpoints").absolute()) as manager:
        step = manager.latest_step()
        if step is None:
            raise error(f"{folder} must hold a checkpoint", cure="train longer")
        state = manager.restore(step, args=ocp.args.StandardRestore(abstract))
    return recipe, merged(recipe, "stored", state["averages"]), step


def folded(network: Backbone) -> Backbone:
    """Return a plain VGG19 with the batch norms of `network` folded into its convolutions."""
    arrays = {}
    for name in network.layers:
        if name.startswith("conv"):
            a, b = getattr(network, name).norm.affine()
            arrays[f"{name}.kernel"] = getattr(network, name).kernel[...] * a[None, None, None]
            arrays[f"{name}.bias"] = b
    skeleton = nnx.eval_shape(lambda: backbones.create("vgg19", until=network.layers[-1]))
    return backbones.with_parameters(skeleton, arrays)


def shortened(network: Backbone, name: str, until: str) -> Backbone:
    """Return the network down to layer `until`, in float32."""
    arrays = backbones.flat_parameters(network)
    skeleton = nnx.eval_shape(lambda: backbones.create(name, until=until))
    return backbones.with_parameters(skeleton, arrays)


def feature_errors(network: Backbone, other: Backbone, images: Images) -> dict[str, float]:
    """Return |F' - F| / |F| for every layer, where F and F' are the activations of the two networks."""
    mine, theirs = jax.jit(lambda n, x: n(x))(network, images), jax.jit(lambda n, x: n(x))(other, images)
    return {
        layer: float(jnp.linalg.norm(theirs[layer] - mine[layer]) / jnp.linalg.norm(mine[layer]))
        for layer in network.layers
    }


def export(run: Path, data: Path, output: Path, *, until: str | None, unit_mean: bool) -> dict[str, Any]:
    """Write a run's network in 8 bits; return the error of the features by layer, and the file's size.

    Args:
        run: The run's folder.
        data: The data set, whose validation pictures the error is measured on.
        output: The safetensors file.
        until: The deepest layer to keep; default: all.
        unit_mean: Whether VGG19's filters are rescaled to a mean activation of one (Gatys et al. 2016).

    Raises:
        UserError: If the run or the data cannot be read, or the file cannot be written.
    """
    recipe, classifier, step = read_run(run)
    network = folded(classifier.backbone) if recipe.network == "vgg19" else classifier.backbone
    network = shortened(network, recipe.network, until or network.layers[-1])
    pixels = pictures.read(data, "val").pixels
    some = pixels[np.linspace(0, len(pixels) - 1, min(MEASURED, len(pixels))).astype(int)]
    images = normalize(jnp.asarray(some, jnp.float32) / 255, network.normalization)
    if unit_mean:
        network = backbones.unit_mean(network, images)  # pyright: ignore[reportArgumentType]
    arrays = {name: np.asarray(value) for name, value in backbones.flat_parameters(network).items()}
    coded = quantize(arrays, channel_axis=3)
    errors = feature_errors(network, backbones.with_parameters(network, dequantize(coded)), images)
    write_safetensors(
        output,
        coded,
        {
            "backbone": recipe.network,
            "layout": "native",
            "normalization": network.normalization,
            "padding": "zeros",
            "recipe": json.dumps({**recipe.__dict__, "step": step}),
        },
    )
    return {"step": step, "bytes": output.stat().st_size, "feature_errors": errors}


def main(arguments: list[str] | None = None) -> int:
    """Export; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("--data", type=Path, required=True, help="the data set")
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file")
    parser.add_argument("--until", help="deepest layer to keep (default: all)")
    parser.add_argument("--unit-mean", action="store_true", help="rescale VGG19's filters to a mean activation of one")
    given = parser.parse_args(arguments)
    try:
        report = export(given.run, given.data, given.output, until=given.until, unit_mean=given.unit_mean)
    except UserError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
