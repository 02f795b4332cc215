"""One step of training: images through encoder and generator to losses, gradients averaged over devices."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from swag_jax import devices
from swag_jax._types import Activations, Images, Key, Scalar
from swag_jax.backbones import Backbone, Compute
from swag_jax.generators import Generator
from swag_jax.generators.adaattn import AdaAttN
from swag_jax.generators.kinds import Config, with_parameters
from swag_jax.images.normalize import normalize
from swag_jax.losses import (
    AdaAttNObjective,
    AdaINObjective,
    Objective,
    SANetObjective,
    Targets,
    adaattn,
    adain,
    content_targets,
    objective,
    sanet,
)
from swag_jax.losses.objective import Target, Terms
from swag_jax.train.settings import TrainSettings
from swag_jax.train.state import State, make_optimizer, step_key

BatchFeatures: TypeAlias = dict[str, Activations]
"""Activations of a batch of images by layer."""

StyleTargets: TypeAlias = dict[str, Target] | None
"""What a Johnson generator's one style is compared by; none for the others, which see styles."""

Report: TypeAlias = dict[str, Scalar]
"""The loss (`total`), every weighted term, and the `update`'s length."""

BatchLosses: TypeAlias = tuple[Float[Array, " batch"], dict[str, Float[Array, " batch"]]]
"""Total and terms of each image."""


def encode(encoder: Backbone, images: Images, *, layers: tuple[str, ...]) -> BatchFeatures:
    """Return activations of a batch of images.

    Args:
        encoder: The network to read.
        images: Images, `batch height width 3` in [0, 1].
        layers: The layers wanted.

    Returns:
        `batch rows columns channels` by layer.
    """
    wanted = encoder.check_layers(layers)
    found = encoder(normalize(images, encoder.normalization), until=wanted[-1])
    return {layer: found[layer] for layer in wanted}


def paint(generator: Any, encoder: Backbone, contents: Images, styles: Images | None, *, key: Key) -> Images:
    """Return what a generator makes of images.

    Args:
        generator: Any generator.
        encoder: The network that it reads.
        contents: The content images.
        styles: As many style images; none for Johnson's.
        key: Draws the style positions that AdaAttN keeps.
    """
    if styles is None:
        return generator(contents)
    content, style = (encode(encoder, images, layers=generator.layers) for images in (contents, styles))
    return _generated(generator, content, style, contents, key)


def _generated(generator: Any, content: BatchFeatures, style: BatchFeatures, contents: Images, key: Key) -> Images:
    _, height, width, _ = contents.shape
    if isinstance(generator, AdaAttN):
        return generator(content, style, size=(height, width), key=key)
    return generator(content, style, size=(height, width))


def evaluate(
    generator: Generator,
    encoder: Backbone,
    style_targets: StyleTargets,
    contents: Images,
    styles: Images | None,
    *,
    settings: TrainSettings,
    key: Key,
) -> tuple[Scalar, Terms]:
    """Return the loss of a batch and its weighted terms, averaged over the images.

    Args:
        generator: Of the settings' kind.
        encoder: The frozen network.
        style_targets: Of a Johnson generator's style.
        contents: Content images, `batch height width 3` in [0, 1].
        styles: As many style images; none for Johnson's.
        settings: The objective.
        key: Draws the style positions that AdaAttN keeps.

    Returns:
        The total, and the terms by name.
    """
    of = settings.objective
    if isinstance(of, Objective):
        losses = _of_one_style(generator, encoder, style_targets or {}, contents, of)
    else:
        assert styles is not None  # of every kind but Johnson's
        losses = _of_pairs(generator, encoder, contents, styles, of, key)
    return jax.tree.map(jnp.mean, losses)


def _of_one_style(
    generator: Any, encoder: Backbone, style_targets: dict[str, Target], contents: Images, of: Objective
) -> BatchLosses:
    def one(content, output):
        targets = jax.lax.stop_gradient(content_targets(encoder, content, objective=of))
        return objective.evaluate(encoder, output, Targets(targets, style_targets), objective=of)

    return jax.vmap(one)(contents, generator(contents))


def _of_pairs(
    generator: Generator,
    encoder: Backbone,
    contents: Images,
    styles: Images,
    of: AdaAttNObjective | AdaINObjective | SANetObjective,
    key: Key,
) -> BatchLosses:
    layers = tuple(dict.fromkeys((*of.layers, *generator.layers)))
    both = encode(encoder, jnp.concatenate([contents, styles]), layers=layers)
    content, style = _halves(both)
    if isinstance(of, SANetObjective):
        return _with_identities(generator, encoder, content, style, contents, styles, of, key)
    output = encode(encoder, _generated(generator, content, style, contents, key), layers=of.layers)
    if isinstance(of, AdaINObjective):
        return jax.vmap(lambda *features: adain.evaluate(*features, objective=of))(output, content, style)
    return jax.vmap(lambda *features: adaattn.evaluate(*features, objective=of, key=key))(output, content, style)


def _with_identities(
    generator: Generator,
    encoder: Backbone,
    content: BatchFeatures,
    style: BatchFeatures,
    contents: Images,
    styles: Images,
    of: SANetObjective,
    key: Key,
) -> BatchLosses:
    """Return SANet's loss; content in style, content in content, and style in style are painted as one batch."""
    images = jnp.concatenate([contents, contents, styles])
    first, second = _joined(content, content, style), _joined(style, content, style)
    found = _generated(generator, first, second, images, key)
    features = encode(encoder, found, layers=of.layers)

    def one(image, found, first, second, features):
        """Take what is `3 ...` of one pair."""
        output, *own = ({layer: x[i] for layer, x in features.items()} for i in range(3))
        identities = [
            sanet.Identity(image[i], found[i], {layer: x[i] for layer, x in first.items()}, own[i - 1]) for i in (1, 2)
        ]
        content, style = ({layer: x[0] for layer, x in f.items()} for f in (first, second))
        return sanet.evaluate(output, content, style, identities, objective=of)

    thirds = jax.tree.map(lambda x: x.reshape(3, -1, *x.shape[1:]), (images, found, first, second, features))
    return jax.vmap(one, in_axes=1)(*thirds)


def _halves(both: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    first, second = ({layer: jnp.split(x, 2)[i] for layer, x in both.items()} for i in range(2))
    return first, second


def _joined(*features: dict[str, Any]) -> dict[str, Any]:
    return {layer: jnp.concatenate([f[layer] for f in features]) for layer in features[0]}


def make_step(settings: TrainSettings, config: Config) -> Callable[..., tuple[State, Report]]:
    """Return one step of training over all devices.

    Args:
        settings: Objective, precision and optimizer.
        config: What the generator is made of.

    Returns:
        Encoder, style targets, state and a batch split over the devices (8-bit images `content` and, but for
        Johnson's, `style`) to the next state and a report. The state's memory is given up.
    """
    optimizer, compute = make_optimizer(settings), Compute(precision=settings.precision)

    def step(encoder: Backbone, style_targets: StyleTargets, state: State, batch: Any) -> tuple[State, Report]:
        contents, styles = _unit(batch["content"]), _unit(batch["style"]) if "style" in batch else None
        key = step_key(state)

        def loss(parameters):
            generator = with_parameters(config, parameters, compute=compute)
            return evaluate(generator, encoder, style_targets, contents, styles, settings=settings, key=key)

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


def _unit(images: Any) -> Images:
    return images.astype(jnp.float32) / 255
