"""One step of training: images through encoder and generator to losses, gradients averaged over devices."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from swag_jax import devices
from swag_jax._types import Images, Key, Scalar
from swag_jax.backbones import Backbone, Compute
from swag_jax.generators.method import Config, Generator
from swag_jax.generators.registry import with_parameters
from swag_jax.train.settings import TrainSettings
from swag_jax.train.state import State, make_optimizer, step_key

Report: TypeAlias = dict[str, Scalar]
"""The loss (`total`), every weighted term, and the `update`'s length."""


def make_step(settings: TrainSettings, config: Config, *, warmup: bool = False) -> Callable[..., tuple[State, Report]]:
    r"""Return one step of training over all devices.

    A step of the warm-up minimizes the mean squared difference of pixels between images x, contents and styles alike,
    and what the generator makes of each in its own style:

    .. math:: \frac{1}{3 H W} \lVert g(x, x) - x \rVert^2

    Returns:
        Encoder, style targets (`Method.style_targets`), state and a batch split over the devices (8-bit images
        `content` and, if the generator reads styles, `style`) to the next state and a report. The state's memory is
        given up.
    """
    optimizer, compute = make_optimizer(settings), Compute(precision=settings.precision)

    def step(encoder: Backbone, style_targets: Any, state: State, batch: Any) -> tuple[State, Report]:
        contents, styles = _unit(batch["content"]), _unit(batch["style"]) if "style" in batch else style_targets
        options = {"objective": settings.objective, "key": step_key(state)}

        def loss(parameters):
            generator = with_parameters(config, parameters, compute=compute)
            if warmup:
                images = jnp.concatenate([contents, styles]) if generator.reads_styles else contents
                return _reconstruction(generator, encoder, images, key=options["key"])
            return jax.tree.map(jnp.mean, settings.method.loss(generator, encoder, contents, styles, **options))

        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state["parameters"])
        report, gradient = devices.mean(({"total": total, **terms}, gradient))
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to whole numbers
            updates, memory = optimizer.update(gradient, state["optimizer"], state["parameters"])
        after = {
            "parameters": optax.apply_updates(state["parameters"], updates),
            "optimizer": memory,
            "step": state["step"] + 1,
            "key": state["key"],
        }
        return after, {**report, "update": optax.tree.norm(updates)}

    return devices.parallel(step, split=(3,), arguments=4, donated=(2,))


def _reconstruction(generator: Generator, encoder: Backbone, images: Images, *, key: Key) -> tuple[Scalar, Report]:
    # No gradient passes through the encoder, which takes most of a step's time otherwise.
    again = generator.stylize(encoder, images, images if generator.reads_styles else None, key=key)
    difference = jnp.mean(jnp.square(again - images))
    return difference, {"pixels": difference}


def _unit(images: Any) -> Images:
    return images.astype(jnp.float32) / 255
