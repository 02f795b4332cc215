"""The start of a training: the frozen encoder, and the state that is carried from step to step.

The state holds parameters, optimizer, step and random key, as plain arrays.
"""

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from swag_jax import backbones, generators
from swag_jax._checks import error
from swag_jax.backbones import Backbone
from swag_jax.backbones.zoo import padding_option
from swag_jax.generators.checkpoint import find_generator
from swag_jax.generators.method import Config
from swag_jax.generators.registry import parameter_shapes, with_parameters
from swag_jax.params import Source
from swag_jax.params.tree import flat_parameters
from swag_jax.train.settings import DRAWN, TrainSettings

START = "choose another checkpoint, or the layers and flags that it was trained with"

State: TypeAlias = dict[str, Any]
"""`parameters` by flat name, `optimizer`, `step`, and `key` as raw data; a pytree of arrays."""


def load_encoder(settings: TrainSettings) -> tuple[Backbone, Source]:
    """Return the frozen network that generator and losses read, and the source of its weights."""
    layers = tuple(dict.fromkeys((*settings.objective.layers, *settings.read_layers)))
    return backbones.load(
        settings.encoder,
        weights=settings.weights,
        layers=layers,
        seed=settings.seed,
        precision=settings.precision,
        frozen=True,
        **padding_option(settings.encoder, settings.padding),
    )


def learning_rate(settings: TrainSettings) -> optax.Schedule:
    r"""Return the step size by step.

    .. math:: \eta_t = \frac{\eta_0}{1 + \delta t} \, d^{\,\#\{s : t \ge s T\}}

    with T the steps in all, s the shares of `drops` and d the factor of each drop.

    Example:
        >>> from swag_jax.train import recipe
        >>> rate = learning_rate(recipe("adaattn").replace(steps=10))
        >>> [round(float(rate(step)), 8) for step in (0, 3, 4, 6, 8)]
        [0.0002, 0.0002, 6e-05, 1.8e-05, 5.4e-06]
    """
    places = [round(share * settings.steps) for share in settings.drops]

    def rate(step: Any) -> Any:
        drops = sum(jnp.asarray(step >= place, jnp.float32) for place in places)
        return settings.learning_rate / (1 + settings.decay * step) * settings.drop**drops

    return rate


def make_optimizer(settings: TrainSettings) -> optax.GradientTransformation:
    """Return Adam with PyTorch's defaults, which every published recipe uses."""
    return optax.adam(learning_rate(settings), b1=0.9, b2=0.999, eps=1e-8)


def initial_state(settings: TrainSettings, config: Config) -> State:
    """Return the state before the first step, in host memory; equal seeds give equal states."""
    parameters = flat_parameters(_first_generator(settings, config))
    state = {
        "parameters": parameters,
        "optimizer": make_optimizer(settings).init(parameters),
        "step": np.zeros((), np.int32),
        "key": jax.random.key_data(jax.random.key(settings.seed)),
    }
    return jax.tree.map(np.asarray, state)


def step_key(state: State) -> Any:
    """Return the random key of the next step; the same on every device."""
    return jax.random.fold_in(jax.random.wrap_key_data(state["key"]), state["step"])


def _first_generator(settings: TrainSettings, config: Config) -> generators.Generator:
    if settings.init in DRAWN:
        drawn = generators.create(config, seed=settings.seed)
        return drawn if settings.init == "random" else _scale_kept(drawn, seed=settings.seed)
    found = generators.load_generator(find_generator(settings.init, words=DRAWN))
    if parameter_shapes(found.config) != parameter_shapes(config):
        raise error(f"{settings.init} must have the parameters of {config}", got=found.config, cure=START)
    return found


def _scale_kept(generator: generators.Generator, *, seed: int) -> generators.Generator:
    # Decoder kernels of variance 2 / inputs (He et al. 2015, equation 10) and biases 0. PyTorch's defaults shrink the
    # signal to about 0.41 per layer, 3e-4 after the nine of AdaIN: it first paints the same image for all, and bfloat16
    # does not even see the differences.
    arrays, key = flat_parameters(generator), jax.random.key(seed)
    for i, name in enumerate(sorted(name for name in arrays if name.startswith("decoder."))):
        shape = arrays[name].shape
        if name.endswith(".kernel"):
            deviation = (2 / math.prod(shape[:-1])) ** 0.5
            arrays[name] = deviation * jax.random.normal(jax.random.fold_in(key, i), shape, jnp.float32)
        else:
            arrays[name] = jnp.zeros(shape, jnp.float32)
    return with_parameters(generator.config, arrays)
