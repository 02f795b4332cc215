"""The identity test: stylizing an image with itself must return it."""

from collections.abc import Callable

import jax.numpy as jnp

from swag_jax._types import Image, Scalar
from swag_jax.images._arrays import as_image


def identity_distance(stylize: Callable[[Image, Image], Image], image: Image) -> Scalar:
    r"""Return how far a method is from returning an image that is content and style at once, as `rms_difference`.

    .. math:: \sqrt{\operatorname{mean} (m(x, x) - x)^2}

    m takes a content and a style. SANet trains for it (Park and Lee, CVPR 2019: the identity loss in pixels); the root,
    as a metric: our choice.

    Example:
        >>> float(identity_distance(lambda content, style: (content + style) / 2, jnp.ones((4, 4, 3))))
        0.0
    """
    return rms_difference(stylize(image, image), image)


def rms_difference(image: Image, reference: Image) -> Scalar:
    """Return the root mean squared difference of two images of one shape, in [0, 1].

    Example:
        >>> float(rms_difference(jnp.zeros((2, 2, 3)), jnp.full((2, 2, 3), 0.5)))
        0.5
    """
    difference = as_image(image, "compared") - as_image(reference, "reference")
    return jnp.sqrt((difference**2).mean())
