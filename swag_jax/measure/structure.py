"""How much of the content an image keeps: structural similarity, distances of features at one layer, and noise.

All compare position by position, so both arguments have one shape. Features are `height width channels` of one
image; `jax.vmap` makes the batch.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from swag_jax._numerics import widen
from swag_jax._types import Features, Image, Scalar
from swag_jax.images._arrays import as_image, check_sides
from swag_jax.images.color import luminance
from swag_jax.losses import content

WINDOW, WINDOW_DEVIATION = 11, 1.5
"""Sides and standard deviation, in pixels, of the Gaussian window of Wang et al. 2004, section III-B."""

C1, C2 = 0.01**2, 0.03**2
"""(K1 L)² and (K2 L)² of Wang et al. 2004, section III-B, for the range L = 1."""

ROWS_AT_ONCE = 256
"""Rows of the self-similarity in memory at once: 16 MiB each of three arrays at 512 x 512 pixels. Our choice."""


def ssim(image: Image, reference: Image) -> Scalar:
    r"""Return the mean structural similarity of two images, in [-1, 1]; 1 for equal images.

    .. math:: \operatorname{mean} \frac{(2 \mu_x \mu_y + C_1) (2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1) (\sigma_x^2 + \sigma_y^2 + C_2)}

    Means, variances and the covariance are those under a Gaussian window, at every position where it lies inside the
    image, for red, green and blue separately: what evaluations of style transfer report (`SSIM(channel=3)` of
    pytorch-msssim, as in jiwoogit/StyleID; `channel_axis` of scikit-image). The paper itself has gray images: Wang,
    Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13, 2004, eq. 13.

    Raises:
        UserError: If a side is shorter than the window's 11 pixels, or an array is no image.

    Example:
        >>> float(ssim(jnp.ones((16, 16, 3)), jnp.ones((16, 16, 3))))
        1.0
    """
    image, reference = as_image(image, "compared"), as_image(reference, "reference")
    check_sides(image, WINDOW, "SSIM")
    # A shift does not change variances, which lose fewer digits around zero.
    offset_x, offset_y = image.mean((0, 1), keepdims=True), reference.mean((0, 1), keepdims=True)
    x, y = image - offset_x, reference - offset_y
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x, variance_y = _windowed(x**2) - mean_x**2, _windowed(y**2) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + offset_x, mean_y + offset_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return (likeness / ((mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2))).mean()


def _windowed(values: Float[Array, "height width channels"]) -> Float[Array, "rows columns channels"]:
    # Under the window wherever it lies inside, first down, then across.
    places = np.arange(WINDOW) - WINDOW // 2
    bell = np.exp(-0.5 * (places / WINDOW_DEVIATION) ** 2)
    weights = bell / bell.sum()
    for axis in (0, 1):  # the Gaussian is separable
        inside = values.shape[axis] - WINDOW + 1
        parts = (lax.slice_in_dim(values, i, i + inside, axis=axis) for i in range(WINDOW))
        values = functools.reduce(jnp.add, (float(w) * part for w, part in zip(weights, parts, strict=True)))
    return values


NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""The difference of two Laplacians, which edges and slopes hardly move: Immerkaer 1996, section 3."""

FLAT_SHARE, FLAT_WINDOW = 0.25, 9
"""The share of positions that count as flat, and the side of the window, in pixels, that decides it. Our choice."""


def noise(image: Image, content: Image) -> Scalar:
    r"""Return the deviation of the noise that was added to a content's luminance where the content is flat.

    .. math:: \sqrt{\max(0, s^2(Y) - s^2(Y_c))}, \quad
        s(Y) = \sqrt{\pi / 2} \, \tfrac16 \operatorname{mean}_{p \in \text{flat}} |(Y * N)_p|

    N is `NOISE_MASK`. Flat is the quarter of positions around which the content has the least of this difference,
    averaged over 9 x 9 pixels. s is the standard deviation of white noise (J. Immerkaer, "Fast Noise Variance
    Estimation", Computer Vision and Image Understanding 64(2), 1996), and 0 for a linear slope; strokes of more than a
    few pixels count little. Where to measure, and to subtract the content's own, is our choice.

    Raises:
        UserError: If a side is shorter than 11 pixels, or an array is no image.

    Example:
        >>> float(noise(jnp.ones((16, 16, 3)), jnp.ones((16, 16, 3))))
        0.0
    """
    image, content = as_image(image, "measured"), as_image(content, "content")
    check_sides(image, FLAT_WINDOW + 2, "the noise")
    found, given = (jnp.abs(_filtered(luminance(x), NOISE_MASK)) for x in (image, content))
    around = _filtered(given, np.full((FLAT_WINDOW, FLAT_WINDOW), 1 / FLAT_WINDOW**2, np.float32))
    flat = around <= jnp.quantile(around, FLAT_SHARE)

    def deviation(response: Float[Array, "height width"]) -> Scalar:
        margin = FLAT_WINDOW // 2
        inside = response[margin:-margin, margin:-margin]
        return math.sqrt(math.pi / 2) / 6 * (inside * flat).sum() / flat.sum()

    return jnp.sqrt(jnp.maximum(deviation(found) ** 2 - deviation(given) ** 2, 0))


def _filtered(plane: Float[Array, "height width"], mask: np.ndarray) -> Float[Array, "rows columns"]:
    return jax.scipy.signal.convolve2d(plane, jnp.asarray(mask), mode="valid", precision=lax.Precision.HIGHEST)


def content_distance(features: Features, target: Features) -> Scalar:
    r"""Return :math:`\|F - F_c\|^2 / \|F_c - \bar F_c\|^2`, the bar being the mean over all entries.

    0 for equal features and 1 if all structure is lost, without an upper bound: the content loss
    `swag_jax.losses.content.relative`, whose unit lets it be measured in a network that did not make the image.

    Example:
        >>> target = jnp.array([[[0.0], [2.0]]])
        >>> float(content_distance(target, target)), float(content_distance(jnp.ones((1, 2, 1)), target))
        (0.0, 1.0)
    """
    return content.relative(features, target)


def cfsd(features: Features, target: Features) -> Scalar:
    r"""Return the content feature structural distance: how far similarities between an image's positions have changed.

    .. math:: \sum_i \operatorname{KL}(P_i \,\|\, Q_i), \quad P = \operatorname{softmax}_j(F_c F_c^T / C^2), \quad
        Q = \operatorname{softmax}_j(F F^T / C^2)

    It is 0 for equal features; there is no upper bound. The rows of F are the positions, C is the number of channels.
    Meant for VGG19's relu3_1. The division by C² and the sum over positions are those of StyleID's released code
    (`PatchSimi` in evaluation/image_metrics.py), which made the published numbers, at 512 x 512 pixels: the sum grows
    with the image, so compare at one size. The paper's own formula was not available: Chung, Hyun and Heo, "Style
    Injection in Diffusion", CVPR 2024, section 4; https://github.com/jiwoogit/StyleID.

    Example:
        >>> target = jnp.array([[[0.0], [2.0]]])
        >>> float(cfsd(target, target)), round(float(cfsd(jnp.ones((1, 2, 1)), target)), 4)
        (0.0, 0.6031)
    """
    channels = features.shape[-1]
    found, wanted = (widen(f).reshape(-1, channels) / channels for f in (features, target))

    def divergence(rows: tuple[Float[Array, " channels"], Float[Array, " channels"]]) -> Scalar:
        # With d the difference of the logits and E the mean under P: KL(P || Q) = log E exp(-(d - E d)). The first form
        # is exact for nearly equal P and Q; the second holds for activations so large that exp overflows.
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
