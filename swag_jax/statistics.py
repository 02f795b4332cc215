"""Statistics of one layer's features: Gram matrices, moments, instance norm, normalized entropy and peaks.

Results are float32, whatever the features' precision (float64 stays float64).
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swag_jax._numerics import root, widen
from swag_jax._types import ChannelMoments, Features, Gram, Mask, Scalar, StyleFeatures

DEVIATION_EPSILON = 1e-5
"""Added to variances under the root, which are the unbiased ones: `calc_mean_std` of naoto0804/pytorch-AdaIN,
GlebSBrykin/SANET and Huage001/AdaAttN."""


def gram(features: Features, *, mask: Float[Array, "rows columns"] | None = None) -> Gram:
    r"""Return the mean over positions of the outer products of the channels: `channels channels`, symmetric.

    .. math:: G_{ij} = \frac{1}{M} \sum_k F_{ik} F_{jk}, \quad M = \text{height} \cdot \text{width}

    Eq. 1 of the SWAG paper sums over positions; the mean makes it independent of the image's size, and the
    losses put the paper's factors back (`swag_jax.losses.style`). Positions are summed in float32 at least.

    Args:
        mask: How much each position counts, at least 0; the mean is weighted by it. The guided Gram matrix of Gatys et
            al., CVPR 2017, with the square of the guidance channel as the mask. If it is 0 everywhere, so is the
            matrix. Default: all count alike.

    Example:
        >>> gram(jnp.array([[[1.0, 2.0]], [[3.0, 0.0]]])).tolist()
        [[5.0, 1.0], [1.0, 2.0]]
    """
    count = float(features.shape[0] * features.shape[1])
    if mask is not None:
        total = mask.sum()
        shares = jnp.where(total > 0, mask / jnp.where(total > 0, total, 1.0), 0.0)
        features, count = features * jnp.sqrt(shares)[..., None], 1.0
    return outer_products(features) / count


def outer_products(features: Features) -> Gram:
    """Return the sum over positions of the outer products of the channels, in float32 at least."""
    rows, columns, channels = features.shape
    products = _products if rows * columns > channels else _plain_products
    return products(features.reshape(rows * columns, channels))


def _plain_products(flat: Float[Array, "positions channels"]) -> Gram:
    return _across(flat, flat)


def _across(a: Float[Array, "positions channels"], b: Float[Array, "positions channels"]) -> Gram:
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.matmul(a.T, b, precision=lax.Precision.HIGHEST, preferred_element_type=wide)


@jax.custom_jvp
def _products(flat: Float[Array, "positions channels"]) -> Gram:
    """F^T F with one matrix product in its gradient instead of two."""
    return _plain_products(flat)


@_products.defjvp
def _tangent_of_products(primals, tangents):
    # P + P^T with P = F^T F', whose adjoint is F (G + G^T).
    (flat,), (of_flat,) = primals, tangents
    p = _across(flat, of_flat)
    return _plain_products(flat), p + p.T


def moments(
    features: Features, *, unbiased: bool = True, epsilon: float = DEVIATION_EPSILON, region: Mask | None = None
) -> ChannelMoments:
    r"""Return each channel's mean and standard deviation over positions, in float32.

    .. math:: \mu_c = \frac{1}{M} \sum_k F_{kc}, \quad
        \sigma_c = \sqrt{\frac{1}{M - 1} \sum_k (F_{kc} - \mu_c)^2 + \epsilon}

    Args:
        unbiased: Whether to divide by M - 1 rather than by M; a single position counts as two.
        region: The positions that count; an empty one restricts nothing. Default: all.

    Example:
        >>> mean, deviation = moments(jnp.array([[[1.0], [3.0]]]), unbiased=False, epsilon=0.0)
        >>> mean.tolist(), deviation.tolist()
        ([2.0], [1.0])
    """
    count, mean, squares = centered_squares(features, region=region)
    return mean, root(squares / jnp.maximum(count - int(unbiased), 1) + epsilon)


def centered_squares(features: Features, *, region: Mask | None = None) -> tuple[Scalar, *ChannelMoments]:
    r"""Return the number of positions, each channel's mean, and :math:`\sum_k (F_{kc} - \mu_c)^2`.

    Unlike those of `moments`, the results of several parts can be combined exactly.
    """
    wide = widen(features)
    if region is None:
        mean = wide.mean((0, 1))
        return jnp.asarray(float(wide[..., 0].size), wide.dtype), mean, ((wide - mean[None, None]) ** 2).sum((0, 1))
    # An empty region counts as the whole image.
    shares = (region | ~region.any()).astype(wide.dtype)[..., None]
    count = shares.sum()
    mean = (shares * wide).sum((0, 1)) / count
    return count, mean, (shares * (wide - mean[None, None]) ** 2).sum((0, 1))


def instance_norm(
    features: Features,
    *,
    unbiased: bool = True,
    epsilon: float = DEVIATION_EPSILON,
    known: ChannelMoments | None = None,
    region: Mask | None = None,
) -> Features:
    r"""Return :math:`(F - \mu) / \sigma` by channel, in float32: `Norm` of the SANet and AdaAttN papers.

    Args:
        known: Mean and deviation to use, such as those of an image of which these features are a part; default: the
            `moments` of the features, by the other options.
    """
    mean, deviation = known or moments(features, unbiased=unbiased, epsilon=epsilon, region=region)
    return (widen(features) - mean[None, None]) / deviation[None, None]


def adain(content: Features, style: StyleFeatures) -> Features:
    r"""Return the content's features with the style's moments (adaptive instance normalization), in float32.

    .. math:: \sigma(F_s) \, \frac{F_c - \mu(F_c)}{\sigma(F_c)} + \mu(F_s)

    References:
        Huang and Belongie, ICCV 2017, eq. 8; deviations as in naoto0804/pytorch-AdaIN.

    Example:
        >>> content, style = jnp.array([[[1.0], [3.0]]]), jnp.array([[[0.0]], [[20.0]]])
        >>> [round(x) for x in adain(content, style).ravel().tolist()]
        [0, 20]
    """
    mean, deviation = moments(style)
    return deviation[None, None] * instance_norm(content) + mean[None, None]


def normalized_entropy(probabilities: Float[Array, "..."]) -> Scalar:
    r"""Return the entropy of N numbers that sum to one, divided by the largest possible one, in [0, 1].

    .. math:: H_n = -\frac{1}{\log N} \sum_n p_n \log p_n

    Eqs. 6 and 8 of the SWAG paper as its author describes them: the textbook entropy, normalized to [0, 1].
    """
    p = widen(probabilities)
    # The inner `where` keeps log(0) out of the gradient.
    terms = jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0)
    return -terms.sum() / math.log(p.size)


def peak(values: Float[Array, "..."]) -> Scalar:
    r"""Return the largest entry divided by the root mean square.

    .. math:: \max_n v_n \,/\, \sqrt{\frac{1}{N} \sum_n v_n^2}

    It lies between 1 (all entries equal, zeros included) and the root of their number N. Unlike the maximum and the
    entropy of a softmax, it does not depend on the values' scale. Our choice.

    Example:
        >>> float(peak(jnp.array([[4.0, 0.0], [0.0, 0.0]])))
        2.0
    """
    wide = widen(values)
    largest = jnp.abs(wide).max()
    # Divided by the largest first: float32 cannot hold the squares of a softmax's smallest entries.
    unit = jnp.where(largest == 0, 1.0, wide / jnp.where(largest == 0, 1.0, largest))
    return unit.max() / jnp.sqrt(jnp.mean(unit**2))
