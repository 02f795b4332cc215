r"""One image painted by a generator: pure functions, which `jax.vmap` and devices make many of.

With t_k what is transferred from style k at a position, b_k its weight in the blend and m_k in [0, 1] its mask there
(1 without masks), what is painted is

.. math:: c \, \frac{\sum_k b_k m_k t_k}{\sum_k b_k m_k} + (1 - c) \, t_0, \quad c = \alpha \max_k m_k

where t_0 is the content unstyled: its own features for AdaIN, as in its paper; for SANet and AdaAttN what is
transferred from the content itself, our choice. All are linear up to the decoder, so that for AdaAttN this mixes the
mean and deviation maps of the styles, as its paper does. Johnson's network has no such features: there t_0 is the
content and t_1 the painted image, and pixels are mixed: our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyImage, ChannelMoments, Features, Image, Key, Mask, Scalar
from swag_jax.apply.stylizer import Stylizer
from swag_jax.features import extract
from swag_jax.generators._layers import BatchFeatures, EncoderGenerator
from swag_jax.generators.adain import AdaIN

Masks: TypeAlias = Float[Array, "styles height width"]
"""How much each style counts at each pixel of the content, in [0, 1]."""

Moments: TypeAlias = Mapping[str, ChannelMoments]
"""Mean and deviation of a whole image at each norm."""


@pytree_dataclass
@dataclass(frozen=True)
class StyleConditioning:
    """In which manner an image is to be painted; all of it is the same for every image of a batch.

    Attributes:
        kept: What the generator has read of each style; empty where it reads none.
        blend: Weight of each style.
        strength: 1 is all style, 0 the content unstyled.
    """

    kept: tuple[Any, ...]
    blend: Float[Array, " styles"]
    strength: Scalar


def read(stylizer: Stylizer, image: AnyImage, *, key: Key | None = None, region: Mask | None = None) -> Any:
    """Return what the generator keeps of one style image.

    Args:
        stylizer: The generator and its encoder.
        image: The style image.
        key: Draws the positions that attention keeps, where there are too many.
        region: The part of the image to be used; default: all of it.
    """
    generator = stylizer.generator
    assert isinstance(generator, EncoderGenerator), "this generator reads no style images"
    return generator.read(encode(stylizer, image), key=key, region=None if region is None else region[None])


def paint(
    stylizer: Stylizer,
    manner: StyleConditioning,
    content: Image,
    *,
    masks: Masks | None = None,
    own: Any = None,
    mixed: bool = False,
    known: Moments | None = None,
) -> Image:
    """Return the painted image, which may leave [0, 1] a little.

    Args:
        stylizer: The generator and its encoder.
        manner: Styles, blend and strength.
        content: The content image, height and width multiples of `Stylizer.stride`.
        masks: How much each style counts at each pixel; default: 1.
        own: What was `read` of the content as a style of its own; needed where `mixed` and `needs_own` are true.
        mixed: Whether the unstyled content shows where the strength or all masks are below 1; otherwise they are taken
            to be 1, and nothing is spent on it.
        known: Moments of the whole image, where `content` is a part of it.
    """
    generator = stylizer.generator
    batch = None if known is None else jax.tree.map(lambda x: x[None], dict(known))
    if not isinstance(generator, EncoderGenerator):
        painted = generator(content[None], known=batch)[0]  # pyright: ignore[reportCallIssue]
        return _mixed([painted], content if mixed else None, manner, masks)
    features = encode(stylizer, content)
    found = [generator.transfer(features, kept, known=batch) for kept in manner.kept]
    plain = generator.unstyled(features, own, known=batch) if mixed else [None] * len(found[0])
    transferred = tuple(
        _mixed([x[0] for x in styled], None if y is None else y[0], manner, masks)[None]
        for *styled, y in zip(*found, plain, strict=True)
    )
    return generator.decode(transferred, size=(content.shape[0], content.shape[1]))[0]


def needs_own(stylizer: Stylizer) -> bool:
    """Tell whether the unstyled content is what is transferred from the content itself, which must be `read` then."""
    return stylizer.reads_styles and not isinstance(stylizer.generator, AdaIN)


def encode(stylizer: Stylizer, image: AnyImage) -> BatchFeatures:
    """Return what the generator reads of an image, as a batch of one.

    Args:
        stylizer: The generator and its encoder.
        image: The image.
    """
    assert stylizer.encoder is not None, "this generator reads images"
    found = extract(stylizer.encoder, image, layers=stylizer.generator.layers)
    return {layer: x[None] for layer, x in found.items()}


def _mixed(
    styled: Sequence[Features], plain: Features | None, manner: StyleConditioning, masks: Masks | None
) -> Features:
    """Mix what is transferred from the styles, and that with the unstyled where there is one."""
    rows, columns, _ = styled[0].shape
    shares = jnp.ones((len(styled), 1, 1), jnp.float32) if masks is None else _averaged(masks, rows, columns)
    shares = jnp.where(manner.blend[:, None, None] > 0, shares, 0.0)
    parts = manner.blend[:, None, None] * shares
    total = parts.sum(0)
    parts = parts / jnp.where(total > 0, total, 1.0)[None]
    mixture = jnp.sum(parts[..., None] * jnp.stack(styled), 0)
    if plain is None:
        return mixture
    covered = (manner.strength * shares.max(0))[..., None]
    return covered * mixture + (1 - covered) * plain


def _averaged(masks: Masks, rows: int, columns: int) -> Float[Array, "styles _ _"]:
    """Average masks over the pixels of each position, which are a whole number."""
    height, width = masks.shape[1:]
    return masks.reshape(-1, rows, height // rows, columns, width // columns).mean((2, 4))
