"""How much of the content an image keeps: structural similarity, and distances of features at one layer.

All of these compare position by position, so both sides have one shape. Features are `height width channels` of one
image; `jax.vmap` makes the batch. Results are float32 numbers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import error
from swag_jax._numerics import widen
from swag_jax._types import Features, Image, Scalar
from swag_jax.images._arrays import as_image
from swag_jax.losses import content

WINDOW, WINDOW_DEVIATION = 11, 1.5
"""Sides and standard deviation, in pixels, of the Gaussian window of Wang et al. 2004, section III-B."""

C1, C2 = 0.01**2, 0.03**2
"""(K1 L)² and (K2 L)² of Wang et al. 2004, section III-B, for the range L = 1."""

ROWS_AT_ONCE = 256
"""Rows of the self-similarity that are held at once: 16 MiB each of three arrays at 512 x 512 pixels. Our choice."""


def ssim(image: Image, reference: Image) -> Scalar:
    r"""Return the mean structural similarity of two images.

    .. math:: \operatorname{mean} \frac{(2 \mu_x \mu_y + C_1) (2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1) (\sigma_x^2 + \sigma_y^2 + C_2)}

    Means, variances and the covariance are those under a Gaussian window, at every position where it lies inside the
    image, for red, green and blue apart: what evaluations of style transfer report (`SSIM(channel=3)` of
    pytorch-msssim, as in jiwoogit/StyleID; `channel_axis` of scikit-image). The paper itself has gray images.

    Args:
        image: An image, at least 11 pixels either way.
        reference: The image it is compared with, of the same shape.

    Returns:
        A number in [-1, 1]; 1 for equal images.

    Raises:
        UserError: If a side is shorter than the window, or an array is no image.

    Example:
        >>> float(ssim(jnp.ones((16, 16, 3)), jnp.ones((16, 16, 3))))
        1.0

    References:
        Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
        Similarity", IEEE Transactions on Image Processing 13, 2004, eq. 13.
    """
    image, reference = as_image(image, "compared"), as_image(reference, "reference")
    if min(image.shape[:2]) < WINDOW:
        raise error(f"both sides must be at least {WINDOW} px for SSIM", got="{} x {}".format(*image.shape[:2]))
    x, y = image, reference
    # Variances do not change with a shift, and lose fewer digits around zero.
    offset_x, offset_y = x.mean((0, 1), keepdims=True), y.mean((0, 1), keepdims=True)
    x, y = x - offset_x, y - offset_y
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x**2) - mean_x**2, _windowed(y**2) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + offset_x, mean_y + offset_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return (likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))).mean()


def _windowed(values: Float[Array, "height width channels"]) -> Float[Array, "rows columns channels"]:
    """Average under the window wherever it lies inside, first down, then across."""
    places = np.arange(WINDOW) - WINDOW // 2
    bell = np.exp(-0.5 * (places / WINDOW_DEVIATION) ** 2)
    weights = bell / bell.sum()
    for axis in (0, 1):
        inside = values.shape[axis] - WINDOW + 1
        parts = (lax.slice_in_dim(values, i, i + inside, axis=axis) for i in range(WINDOW))
        values = functools.reduce(jnp.add, (float(w) * part for w, part in zip(weights, parts, strict=True)))
    return values


def content_distance(features: Features, target: Features) -> Scalar:
    r"""Return :math:`\|F - F_c\|^2 / \|F_c - \bar F_c\|^2`, the bar being the mean over all entries.

    The content loss in its relative unit (`swag_jax.losses.content.relative`), which has the same meaning for every
    layer, network and size, so that it can be read in a network that did not make the image.

    Args:
        features: Of the image, `height width channels`.
        target: Of the content image, of the same shape.

    Returns:
        0 for equal features, 1 where all structure is lost; no upper bound.

    Example:
        >>> target = jnp.array([[[0.0], [2.0]]])
        >>> float(content_distance(target, target)), float(content_distance(jnp.ones((1, 2, 1)), target))
        (0.0, 1.0)
    """
    return content.relative(features, target)


def cfsd(features: Features, target: Features) -> Scalar:
    r"""Return the content feature structural distance: how far the likeness of an image's places has changed.

    .. math:: \sum_i \operatorname{KL}(P_i \,\|\, Q_i), \quad P = \operatorname{softmax}_j(F_c F_c^T / C^2), \quad
        Q = \operatorname{softmax}_j(F F^T / C^2)

    The rows of F are the places, C is the number of channels. Meant for VGG19's relu3_1. The division by C² and the
    sum over places are those of StyleID's released code (`PatchSimi` in evaluation/image_metrics.py), which made the
    published numbers, at 512 x 512 pixels: the sum grows with the image, so compare at one size. The paper's own
    formula was not at hand.

    Args:
        features: Of the image, `height width channels`.
        target: Of the content image, of the same shape.

    Returns:
        0 for equal features; no upper bound.

    Example:
        >>> target = jnp.array([[[0.0], [2.0]]])
        >>> float(cfsd(target, target)), round(float(cfsd(jnp.ones((1, 2, 1)), target)), 4)
        (0.0, 0.6031)

    References:
        Chung, Hyun and Heo, "Style Injection in Diffusion", CVPR 2024, section 4; https://github.com/jiwoogit/StyleID.
    """
    channels = features.shape[-1]
    found, wanted = (widen(f).reshape(-1, channels) / channels for f in (features, target))

    def divergence(rows: tuple[Float[Array, " channels"], Float[Array, " channels"]]) -> Scalar:
        # With d the difference of the logits and E the mean under P: KL(P || Q) = log E exp(-(d - E d)). The first form
        # keeps its digits where P and Q are nearly equal; the second is for activations so large that exp overflows.
        row, target_row = rows
        likeness, wanted_likeness = _product(found, row), _product(wanted, target_row)
        logs, difference = jax.nn.log_softmax(wanted_likeness), wanted_likeness - likeness
        weights = jnp.exp(logs)
        centered = difference - (weights * difference).sum()
        near = jnp.log1p((weights * jnp.expm1(jnp.minimum(-centered, 1.0))).sum())
        return jnp.where(jnp.abs(centered).max() < 1, near, jax.nn.logsumexp(logs - centered))

    return lax.map(divergence, (found, wanted), batch_size=ROWS_AT_ONCE).sum()


def _product(matrix: Float[Array, "rows channels"], vector: Float[Array, " channels"]) -> Float[Array, " rows"]:
    return jnp.matmul(matrix, vector, precision=lax.Precision.HIGHEST)
