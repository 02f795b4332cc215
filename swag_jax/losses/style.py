"""Style losses: how far a layer's Gram matrix is from that of the style image.

`gram` (of the image) and `target` (of the style image) are means over positions (`swag_jax.statistics.gram`),
A = F F^T / M, so that the two images may differ in size; D is the number of channels. If both have M positions, the
formulas equal the published ones.
"""

from swag_jax._types import Gram, Scalar
from swag_jax.losses._distance import relative_distance, squared_distance


def paper(gram: Gram, target: Gram) -> Scalar:
    r"""Return :math:`\frac{1}{4 D^2} \|A - A_s\|^2 = \frac{1}{4 D^2 M^2} \|F F^T - F_s F_s^T\|^2`.

    SWAG eqs. 4 and 13 for one layer of weight 1; Gatys et al., CVPR 2016, eqs. 4 and 5.

    Example:
        >>> import jax.numpy as jnp
        >>> float(paper(4 * jnp.eye(2), jnp.zeros((2, 2))))
        2.0
    """
    return squared_distance(gram, target) / (4.0 * target.shape[0] ** 2)


def released(gram: Gram, target: Gram) -> Scalar:
    """Return the mean over the :math:`D^2` entries of :math:`(A / D - A_s / D)^2`.

    SWAG's released code, whose Gram matrix is F F^T / (C H W): 4 / D² times `paper`.

    Example:
        >>> import jax.numpy as jnp
        >>> float(released(4 * jnp.eye(2), jnp.zeros((2, 2))))
        2.0
    """
    return squared_distance(gram, target) / float(target.shape[0]) ** 4


def relative(gram: Gram, target: Gram) -> Scalar:
    r"""Return :math:`\|A - A_s\|^2 / \|A_s - \bar A_s\|^2`, the bar being the mean over all entries. Our choice.

    It has no unit: 1 means that the matrix is as far off as a constant one, whatever the layer's width, the
    activations' scale and the smoothing. For constant targets, see `spread`.

    Example:
        >>> import jax.numpy as jnp
        >>> float(relative(jnp.full((2, 2), 0.5), jnp.eye(2)))
        1.0
    """
    return relative_distance(gram, target)
