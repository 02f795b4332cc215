"""Total variation: how rough an image is."""

from swag_jax._types import Image, Scalar


def total_variation(image: Image) -> Scalar:
    r"""Return the mean squared difference of neighboring pixels, down and across, of at least two pixels each.

    .. math:: \operatorname{mean}_{ijc} (x_{i+1,j,c} - x_{ijc})^2 + \operatorname{mean}_{ijc} (x_{i,j+1,c} - x_{ijc})^2

    The squared form of Mahendran and Vedaldi, CVPR 2015, eq. 6 with beta = 2; means instead of sums keep its weight
    the same at every resolution.

    Example:
        >>> import jax.numpy as jnp
        >>> float(total_variation(jnp.arange(4.0).reshape(2, 2, 1).repeat(3, 2)))
        5.0
    """
    down, across = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    return (down**2).mean() + (across**2).mean()
