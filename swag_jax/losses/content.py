"""Content losses: how far a layer's features are from those of the content image.

`features` (of the image) and `target` (of the content image) are `height width channels`, raw or smoothed; results are
float32 numbers >= 0.
"""

from swag_jax._types import Features, Scalar
from swag_jax.losses._distance import relative_distance, squared_distance


def paper(features: Features, target: Features) -> Scalar:
    r"""Return :math:`\frac12 \|F - F_c\|^2` (SWAG eqs. 3 and 12; Gatys et al., CVPR 2016, eq. 1).

    Example:
        >>> import jax.numpy as jnp
        >>> float(paper(jnp.full((2, 2, 1), 3.0), jnp.ones((2, 2, 1))))
        8.0
    """
    return 0.5 * squared_distance(features, target)


def released(features: Features, target: Features) -> Scalar:
    """Return the mean over all entries of :math:`(F - F_c)^2` (SWAG's released code).

    Example:
        >>> import jax.numpy as jnp
        >>> float(released(jnp.full((2, 2, 1), 3.0), jnp.ones((2, 2, 1))))
        4.0
    """
    return squared_distance(features, target) / float(target.size)


def relative(features: Features, target: Features) -> Scalar:
    r"""Return :math:`\|F - F_c\|^2 / \|F_c - \bar F_c\|^2`, the bar being the mean over all entries. Our choice.

    It has no unit: 1 means that all structure is lost, at every resolution. Multiplying features and target by a
    constant, or adding one to both, changes nothing. For constant targets, see `spread`.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.array([[[0.0], [2.0]]])
        >>> float(relative(jnp.ones((1, 2, 1)), target))
        1.0
    """
    return relative_distance(features, target)
