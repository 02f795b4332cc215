r"""L-BFGS on the image, at exactly one value-and-gradient per step.

The state holds a point, a direction d and a step length t; a step evaluates the trial point x + t d and either

* accepts it, if the loss falls enough (Armijo: f(x + t d) <= f(x) + c t g.d), keeps the pair of differences s of points
  and y of gradients, and takes the next direction from the pairs, with t = 1; or
* rejects it and shrinks t to the minimum of the parabola through what is known, within [0.1 t, 0.5 t].


References:
    Nocedal and Wright, Numerical Optimization, 2006: sections 3.1, 3.5 and 7.2 (algorithm 7.4).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from swag_jax._checks import check_range
from swag_jax._numerics import root
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyImage, Count, Flag, Image, Scalar
from swag_jax.images.resize import resample
from swag_jax.losses.objective import Terms
from swag_jax.optimize.basis import from_image, to_image
from swag_jax.optimize.solvers import Evaluate, as_failed, evaluated, is_finite, select

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant; Nocedal and Wright, section 3.1."""

SHRINK_RANGE = (0.1, 0.5)
"""Safeguard of the interpolated step length, as a share of the rejected one; ibid., section 3.5."""

PATIENCE = 8
"""Rejections in a row after which the memory is dropped and steepest descent starts anew; the step has then shrunk
by 2^8 to 10^8, further than a useful direction asks for. Our choice."""


@pytree_dataclass
@dataclass(frozen=True)
class Pairs:
    """The last differences of points and of gradients, in a ring."""

    steps: Float[Array, "memory height width 3"]  # s, of points
    changes: Float[Array, "memory height width 3"]  # y, of gradients
    weights: Float[Array, " memory"]  # 1 / (s . y); 0 if there is no pair, or if the loss was not convex along it
    count: Count  # stored so far

    @classmethod
    def empty(cls, image: Image, *, memory: int) -> "Pairs":
        """Return room for `memory` pairs."""
        zeros = jnp.zeros((memory, *image.shape), image.dtype)
        return cls(zeros, zeros, jnp.zeros(memory, image.dtype), jnp.int32(0))

    def with_newest(self, step: Image, change: Image, *, unless: Flag) -> "Pairs":
        """Store a pair in the place of the oldest, unless there is none."""
        place = self.count % len(self.weights)

        def put(kept: Array, new: Array) -> Array:
            return kept.at[place].set(jnp.where(unless, kept[place], new))

        weight = _inverse(_dot(step, change))
        count = self.count + jnp.where(unless, 0, 1).astype(jnp.int32)
        return Pairs(put(self.steps, step), put(self.changes, change), put(self.weights, weight), count)

    @property
    def newest(self) -> Count:
        """The place of the newest pair."""
        return (self.count - 1) % len(self.weights)

    def applied(self, gradient: Image) -> Image:
        """Multiply by the approximate inverse Hessian: algorithm 7.4, with gamma = (s . y) / (y . y), newest pair."""
        newest_to_oldest = (self.newest - jnp.arange(len(self.weights), dtype=jnp.int32)) % len(self.weights)

        def backward(q: Image, i: Count) -> tuple[Image, Scalar]:
            alpha = self.weights[i] * _dot(self.steps[i], q)
            return q - alpha * self.changes[i], alpha

        q, alphas = lax.scan(backward, gradient, newest_to_oldest)
        y, weight = self.changes[self.newest], self.weights[self.newest]
        r = q * _inverse(_dot(y, y) * weight)

        def forward(r: Image, of_pair: tuple[Count, Scalar]) -> tuple[Image, None]:
            i, alpha = of_pair
            beta = self.weights[i] * _dot(self.changes[i], r)
            return r + (alpha - beta) * self.steps[i], None

        return lax.scan(forward, r, (newest_to_oldest, alphas), reverse=True)[0]


def _dot(a: Image, b: Image) -> Scalar:
    return (a * b).sum()  # a sum, not `@`: in full precision on every device


