r"""L-BFGS on the picture, at exactly one value-and-gradient per step.

A line search inside a step means several evaluations, and under `jax.vmap` every picture waits for the slowest one
and pays for both branches of every condition (5 to 9 times dearer, measured). Here the line search is spread
over the steps instead. The state holds a point, a direction d and a step length t; a step evaluates the trial point
x + t d and either

* accepts it, if the loss falls enough (Armijo: f(x + t d) <= f(x) + c t g·d), stores the pair of differences and
  asks `optax.scale_by_lbfgs` for the next direction, with t = 1; or
* rejects it and shrinks t to the minimum of the parabola through what is known, within [0.1 t, 0.5 t].

No branch, no inner loop: the cost is one evaluation and a few passes over the memory.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from swag_jax._checks import check_range
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import AnyImage, Count, Flag, Image, Scalar
from swag_jax.images import resample
from swag_jax.losses import Terms
from swag_jax.optimize.basis import from_image, to_image
from swag_jax.optimize.solvers import Evaluate, as_failed, is_finite, select

Memory: TypeAlias = Any
"""`optax.ScaleByLBFGSState`, whose fields optax types as arbitrary trees."""

SUFFICIENT_DECREASE = 1e-4
"""Armijo's constant; Nocedal and Wright, Numerical Optimization, 2006, section 3.1."""

SHRINK_RANGE = (0.1, 0.5)
"""Safeguard of the interpolated step length, as a share of the rejected one; ibid., section 3.5."""

PATIENCE = 8
"""Rejections in a row after which the memory is dropped and steepest descent starts anew; the step has then shrunk
by 2^8 to 10^8, further than a useful direction asks for. Our choice."""


