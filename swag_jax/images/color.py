"""Colors of images: keep the content's colors, or give one image the colors of another.

Both methods are those of Gatys, Bethge, Hertzmann and Shechtman, "Preserving Color in Neural Artistic Style
Transfer" (2016, https://arxiv.org/abs/1606.05897). Images and results are sRGB `height width 3` in [0, 1].
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swag_jax._numerics import widen
from swag_jax._types import Image

Pixels: TypeAlias = Float[Array, "pixels 3"]
Matrix: TypeAlias = Float[Array, "3 3"]
Variances: TypeAlias = Float[Array, "3"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance: ITU-R BT.601-7, section 2.5.1 (the Y of YIQ and YCbCr)."""

ROUNDING_VARIANCE = (1 / 255) ** 2 / 12
"""Variance of rounding to 8 bits (uniform over one step); anything smaller is not color, and is not amplified."""


def luminance(image: Image) -> Float[Array, "height width"]:
    """Return the luminance Y = 0.299 R + 0.587 G + 0.114 B of every pixel, in [0, 1]."""
    return jnp.einsum("hwc,c->hw", image, jnp.asarray(LUMA, image.dtype), precision=lax.Precision.HIGHEST)


def transfer_luminance(content: Image, stylized: Image) -> Image:
    """Return the luminance of the stylized image with the hues of the content.

    In YIQ a color is (Y, Y, Y) plus an offset that I and Q alone decide. So, with x the content, s the
    stylized image of the same shape, and Y the luminance::

        result = Y(s) + t · (x - Y(x))

    t is 1 if that fits into [0, 1]; otherwise the largest factor that fits, so that luminance and hue stay exact and
    only saturation decreases: our addition.

    References:
        Gatys et al. 2016, "Approach #2: Luminance-only transfer", without its matching of luminance before stylization.
    """
    luma = luminance(stylized)[..., None]
    chroma = content - luminance(content)[..., None]
    return jnp.clip(luma + _fitting(luma, chroma) * chroma, 0, 1)


def _fitting(luma: Float[Array, "height width 1"], chroma: Image) -> Float[Array, "height width 1"]:
    """Return the largest t of at most 1 for which luma + t · chroma stays in [0, 1]."""
    room = jnp.where(chroma > 0, 1 - luma, luma)
    extent = jnp.abs(chroma)
    fits = extent <= room  # also where both are zero, which must not be divided
    limit = jnp.where(fits, 1, room / jnp.where(fits, 1, extent))
    return jnp.min(limit, axis=-1, keepdims=True)


def match_color(image: Image, reference: Float[Array, "reference_height reference_width 3"]) -> Image:
    """Return an image with the mean color and the color covariance of another, clipped to [0, 1].

    With mean m and covariance S of the colors, each root symmetric::

        result = S_reference^(1/2) · S_image^(-1/2) · (image - m_image) + m_reference

    Classically the image is the style, before stylization, and the reference the content. Directions of color in which
    the image does not vary stay constant. Not meant for gradients.

    References:
        Gatys et al. 2016, "Approach #1: Color histogram matching", the "Image Analogies" solution; in
        https://github.com/leongatys/NeuralImageSynthesis it is `match_color` with `mode="pca"`, clipped too.
        The color control of AdaIN (https://arxiv.org/abs/1703.06868) uses the same map, as CORAL.
    """
    pixels = widen(image).reshape(-1, 3)
    mean, covariance = _statistics(pixels)
    wanted_mean, wanted_covariance = _statistics(widen(reference).reshape(-1, 3))
    matching = _product(
        _spectral(wanted_covariance, lambda variances: jnp.sqrt(jnp.maximum(variances, 0))),
        _spectral(covariance, _inverse_root),
    )
    matched = _product(pixels - mean, matching.T) + wanted_mean
    return jnp.clip(matched, 0, 1).reshape(image.shape).astype(image.dtype)


def _statistics(pixels: Pixels) -> tuple[Float[Array, "1 3"], Matrix]:
    """Return the mean color and the covariance (divided by the number of pixels)."""
    mean = jnp.mean(pixels, axis=0, keepdims=True)
    centered = pixels - mean
    return mean, _product(centered.T, centered) / len(pixels)


def _spectral(matrix: Matrix, function: Callable[[Variances], Variances]) -> Matrix:
    """Apply a function to the eigenvalues of a symmetric matrix."""
    variances, directions = jnp.linalg.eigh(matrix)
    return _product(directions * function(variances)[None], directions.T)


def _inverse_root(variances: Variances) -> Variances:
    # A direction without color keeps factor 0: its inverse root would amplify rounding.
    varies = variances > ROUNDING_VARIANCE
    return jnp.where(varies, lax.rsqrt(jnp.where(varies, variances, 1)), 0)


def _product(left: Float[Array, "rows inner"], right: Float[Array, "inner columns"]) -> Float[Array, "rows columns"]:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
