r"""Activation smoothing: what SWAG puts between the network's activations and the losses.

Residual networks have peaky activations: a few entries are many times larger than the rest and rule every Gram
matrix. SWAG passes the activations through a softmax, *inside the losses only*:

.. math:: \sigma(F)_{ik} = \exp(F_{ik} / T) \,/ \sum_{m,n} \exp(F_{mn} / T)

Kinds of smoothing, as `Smoothing.kind` and on the command line:

* `none`: the identity.
* `softmax`: over all channels and positions (SWAG eq. 11).
* `channel-softmax`: over the channels at each position (SWAG's first release, 2021-03-31).
* `spatial-softmax`: over the positions of each channel.
* `scale`: multiplication by a constant (what the released code enables since 2021-04-28, with 0.001).

**The `auto` temperature.** The paper's formula has T = 1. That is sharp for a deep residual layer, whose largest
activations are above 100 (the softmax of its last stage puts 70 % of its mass on one entry), and nearly flat
for a layer whose activations stay below 1 (then the Gram matrix sees little beyond channel means). `auto`
instead asks for the same *contrast* everywhere: T is the temperature at which the softmax of the layer's target is a
fixed distance away from uniform,

.. math:: \mathrm{KL}(\sigma \,\|\, \text{uniform}) = \log N - H(\sigma) = \kappa

averaged over the softmax's groups, with :math:`\kappa` = `AUTO_DIVERGENCE`. So smoothed features depend neither on the
activations' scale (T(cF) = c T(F)) nor on the resolution (KL, unlike entropy, does not grow with N), and their
peakiness is bounded: with :math:`\kappa` = 0.1 the mass is spread over :math:`e^{-0.1}` = 90 % of all entries, in the
sense of perplexity.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from swag_jax._checks import check_name, check_range
from swag_jax._numerics import widen
from swag_jax._settings import Settings
from swag_jax._types import Features, Scalar

Kind: TypeAlias = Literal["none", "softmax", "channel-softmax", "spatial-softmax", "scale"]

KINDS: tuple[Kind, ...] = ("none", "softmax", "channel-softmax", "spatial-softmax", "scale")

_AXES: dict[str, tuple[int, ...]] = {"softmax": (0, 1, 2), "channel-softmax": (2,), "spatial-softmax": (0, 1)}

AUTO_DIVERGENCE = 0.1
"""Nats between the smoothed target and the uniform distribution. Our choice, by eye: with 0.02 and 0.1 VGG19 paints as
well as without smoothing, while with 0.5 its optimization stalls near the content. For Gaussian activations the
divergence is s²/2 with s = standard deviation / T, so 0.1 puts T at 2.2 standard deviations."""

# Safeguarded Newton steps of the temperature search; 6 to 9 reach float32 precision on the activations of random and
# trained networks, the rest is for distributions with one extreme entry.
SEARCH_STEPS = 16

SEARCH_START = (1e-4, 1.0, 1e4)
"""Bounds of beta, the deviation over T, and where the search begins. For Gaussian features the answer is sqrt(2 kappa);
no spread of activations seen is 1e4 times off."""


class Smoothing(Settings):
    """A smoothing by name, with its parameters. `none`, `softmax` and `scaled` make one.

    Attributes:
        kind: `none`, `softmax` (over all channels and positions), `channel-softmax`, `spatial-softmax` or `scale`.
        temperature: The softmax's T: `auto`, or a number > 0 (the paper: 1).
        scale: The factor of kind `scale` (released code: 0.001).
        layers: The layers to smooth, all if none are given; others stay as they are.
    """

    kind: Kind = "none"
    temperature: float | Literal["auto"] = "auto"
    scale: float = 0.001
    layers: tuple[str, ...] | None = None

    def __post_init__(self):
        check_name(str(self.kind), KINDS, what="smoothing")
        super().__post_init__()
        if self.temperature != "auto":
            check_range(self.temperature, what="temperature", low=0, open_low=True)
        check_range(self.scale, what="scale", low=0, open_low=True)

    @classmethod
    def none(cls) -> "Smoothing":
        """Return the smoothing that leaves features as they are."""
        return cls()

    @classmethod
    def softmax(
        cls,
        *,
        temperature: float | Literal["auto"] = "auto",
        over: Literal["all", "channels", "positions"] = "all",
        layers: Sequence[str] | None = None,
    ) -> "Smoothing":
        """Return a softmax over all entries, over each position's channels, or over each channel's positions."""
        kinds: dict[str, Kind] = {"all": "softmax", "channels": "channel-softmax", "positions": "spatial-softmax"}
        kind = kinds[check_name(over, kinds, what="axes of a softmax")]
        return cls(kind, temperature, layers=None if layers is None else tuple(layers))

    @classmethod
    def scaled(cls, scale: float, *, layers: Sequence[str] | None = None) -> "Smoothing":
        """Return the multiplication of features by a constant > 0, at all layers or some."""
        return cls("scale", scale=scale, layers=None if layers is None else tuple(layers))

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The axes of `height width channels` that a softmax sums to one over; `None` if it is not a softmax."""
        return _AXES.get(self.kind)

    def at(self, layer: str) -> "Smoothing":
        """Return the smoothing that this one means for `layer`: itself, or none."""
        return self if self.layers is None or layer in self.layers else Smoothing()