def _inverse(x: Array) -> Array:
    """Return 1 / x, or 0 unless x > 0; nothing is divided by 0 on the way."""
    return jnp.where(x > 0, 1 / jnp.where(x > 0, x, 1), 0)


@pytree_dataclass
@dataclass(frozen=True)
class LBFGSState:
    """State of `LBFGS`."""

    image: Image  # accepted, in the solver's basis, not clipped
    loss: Scalar  # of the image, as `terms`; 0 while it is fresh
    terms: Terms
    gradient: Image
    pairs: Pairs
    direction: Image  # where the next trial point lies
    length: Scalar  # how far, as a multiple of `direction`
    slope: Scalar  # inner product of gradient and direction, <= 0
    rejections: Count  # in a row
    fresh: Flag  # no evaluation yet at this size; the first is accepted as it is
    failed: Flag  # no finite loss was to be had


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with one evaluation per step.

    Attributes:
        memory: Pairs of differences kept; each costs two images of memory. 20 did as well as torch's 100 and better
            than optax's 10 on the problem of `tests/reference/solver_problem.py`.
        first_step: Root mean square change of the image's coordinates, in units of its range, that the first
            steepest-descent step tries. 0.03 did better than 0.01 on the same problem.
        spectral_decay: p of the basis 1 / f^p that the image is optimized in (`swag_jax.optimize.basis`); 0: pixels.
    """

    memory: int = 20
    first_step: float = 0.03
    spectral_decay: float = 0.0

    def __post_init__(self):
        check_range(self.spectral_decay, what="spectral decay", low=0, high=2)
        check_range(self.memory, what="L-BFGS memory", low=1)
        check_range(self.first_step, what="first step", low=0, open_low=True)

    def init(self, image: Image, terms: tuple[str, ...]) -> LBFGSState:
        """Return the state before the first step, whose trial point is `image` itself."""
        image = from_image(image, decay=self.spectral_decay)
        zero, none = jnp.zeros_like(image), jnp.zeros((), image.dtype)
        return LBFGSState(
            image=image,
            loss=none,
            terms=dict.fromkeys(terms, none),
            gradient=zero,
            pairs=Pairs.empty(image, memory=self.memory),
            direction=zero,
            length=none,
            slope=none,
            rejections=jnp.int32(0),
            fresh=jnp.array(True),
            failed=jnp.array(False),
        )

    def point(self, state: LBFGSState) -> Image:
        """Return the trial point as an image, not clipped."""
        return to_image(_trial(state), decay=self.spectral_decay)

    def step(self, evaluate: Evaluate, state: LBFGSState) -> LBFGSState:
        """Evaluate the trial point, then accept it or shrink the step."""
        # The line search is spread over the steps. Inside one it would mean several evaluations, and under `jax.vmap`
        # each image would wait for the slowest and pay for both branches of every condition (5 to 9 times dearer,
        # measured).
        trial = _trial(state)
        (loss, terms), gradient = evaluated(evaluate, self.point(state))
        gradient = to_image(gradient, decay=self.spectral_decay)
        finite = is_finite(loss, gradient)
        enough = state.fresh | (loss <= state.loss + SUFFICIENT_DECREASE * state.length * state.slope)
        accepted = self._accept(state, trial, loss, terms, gradient)
        # The arrays of both are one: they differ in the place alone that the next accepted pair is written to, and XLA
        # then writes it there. A choice between two would copy all pairs at every step.
        pairs = replace(accepted.pairs, weights=state.pairs.weights, count=state.pairs.count)
        kept = replace(state, pairs=pairs)
        after = select(finite & enough, accepted, self._reject(kept, loss, finite))
        # Nothing to fall back on (the first evaluation), or every shorter step was as bad.
        hopeless = ~finite & (state.fresh | (state.rejections >= 2 * PATIENCE))
        stopped = replace(kept, loss=as_failed(loss), terms=terms, failed=jnp.array(True))
        return select(state.failed, kept, select(hopeless, stopped, after))

    def _accept(self, state: LBFGSState, trial: Image, loss: Scalar, terms: Terms, gradient: Image) -> LBFGSState:
        """Move to the trial point and find the next direction."""
        pairs = state.pairs.with_newest(trial - state.image, gradient - state.gradient, unless=state.fresh)
        direction = -pairs.applied(gradient)
        slope = _dot(gradient, direction)
        # Without positive curvature the pairs are no metric: forget them and descend.
        usable = (pairs.weights[pairs.newest] > 0) & (slope < 0)
        direction = jnp.where(usable, direction, self._descent(gradient))
        return LBFGSState(
            image=trial,
            loss=loss,
            terms=terms,
            gradient=gradient,
            pairs=replace(pairs, weights=jnp.where(usable, pairs.weights, 0)),
            direction=direction,
            length=jnp.ones_like(loss),
            slope=jnp.where(usable, slope, _dot(gradient, direction)),
            rejections=jnp.int32(0),
            fresh=jnp.array(False),
            failed=jnp.array(False),
        )

    def _reject(self, state: LBFGSState, loss: Scalar, finite: Flag) -> LBFGSState:
        """Stay and shorten the step; after `PATIENCE` rejections start anew with steepest descent."""
        rejections = state.rejections + 1
        anew = rejections % PATIENCE == 0
        times = (rejections // PATIENCE).astype(loss.dtype)
        descent = self._descent(state.gradient) * jnp.asarray(0.1, loss.dtype) ** times
        return replace(
            state,
            pairs=replace(state.pairs, weights=jnp.where(anew, 0, state.pairs.weights)),
            direction=jnp.where(anew, descent, state.direction),
            length=jnp.where(anew, 1, _shrunk(state, loss, finite)),
            slope=jnp.where(anew, _dot(state.gradient, descent), state.slope),
            rejections=rejections,
        )

    def _descent(self, gradient: Image) -> Image:
        """Return steepest descent, scaled to a root mean square of `first_step`."""
        size = root((gradient**2).mean())
        return -gradient * (self.first_step / jnp.maximum(size, jnp.finfo(jnp.float32).tiny))

    def resized(self, state: LBFGSState, height: int, width: int) -> LBFGSState:
        """Resample image and pairs; the next step evaluates the image itself and is accepted."""
        old, decay = state.pairs, self.spectral_decay

        def carried(pairs: Array, inner: Callable[..., Image], outer: Callable[..., Image]) -> Array:
            def one(x: Image) -> AnyImage:
                return outer(resample(inner(jnp.nan_to_num(x), decay=decay), height, width), decay=decay)

            return jax.vmap(one)(pairs)

        # A pixel of the larger image carries a smaller share of the loss: gradients shrink by the ratio of the areas.
        area = state.image.shape[0] * state.image.shape[1] / (height * width)
        steps = carried(old.steps, to_image, from_image)
        changes = area * carried(old.changes, from_image, to_image)
        weights = jnp.where(old.weights > 0, _inverse(jax.vmap(_dot)(steps, changes)), 0)
        image = resample(to_image(state.image, decay=decay), height, width)
        start = self.init(jnp.clip(image, 0, 1), tuple(state.terms))
        return replace(start, pairs=Pairs(steps, changes, weights, old.count), failed=state.failed)

    def image(self, state: LBFGSState) -> Image:
        """Return the accepted image, clipped."""
        return jnp.clip(to_image(state.image, decay=self.spectral_decay), 0, 1)


def _trial(state: LBFGSState) -> Image:
    return state.image + state.length * state.direction


def _shrunk(state: LBFGSState, loss: Scalar, finite: Flag) -> Scalar:
    """Return the minimum of the parabola through f(x), its slope and the rejected f(x + t d), safeguarded."""
    t = state.length
    bend = loss - state.loss - t * state.slope
    best = jnp.where(bend > 0, -state.slope * t**2 / (2 * jnp.where(bend > 0, bend, 1.0)), 0.0)
    low, high = SHRINK_RANGE
    return jnp.clip(jnp.where(finite, best, 0.0), low * t, high * t)
