"""How near an image comes to a style: distances that ignore positions.

Features are given by layer, of one image each, `height width channels`; the two images may differ in size, the first
is the stylized one. Each distance is relative to the style's own at every layer, so that layers and networks can be
compared and averaged, and is meant for a network that did not make the image. `jax.vmap` makes the batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from swag_jax._numerics import power_of_two, widen
from swag_jax._types import AnyFeatures, AnyImage, Key, LayerFeatures, Scalar
from swag_jax.images._arrays import as_image
from swag_jax.statistics import gram

DIRECTIONS = 64
"""Directions onto which features are projected. Our choice; Heitz et al. 2021 take as many as there are channels."""

COLOR_DIRECTIONS = 63
"""Directions onto which colors are projected, in orthogonal groups of three. Our choice."""


def gram_distance(features: LayerFeatures, target: LayerFeatures) -> Scalar:
    r"""Return the relative squared distance of two images' Gram matrices, averaged over layers. Our choice of unit.

    .. math:: \frac1L \sum_l \|G^l - G_s^l\|^2 \,/\, \|G_s^l\|^2

    It is 0 for the style itself and 1 for Gram matrices of zero; there is no upper bound.

    Example:
        >>> style = {"relu1_1": jnp.ones((2, 3, 4))}
        >>> float(gram_distance({"relu1_1": jnp.zeros((5, 5, 4))}, style))
        1.0
    """

    def of_layer(features: AnyFeatures, target: AnyFeatures) -> Scalar:
        found, wanted = gram(features), gram(target)
        return _relative(((found - wanted) ** 2).sum(), (wanted**2).sum())

    return _over_layers(of_layer, features, target)


def moment_distance(features: LayerFeatures, target: LayerFeatures) -> Scalar:
    r"""Return the relative squared distance of the channels' means and deviations, averaged over layers.

    .. math:: \frac1L \sum_l \frac{\|\mu^l - \mu_s^l\|^2 + \|\sigma^l - \sigma_s^l\|^2}
        {\|\mu_s^l\|^2 + \|\sigma_s^l\|^2}

    It is 0 for the style itself and 1 for features of zero; there is no upper bound. It is the style loss of AdaIN
    (Huang and Belongie, ICCV 2017, eq. 13), squared and in units of the style's mean squared feature: our choice. The
    numerator is the squared 2-Wasserstein distance of normal distributions with these moments and independent channels.

    Example:
        >>> style = {"relu1_1": jnp.ones((2, 3, 4))}
        >>> float(moment_distance({"relu1_1": jnp.zeros((5, 5, 4))}, style))
        1.0
    """

    def of_layer(features: AnyFeatures, target: AnyFeatures) -> Scalar:
        found, wanted = (jnp.stack([f.mean((0, 1)), f.std((0, 1))]) for f in (widen(features), widen(target)))
        return _relative(((found - wanted) ** 2).sum(), (wanted**2).sum())

    return _over_layers(of_layer, features, target)


def sliced_wasserstein(
    key: Key, features: LayerFeatures, target: LayerFeatures, *, directions: int = DIRECTIONS
) -> Scalar:
    r"""Return the relative squared sliced 2-Wasserstein distance of two images' features, averaged over layers.

    .. math:: \frac1L \sum_l \frac{\sum_\theta \int_0^1 (Q^l_\theta(t) - Q^l_{s,\theta}(t))^2 dt}
        {\sum_\theta \operatorname{Var}(\theta \cdot F_s^l)}

    It is 0 for the style itself and 1 for features that are the style's mean everywhere; there is no upper bound. Q is
    the quantile function of the features projected onto a direction. Unlike Gram matrices and moments, it is zero for
    equal distributions only (as the number of directions grows). Heitz, Vanhoey, Chambon and Belcour, "A Sliced
    Wasserstein Loss for Neural Texture Synthesis", CVPR 2021; in units of the style's variance: our choice.

    Example:
        >>> style = {"relu1_1": jnp.arange(12.0).reshape(3, 2, 2)}
        >>> mean = {"relu1_1": jnp.broadcast_to(jnp.array([5.0, 6.0]), (4, 4, 2))}
        >>> round(float(sliced_wasserstein(jax.random.key(0), mean, style)), 5)
        1.0
    """
    keys = iter(jax.random.split(key, len(target)))

    def of_layer(features: AnyFeatures, target: AnyFeatures) -> Scalar:
        return _relative(*_sliced(next(keys), features, target, directions))

    return _over_layers(of_layer, features, target)


def color_distance(key: Key, image: AnyImage, reference: AnyImage, *, directions: int = COLOR_DIRECTIONS) -> Scalar:
    r"""Return the sliced 2-Wasserstein distance of two images' colors, as points of the RGB cube.

    .. math:: \sqrt{\textstyle\operatorname{mean}_\theta \int_0^1 (Q_\theta(t) - Q_{s,\theta}(t))^2 dt}

    It is 0 for equal distributions of colors and at most 1, between black and white; adding one v to all colors moves
    them by the root mean square of v's channels. Unlike distances of histograms (StyleID's evaluation has HistoGAN's),
    it needs no bins, respects how far apart two colors are, and compares images of different sizes. Rabin, Peyré, Delon
    and Bernot, SSVM 2011, mix colors by the same distance.

    Args:
        directions: How many; a multiple of three covers the cube evenly.

    Example:
        >>> gray = jnp.full((4, 4, 3), 0.25)
        >>> round(float(color_distance(jax.random.key(0), gray, gray[:2] + 0.5)), 6)
        0.5
    """
    squared, _ = _sliced(key, as_image(image, "compared"), as_image(reference, "reference"), directions)
    return jnp.sqrt(squared)


def _over_layers(
    distance: Callable[[AnyFeatures, AnyFeatures], Scalar], features: LayerFeatures, target: LayerFeatures
) -> Scalar:
    def of_layer(features: AnyFeatures, target: AnyFeatures) -> Scalar:
        unit = power_of_two(target)
        return distance(unit * widen(features), unit * widen(target))

    # Sorted, as JAX's transformations sort dictionaries: each layer gets the same random key in every case.
    return jnp.stack([of_layer(features[layer], target[layer]) for layer in sorted(target)]).mean()


def _relative(distance: Scalar, unit: Scalar) -> Scalar:
    return distance / jnp.maximum(unit, float(jnp.finfo(jnp.float32).tiny))


def _sliced(key: Key, features: AnyFeatures, target: AnyFeatures, directions: int) -> tuple[Scalar, Scalar]:
    # The mean over directions of the squared distance, and of the target's variance.
    channels = target.shape[-1]
    found, wanted = (widen(f).reshape(-1, channels) for f in (features, target))

    def along(direction: Float[Array, " channels"]) -> tuple[Scalar, Scalar]:
        x, y = (jnp.matmul(points, direction, precision=lax.Precision.HIGHEST) for points in (found, wanted))
        return _squared_distance(_sorted(x), _sorted(y)), y.var()

    squared, variance = lax.map(along, _directions(key, channels, directions))
    return squared.mean(), variance.mean()


def _directions(key: Key, channels: int, count: int) -> Float[Array, "count channels"]:
    # Unit vectors, orthogonal as far as there are channels (Rowland et al., AISTATS 2019), for a sum of less variance.
    together = min(channels, count)
    groups = -(-count // together)
    drawn = jax.random.normal(key, (groups, together, channels), jnp.float32)
    return jax.vmap(_at_right_angles)(drawn).reshape(groups * together, channels)[:count]


def _at_right_angles(rows: Float[Array, "rows channels"]) -> Float[Array, "rows channels"]:
    # Gram and Schmidt's method, twice for each row, which is enough (Kahan and Parlett).
    def add(basis, numbered):
        place, row = numbered
        for _ in range(2):
            coefficients = jnp.matmul(basis, row, precision=lax.Precision.HIGHEST)
            row = row - jnp.matmul(coefficients, basis, precision=lax.Precision.HIGHEST)
        return basis.at[place].set(row / jnp.linalg.norm(row)), None

    return lax.scan(add, jnp.zeros_like(rows), (jnp.arange(len(rows), dtype=jnp.int32), rows))[0]


def _sorted(values: Float[Array, " points"]) -> Float[Array, " points"]:
    # Integers of the same order are sorted faster than float32 by XLA's CPU backend.
    if values.dtype != jnp.float32:
        return jnp.sort(values)
    # The bits of a negative number grow with its magnitude; with all but the sign inverted, they grow with its value.
    bits = lax.bitcast_convert_type(values, jnp.int32)
    ordered = jnp.sort(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    return lax.bitcast_convert_type(ordered ^ ((ordered >> 31) & 0x7FFFFFFF), jnp.float32)


def _squared_distance(x: Float[Array, " points"], y: Float[Array, " other_points"]) -> Scalar:
    # The integral of the squared difference of the quantile functions of two sorted samples, exact for any sizes.
    if x.shape == y.shape:
        return ((x - y) ** 2).mean()
    first, second, widths = _steps(len(x), len(y))
    return (jnp.asarray(widths, x.dtype) * (x[first] - y[second]) ** 2).sum()


def _steps(first: int, second: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # The intervals on which both are constant: the index into either sample, and the width. The k-th of n values is the
    # function on ((k - 1) / n, k / n]; ends are counted in units of 1 / (first * second), so that they are exact.
    ends = np.union1d(np.arange(1, first + 1) * second, np.arange(1, second + 1) * first)
    widths = np.diff(ends, prepend=0) / (first * second)
    return (ends - 1) // second, (ends - 1) // first, widths