def as_smoothing(value: Smoothing | Kind) -> Smoothing:
    """Return a smoothing, given itself or the name of its kind."""
    return Smoothing(value) if isinstance(value, str) else value


def softmax(features: Features, *, axes: tuple[int, ...], temperature: float | Scalar = 1.0) -> Features:
    """Return exp(F / T) normalized to sum to one over `axes` (SWAG eq. 11 for all three), in float32."""
    return jax.nn.softmax(widen(features) / temperature, axis=axes)


def smooth(features: Features, smoothing: Smoothing, *, temperature: float | Scalar = 1.0) -> Features:
    r"""Smooth one layer's features for a loss; a softmax comes out with a *mean* of one, :math:`N \sigma(F)`.

    A softmax is multiplied by the number N of entries it sums over: its own values shrink with the image's size and
    leave the range in which float32 squares are exact. What is lost is a factor per layer, `unit` = 1 / N. Relative
    losses divide it out; losses in the paper's and the released code's units put it back, since there it decides how
    much one layer counts compared with another.

    Args:
        features: `height width channels`.
        temperature: T, as `find_temperature` gives it; only read by the softmax kinds.

    Returns:
        The smoothed features, of the same shape; float32 unless kind is `none`.

    Example:
        >>> float(smooth(jnp.zeros((4, 4, 8)), Smoothing("softmax")).mean())
        1.0
    """
    if smoothing.kind == "none":
        return features
    if smoothing.axes is None:
        return widen(features) * smoothing.scale
    return softmax(features, axes=smoothing.axes, temperature=temperature) * _count(features, smoothing.axes)


def unit(features: Features, smoothing: Smoothing) -> float:
    """Return what `smooth` is to be multiplied by to be SWAG's smoothing itself: 1 / N for a softmax over N entries.

    A content loss, quadratic in the features, takes its square; a Gram loss its fourth power.

    Example:
        >>> unit(jnp.zeros((4, 4, 8)), Smoothing("channel-softmax"))
        0.125
    """
    return 1.0 if smoothing.axes is None else 1 / _count(features, smoothing.axes)


def find_temperature(features: Features, smoothing: Smoothing) -> Scalar:
    """Return the temperature that `smoothing` means for a target's features; a fixed one, or else 1, as it is.

    It is used for the target (the content or the style image) and for the image that is compared with it.
    """
    if smoothing.axes is None:
        return jnp.ones((), widen(features).dtype)
    if smoothing.temperature != "auto":
        return jnp.asarray(smoothing.temperature, widen(features).dtype)
    return auto_temperature(features, axes=smoothing.axes)


@functools.partial(jax.jit, static_argnames="axes")
def auto_temperature(features: Features, *, axes: tuple[int, ...]) -> Scalar:
    """Return the T at which the softmax over `axes` is `AUTO_DIVERGENCE` nats away from uniform.

    Features without any spread get T = 1. If even the sharpest softmax stays closer to uniform (more than 90 % of the
    entries share the maximum), the sharpest of the bracket is returned.

    Args:
        features: `height width channels`.
        axes: The axes the softmax sums over, `Smoothing.axes`.
    """
    x = widen(features)
    spread = x.std()
    x = (x - x.max(axes, keepdims=True)) / jnp.where(spread > 0, spread, 1.0)

    def newton(_, bracket):
        return newton_step(bracket, *_divergence(x, axes, bracket[1]))

    start = jax.tree.map(lambda beta: jnp.asarray(beta, x.dtype), SEARCH_START)
    _, beta, _ = lax.fori_loop(0, SEARCH_STEPS, newton, start)
    return jnp.where(spread > 0, spread / beta, 1.0)


def newton_step(bracket: tuple[Any, Any, Any], divergence: Any, slope: Any) -> tuple[Any, Any, Any]:
    """Return the next (low, beta, high), given the divergence at beta and its derivative: a step toward the goal."""
    low, beta, high = bracket
    goal, root = math.sqrt(2 * AUTO_DIVERGENCE), jnp.sqrt(2 * divergence)
    low, high = jnp.where(root < goal, beta, low), jnp.where(root < goal, high, beta)
    step = beta + (goal - root) * root / jnp.maximum(slope, 1e-12)
    # At the root the step is an edge of the bracket; a bisection would leave it again.
    inside = (low <= step) & (step <= high)
    return low, jnp.where(inside, step, jnp.sqrt(low * high)), high


def _divergence(x: Features, axes: tuple[int, ...], beta: Scalar) -> tuple[Scalar, Scalar]:
    r"""Return KL(softmax(beta x) || uniform) and its derivative by beta, averaged over the groups.

    With p the softmax: KL = log N + beta E_p[x] - log sum exp(beta x), and dKL/dbeta = beta Var_p[x].
    """
    p = jax.nn.softmax(beta * x, axis=axes)
    mean = (p * x).sum(axes, keepdims=True)
    variance = (p * (x - mean) ** 2).sum(axes)
    log_sum = jax.nn.logsumexp(beta * x, axis=axes)
    divergence = math.log(_count(x, axes)) + beta * mean.squeeze(axes) - log_sum
    return jnp.maximum(divergence.mean(), 0.0), beta * variance.mean()


def _count(features: Features, axes: tuple[int, ...]) -> int:
    return math.prod(features.shape[axis] for axis in axes)
