r"""Moment losses: how far each channel's mean and deviation are from those of the style image.

The style losses of AdaIN, SANet and AdaAttN, of `height width channels` features; images may differ in size. Below,
:math:`\mu` and :math:`\sigma` are the moments of the image, :math:`\mu_s` and :math:`\sigma_s` those of the style, D
numbers each.
"""

from swag_jax._numerics import power_of_two, widen
from swag_jax._types import Features, Scalar, StyleFeatures
from swag_jax.losses._distance import spread, squared_distance
from swag_jax.statistics import moments

_RELEASED_EPSILON = 1e-6
"""`nn.Sqrt(1e-6)` in `lib/StyleINLossModule.lua` of xunhuang1995/AdaIN-style: in the image's deviation only."""

_RELATIVE_EPSILON = 1e-8
"""Added to variances of features whose largest entry, in the style, is about one: our choice."""


def averaged(features: Features, target: StyleFeatures) -> Scalar:
    r"""Return :math:`\frac{1}{D} (\|\mu - \mu_s\|^2 + \|\sigma - \sigma_s\|^2)`.

    Variances are the unbiased ones plus 1e-5: naoto0804/pytorch-AdaIN, GlebSBrykin/SANET and Huage001/AdaAttN.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(averaged(jnp.array([[[1.0, 5.0], [3.0, 5.0]]]), jnp.full((1, 2, 2), 5.0))), 3)
        5.496
    """
    (mean, deviation), (target_mean, target_deviation) = moments(features), moments(target)
    distance = squared_distance(mean, target_mean) + squared_distance(deviation, target_deviation)
    return distance / float(mean.size)


def summed(features: Features, target: StyleFeatures) -> Scalar:
    r"""Return :math:`\|\mu - \mu_s\|^2 + \|\sigma - \sigma_s\|^2`.

    Variances are the biased ones; the image's plus 1e-6, the style's unchanged: the authors' code of AdaIN.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(summed(jnp.array([[[1.0, 5.0], [3.0, 5.0]]]), jnp.full((1, 2, 2), 5.0))), 3)
        10.0
    """
    mean, deviation = moments(features, unbiased=False, epsilon=_RELEASED_EPSILON)
    target_mean, target_deviation = moments(target, unbiased=False, epsilon=0.0)
    return squared_distance(mean, target_mean) + squared_distance(deviation, target_deviation)


def relative(features: Features, target: StyleFeatures) -> Scalar:
    r"""Return the summed distance over that of the style's moments from their own averages. Our choice.

    .. math:: \frac{\|\mu - \mu_s\|^2 + \|\sigma - \sigma_s\|^2}
        {\|\mu_s - \bar\mu_s\|^2 + \|\sigma_s - \bar\sigma_s\|^2}

    It has no unit, so that weights mean the same for every layer, network and smoothing. Variances are the unbiased
    ones plus about a hundred millionth of the style's largest squared feature. If all channels are alike, see `spread`.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.array([[[0.0, 2.0], [2.0, 2.0]]])
        >>> round(float(relative(target + 1.0, target)), 3)
        1.334
    """
    unit = power_of_two(target)  # keeps squares of tiny and huge activations in float32's range
    (mean, deviation), (target_mean, target_deviation) = (
        moments(unit * widen(x), epsilon=_RELATIVE_EPSILON) for x in (features, target)
    )
    distance = squared_distance(mean, target_mean) + squared_distance(deviation, target_deviation)
    return distance / (spread(target_mean) + spread(target_deviation))
