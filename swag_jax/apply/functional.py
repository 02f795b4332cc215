r"""One image painted by a generator: pure functions for `jax.vmap` and devices.

With t_k what is transferred from style k at a position, b_k its weight in the blend and m_k in [0, 1] its mask there
(1 without masks), what is decoded is

.. math:: c \, \frac{\sum_k b_k m_k t_k}{\sum_k b_k m_k} + (1 - c) \, t_0, \quad c = \alpha \max_k m_k

where t_0 is the content unstyled: for AdaIN its own features, as in its paper; for SANet and AdaAttN what is
transferred from the content itself, our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._pytree import pytree_dataclass
from swag_jax._types import Activations, AnyImage, ChannelMoments, Features, Image, Key, Mask, Masks, Scalar
from swag_jax.apply.buckets import Ends, ending
from swag_jax.apply.stylizer import Stylizer
from swag_jax.generators import Generator
from swag_jax.generators._layers import BatchMoments
from swag_jax.statistics import moments

Moments: TypeAlias = Mapping[str, ChannelMoments]
"""Mean and deviation of a whole image at each norm."""


@pytree_dataclass
@dataclass(frozen=True)
class StyleConditioning:
    """The styles to paint in, the same for every image of a batch.

    Attributes:
        kept: What the generator has read of each style; empty if it reads none.
        strength: 1 is all style, 0 the content unstyled.
    """

    kept: tuple[Any, ...]
    blend: Float[Array, " styles"]
    strength: Scalar


def read(stylizer: Stylizer, image: AnyImage, *, key: Key | None = None, region: Mask | None = None) -> Any:
    """Return what the generator keeps of one style image.

    Args:
        key: Draws the positions that attention keeps, if there are too many.
        region: The part of the image to be used; default: all of it.
    """
    generator, region = stylizer.generator, None if region is None else region[None]
    return generator.read(generator.encode(stylizer.encoder, image[None]), key=key, region=region)


def paint(
    stylizer: Stylizer,
    conditioning: StyleConditioning,
    content: Image,
    *,
    masks: Masks | None = None,
    own: Any = None,
    mixed: bool = False,
    known: Moments | None = None,
    ends: Ends | None = None,
) -> Image:
    """Return the painted image, which may leave [0, 1] a little.

    Args:
        content: Height and width multiples of `Stylizer.stride`.
        masks: How much each style counts at each pixel; default: 1.
        own: What was `read` of the content as its own style; needed if `mixed` and `Stylizer.needs_own`.
        mixed: Whether the unstyled content shows through a strength or masks below 1; otherwise they are taken to be 1,
            at no cost.
        known: Moments of the whole image, if `content` is a part of it.
        ends: Where the image ends in `content`, if it does so before (see `buckets`).
    """
    if ends is not None:
        stylizer = ending(stylizer, (content.shape[0], content.shape[1]), ends)
    generator = stylizer.generator
    batch = None if known is None else jax.tree.map(lambda x: x[None], dict(known))
    encoded = generator.encode(stylizer.encoder, content[None])
    if ends is not None:
        batch = {name: _inner_moments(generator, x) for name, x in generator.normed(encoded, {}).items()}
    found = [generator.transfer(encoded, kept, known=batch) for kept in conditioning.kept or (None,)]
    plain = generator.unstyled(encoded, own, known=batch) if mixed else [None] * len(found[0])
    transferred = tuple(
        _mixed([x[0] for x in styled], None if y is None else y[0], conditioning, masks)[None]
        for *styled, y in zip(*found, plain, strict=True)
    )
    return generator.decode(transferred, size=(content.shape[0], content.shape[1]))[0]


def _inner_moments(generator: Generator, features: Activations) -> BatchMoments:
    region = generator.compute.region(*features.shape[1:3])
    return jax.vmap(lambda x: moments(x, unbiased=generator.unbiased, region=region))(features)


def _mixed(
    styled: Sequence[Features], plain: Features | None, conditioning: StyleConditioning, masks: Masks | None
) -> Features:
    # All are linear up to the decoder: for AdaAttN this mixes the mean and deviation maps of the styles, as its paper
    # does. Styles of weight 0 must not uncover the content either.
    rows, columns, _ = styled[0].shape
    if masks is None:
        shares = jnp.ones((len(styled), 1, 1), jnp.float32)
    else:  # averaged over the pixels of each position, which are a whole number
        height, width = masks.shape[1:]
        shares = masks.reshape(-1, rows, height // rows, columns, width // columns).mean((2, 4))
    shares = jnp.where(conditioning.blend[:, None, None] > 0, shares, 0.0)
    parts = conditioning.blend[:, None, None] * shares
    total = parts.sum(0)
    parts = parts / jnp.where(total > 0, total, 1.0)[None]  # 0 where no style counts
    mixture = jnp.sum(parts[..., None] * jnp.stack(styled), 0)
    if plain is None:
        return mixture
    covered = (conditioning.strength * shares.max(0))[..., None]
    return covered * mixture + (1 - covered) * plain
