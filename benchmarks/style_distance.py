"""How far a picture is from a style in a network that did not make it.

A picture optimized through one network matches that network's Gram matrices; whether it has the style shows in another
one. Used by `gallery.py trained`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

import swag_jax as swag


def style_distance(result: Any, style: Any, network: swag.Backbone) -> float:
    r"""Return the relative squared distance of two pictures' Gram matrices, averaged over the style layers.

    .. math:: \frac{1}{L} \sum_l \|G^l(x) - G^l(s)\|_F^2 \,/\, \|G^l(s)\|_F^2

    Args:
        result: The picture x, `height width 3` in [0, 1].
        style: The style picture s, which may have another size.
        network: A network that x was not optimized through.

    Returns:
        0 for the style itself, 1 for Gram matrices of zero; no upper bound.
    """
    layers = style_layers(network)
    found, wanted = (_grams(network, jnp.asarray(image), layers=layers) for image in (result, style))
    return float(jnp.mean(jnp.stack([_relative(found[layer], wanted[layer]) for layer in layers])))


def style_layers(network: swag.Backbone) -> tuple[str, ...]:
    """Return the default style layers of the zoo's networks that have `network`'s layers."""
    defaults = (swag.backbones.entry(name).style_layers for name in swag.backbones.NAMES)
    return next(layers for layers in defaults if set(layers) <= set(network.layers))


def _relative(gram: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.sum((gram - target) ** 2) / jnp.sum(target**2)


@functools.partial(jax.jit, static_argnames="layers")
def _grams(network: swag.Backbone, image: jax.Array, *, layers: tuple[str, ...]) -> dict[str, jax.Array]:
    features = swag.extract(network, image, layers=layers)
    return {layer: swag.gram(features[layer]) for layer in layers}