@pytree_dataclass
@dataclass(frozen=True)
class LBFGSState:
    """State of `LBFGS`.

    Attributes:
        image: The accepted picture in the solver's basis, not clipped.
        loss: Its loss; infinite before the first evaluation at this size, which is then accepted as it is.
        terms: Its terms.
        gradient: Its gradient.
        memory: Optax's pairs of differences.
        direction: Where the next trial point lies.
        length: How far, as a multiple of `direction`.
        slope: Inner product of gradient and direction, <= 0.
        rejections: Trial points rejected in a row.
        failed: Whether no finite loss was to be had.
    """

    image: Image
    loss: Scalar
    terms: Terms
    gradient: Image
    memory: Memory
    direction: Image
    length: Scalar
    slope: Scalar
    rejections: Count
    failed: Flag

    def replace(self, **changes: object) -> "LBFGSState":
        """Return a copy with some attributes changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with one evaluation per step.

    Attributes:
        memory: Pairs of differences kept; each costs two pictures of memory. 20 did as well as torch's 100 and better
            than optax's 10 on the problem of `tests/reference/solver_problem.py`.
        first_step: Root mean square change of the picture's coordinates, in units of its range, that the first
            steepest-descent step tries. 0.03 did better than 0.01 on the same problem.
        spectral_decay: p of the basis 1 / f^p that the picture is optimized in (`swag_jax.optimize.basis`); 0: pixels.
    """

    memory: int = 20
    first_step: float = 0.03
    spectral_decay: float = 0.0

    def __post_init__(self):
        check_range(self.spectral_decay, what="spectral decay", low=0, high=2)
        check_range(self.memory, what="L-BFGS memory", low=1)
        check_range(self.first_step, what="first step", low=0, open_low=True)

    @property
    def _transform(self) -> Any:
        return optax.scale_by_lbfgs(self.memory)

    def init(self, image: Image, terms: tuple[str, ...]) -> LBFGSState:
        """Return the state before the first step, whose trial point is `image` itself."""
        image = from_image(image, decay=self.spectral_decay)
        zero = jnp.zeros_like(image)
        return LBFGSState(
            image=image,
            loss=jnp.float32(jnp.inf),
            terms={name: jnp.float32(jnp.nan) for name in terms},
            gradient=zero,
            memory=self._transform.init(image),
            direction=zero,
            length=jnp.float32(0),
            slope=jnp.float32(0),
            rejections=jnp.int32(0),
            failed=jnp.array(False),
        )

    def step(self, evaluate: Evaluate, state: LBFGSState) -> LBFGSState:
        """Evaluate the trial point, then accept it or shrink the step."""
        trial = state.image + state.length * state.direction
        (loss, terms), gradient = evaluate(to_image(trial, decay=self.spectral_decay))
        gradient = to_image(gradient, decay=self.spectral_decay)
        finite = is_finite(loss, gradient)
        enough = loss <= state.loss + SUFFICIENT_DECREASE * state.length * state.slope
        accepted = self._accept(state, trial, loss, terms, gradient)
        kept = state.replace(memory=_with_pairs(state.memory, accepted.memory))
        after = select(finite & enough, accepted, self._reject(kept, loss, finite))
        # Nothing to fall back on (the first evaluation), or every shorter step was as bad.
        hopeless = ~finite & (jnp.isinf(state.loss) | (state.rejections >= 2 * PATIENCE))
        stopped = kept.replace(loss=as_failed(loss), terms=terms, failed=jnp.array(True))
        return select(state.failed, kept, select(hopeless, stopped, after))

    def _accept(self, state: LBFGSState, trial: Image, loss: Scalar, terms: Terms, gradient: Image) -> LBFGSState:
        """Move to the trial point and find the next direction."""
        before = _with_last_pair(state.memory, trial, gradient, fresh=jnp.isinf(state.loss))
        toward, memory = self._transform.update(gradient, before, trial)
        curvature = jnp.vdot(trial - before.params, gradient - before.updates)
        direction, slope = -toward, -jnp.vdot(gradient, toward)
        # Without positive curvature the memory is no metric: forget it and descend.
        usable = (before.count > 0) & (curvature > 0) & (slope < 0)
        direction = jnp.where(usable, direction, self._descent(gradient))
        return LBFGSState(
            image=trial,
            loss=loss,
            terms=terms,
            gradient=gradient,
            memory=memory._replace(weights_memory=jnp.where(usable, memory.weights_memory, 0.0)),
            direction=direction,
            length=jnp.float32(1),
            slope=jnp.where(usable, slope, jnp.vdot(gradient, direction)),
            rejections=jnp.int32(0),
            failed=jnp.array(False),
        )

    def _reject(self, state: LBFGSState, loss: Scalar, finite: Flag) -> LBFGSState:
        """Stay and shorten the step; after `PATIENCE` rejections start anew with steepest descent."""
        rejections = state.rejections + 1
        anew = rejections % PATIENCE == 0
        weights = jnp.where(anew, 0.0, state.memory.weights_memory)
        descent = self._descent(state.gradient) * 0.1 ** (rejections // PATIENCE)
        return state.replace(
            memory=state.memory._replace(weights_memory=weights),
            direction=jnp.where(anew, descent, state.direction),
            length=jnp.where(anew, 1.0, _shrunk(state, loss, finite)),
            slope=jnp.where(anew, jnp.vdot(state.gradient, descent), state.slope),
            rejections=rejections,
        )

    def _descent(self, gradient: Image) -> Image:
        """Return steepest descent, scaled to a root mean square of `first_step`."""
        size = jnp.sqrt((gradient**2).mean())
        return -gradient * (self.first_step / jnp.maximum(size, jnp.finfo(jnp.float32).tiny))

    def resized(self, state: LBFGSState, height: int, width: int) -> LBFGSState:
        """Resample picture and pairs; the next step evaluates the picture itself and is accepted.

        A pixel of the larger picture carries a smaller share of the loss: gradient differences shrink by the ratio
        of the areas, and the pairs' weights follow from the resampled pairs.
        """
        area = state.image.shape[0] * state.image.shape[1] / (height * width)
        old = state.memory
        decay = self.spectral_decay

        def step(pair: Image) -> AnyImage:
            return from_image(resample(to_image(jnp.nan_to_num(pair), decay=decay), height, width), decay=decay)

        def change(pair: Image) -> AnyImage:
            return to_image(resample(from_image(jnp.nan_to_num(pair), decay=decay), height, width), decay=decay)

        steps, changes = jax.vmap(step)(old.diff_params_memory), area * jax.vmap(change)(old.diff_updates_memory)
        curvature = jnp.einsum("khwc,khwc->k", steps, changes)
        known = (old.weights_memory != 0) & (curvature > 0)
        image = resample(to_image(state.image, decay=decay), height, width)
        start = self.init(jnp.clip(image, 0, 1), tuple(state.terms))
        memory = start.memory._replace(
            # One less: the next update stores the newest pair once more, in its own slot.
            count=jnp.maximum(old.count - 1, 0),
            diff_params_memory=steps,
            diff_updates_memory=changes,
            weights_memory=jnp.where(known, 1 / jnp.where(known, curvature, 1.0), 0.0),
        )
        return start.replace(memory=memory, failed=state.failed)

    def picture(self, state: LBFGSState) -> Image:
        """Return the accepted picture, clipped."""
        return jnp.clip(to_image(state.image, decay=self.spectral_decay), 0, 1)


def _with_pairs(memory: Memory, touched: Memory) -> Memory:
    """Return `memory` with the stored pairs of `touched`, an update of it that was not accepted.

    They differ only in the slot that the next accepted step overwrites. Taking them over lets XLA update the pairs
    in place; choosing between two memories would copy both at every step.
    """
    return memory._replace(
        diff_params_memory=touched.diff_params_memory, diff_updates_memory=touched.diff_updates_memory
    )


def _with_last_pair(memory: Memory, trial: Image, gradient: Image, *, fresh: Flag) -> Memory:
    """Give `memory` the previous point and gradient that its next update differs from.

    At the first evaluation of a size there is none: the point is chosen such that the update reproduces the newest
    pair, which was carried over from the size before.
    """
    newest = (memory.count - 1) % memory.weights_memory.shape[0]

    def previous(now: Image, pairs: Float[Array, "memory height width 3"], known: Image) -> Image:
        return jnp.where(fresh, now - pairs[newest], known)

    return memory._replace(
        params=previous(trial, memory.diff_params_memory, memory.params),
        updates=previous(gradient, memory.diff_updates_memory, memory.updates),
    )


def _shrunk(state: LBFGSState, loss: Scalar, finite: Flag) -> Scalar:
    """Return the minimum of the parabola through f(x), its slope and the rejected f(x + t d), safeguarded."""
    t = state.length
    bend = loss - state.loss - t * state.slope
    best = -state.slope * t**2 / (2 * jnp.where(bend > 0, bend, jnp.inf))
    low, high = SHRINK_RANGE
    return jnp.clip(jnp.where(finite, best, 0.0), low * t, high * t)
