"""The identity test: an image in its own style must come back."""

from collections.abc import Callable

import jax.numpy as jnp

from swag_jax._types import Image, Scalar
from swag_jax.images._arrays import as_image


def identity_distance(stylize: Callable[[Image, Image], Image], image: Image) -> Scalar:
    r"""Return how far a method is from giving an image back when it is content and style at once.

    .. math:: \sqrt{\operatorname{mean} (m(x, x) - x)^2}

    SANet trains for it (Park and Lee, CVPR 2019: the identity loss in pixels); as a measure and as a root: our choice.

    Args:
        stylize: The method m, of a content and a style image.
        image: The image x.

    Returns:
        The root mean square over pixels and channels, as a share of the range: 0 for a method that gives the image
        back, at most 1.

    Example:
        >>> float(identity_distance(lambda content, style: (content + style) / 2, jnp.ones((4, 4, 3))))
        0.0
    """
    return rms_difference(stylize(image, image), image)


def rms_difference(image: Image, reference: Image) -> Scalar:
    """Return the root mean squared difference of two images, as a share of the range.

    Args:
        image: An image.
        reference: Another of the same shape.

    Example:
        >>> float(rms_difference(jnp.zeros((2, 2, 3)), jnp.full((2, 2, 3), 0.5)))
        0.5
    """
    difference = as_image(image, "compared") - as_image(reference, "reference")
    return jnp.sqrt((difference**2).mean())
