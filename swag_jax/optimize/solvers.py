"""Solvers whose parameter is the image: one protocol, and Adam.

A solver is a frozen value; its state is a pytree that always holds the image. One step costs exactly one
value-and-gradient of the objective, so that N steps of any solver are N evaluations, singly and under `jax.vmap`.

"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from swag_jax._checks import check_range
from swag_jax._modes import as_carried
from swag_jax._pytree import pytree_dataclass
from swag_jax._types import Flag, Image, Scalar
from swag_jax.images.resize import resample
from swag_jax.losses.objective import Terms

Evaluate: TypeAlias = Callable[[Image], tuple[tuple[Scalar, Terms], Image]]
"""Image -> ((loss, terms), gradient): `jax.value_and_grad(..., has_aux=True)` of the objective."""

History: TypeAlias = dict[str, Float[Array, " steps"]]
"""The loss (`total`) and every term by step."""


@runtime_checkable
class State(Protocol):
    """What every solver's state holds."""

    @property
    def image(self) -> Image:
        """The image as optimized; not clipped to [0, 1] by every solver."""
        ...

    @property
    def loss(self) -> Scalar:
        """The loss at the last evaluation that counted; 0 before the first."""
        ...

    @property
    def terms(self) -> Terms:
        """The terms of that loss."""
        ...

    @property
    def failed(self) -> Flag:
        """Whether a loss or gradient that is not finite has stopped the solver."""
        ...


S = TypeVar("S", bound=State)


@runtime_checkable
class Solver(Protocol[S]):
    """A method that improves an image, one evaluation per step."""

    def init(self, image: Image, terms: tuple[str, ...]) -> S:
        """Return the state before the first step, for an objective with terms of these names."""
        ...

    def point(self, state: S) -> Image:
        """Return the image that the next step evaluates."""
        ...

    def step(self, evaluate: Evaluate, state: S) -> S:
        """Evaluate once and move on."""
        ...

    def resized(self, state: S, height: int, width: int) -> S:
        """Return the state carried to an image of another size."""
        ...

    def image(self, state: S) -> Image:
        """Return the result so far, in [0, 1]."""
        ...


def run(evaluate: Evaluate, solver: Solver[S], state: S, *, steps: int) -> tuple[S, History]:
    """Take `steps` steps in one `lax.scan`. Pure.

    Returns:
        The state after the last step, and the history: `total` and every term, `steps` float32 numbers each.
    """

    def step(state: S) -> S:
        return solver.step(evaluate, state)

    def body(state: S, _: None) -> tuple[S, dict[str, Scalar]]:
        state = step(state)
        return state, {"total": state.loss, **state.terms}

    return lax.scan(body, as_carried(step, state), None, length=steps)


def evaluated(evaluate: Evaluate, image: Image) -> tuple[tuple[Scalar, Terms], Image]:
    """Return what `evaluate` finds, in the type of the image: a state's types must not change from step to step."""
    return jax.tree.map(lambda found: found.astype(image.dtype), evaluate(image))


def is_finite(loss: Scalar, gradient: Image) -> Flag:
    """Tell whether the loss and every entry of the gradient are finite."""
    return jnp.isfinite(loss) & jnp.isfinite(gradient).all()


def as_failed(loss: Scalar) -> Scalar:
    """Return the loss that a failed step records: never finite, even if only the gradient was not."""
    return jnp.where(jnp.isfinite(loss), jnp.nan, loss)


def select(condition: Flag, chosen: PyTree, otherwise: PyTree) -> PyTree:
    """Choose between two equal-shaped trees, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, otherwise)


@pytree_dataclass
@dataclass(frozen=True)
class AdamState:
    """State of `Adam`."""

    image: Image  # in [0, 1]
    loss: Scalar  # of the image before the last step
    terms: Terms
    moments: optax.ScaleByAdamState
    average: Image | None  # exponential moving average, not yet corrected for its start at zero; `None` if it is off
    failed: Flag


@dataclass(frozen=True)
class Adam:
    """Adam on the image, which is clipped to [0, 1] after every step.

    Attributes:
        learning_rate: Step size in units of the image's range. 0.02: crowsonkb/style-transfer-pytorch.
        decay_first: Decay of the gradient's running mean. 0.9, as there.
        decay_second: Decay of the squared gradient's running mean. 0.99, as there.
        averaging: Decay of the running mean of the image that is returned instead of the last one; 0: none. 0.99 there,
            for thousands of steps.
    """

    learning_rate: float = 0.02
    decay_first: float = 0.9
    decay_second: float = 0.99
    averaging: float = 0.0

    def __post_init__(self):
        check_range(self.learning_rate, what="learning rate", low=0, open_low=True)
        check_range(self.averaging, what="averaging", low=0, high=0.9999)

    @property
    def _transform(self) -> Any:
        return optax.scale_by_adam(self.decay_first, self.decay_second)

    def init(self, image: Image, terms: tuple[str, ...]) -> AdamState:
        """Return the state before the first step."""
        none = jnp.zeros((), image.dtype)
        return AdamState(
            image=image,
            loss=none,
            terms=dict.fromkeys(terms, none),
            moments=self._transform.init(image),
            average=jnp.zeros_like(image) if self.averaging else None,
            failed=jnp.array(False),
        )

    def point(self, state: AdamState) -> Image:
        """Return the image as it is."""
        return state.image

    def step(self, evaluate: Evaluate, state: AdamState) -> AdamState:
        """Evaluate once and take Adam's step."""
        (loss, terms), gradient = evaluated(evaluate, state.image)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to whole numbers
            update, moments = self._transform.update(gradient, state.moments, state.image)
        image = jnp.clip(state.image - self.learning_rate * update, 0, 1)
        average = None if state.average is None else self.averaging * state.average + (1 - self.averaging) * image
        moved = AdamState(image, loss, terms, moments, average, jnp.array(False))
        stopped = replace(state, loss=as_failed(loss), terms=terms, failed=jnp.array(True))
        # A failed state no longer changes: it keeps a loss that is not finite and the terms of that step.
        return select(state.failed, state, select(is_finite(loss, gradient), moved, stopped))

    def resized(self, state: AdamState, height: int, width: int) -> AdamState:
        """Resample image, moments and average; a second moment stays non-negative."""
        mean: Any = state.moments.mu
        square: Any = state.moments.nu
        # A cubic overshoots, so squares are resampled linearly.
        square = jnp.maximum(resample(square, height, width, method="linear"), 0)
        return replace(
            state,
            image=jnp.clip(resample(state.image, height, width), 0, 1),
            moments=state.moments._replace(mu=resample(mean, height, width), nu=square),
            average=None if state.average is None else resample(state.average, height, width),
        )

    def image(self, state: AdamState) -> Image:
        """Return the averaged image, or the last one if averaging is off."""
        if state.average is None:
            return state.image
        count: Any = state.moments.count
        weight = 1 - jnp.float32(self.averaging) ** count.astype(jnp.float32)
        average = state.average / jnp.maximum(weight, jnp.finfo(jnp.float32).tiny)
        return jnp.where(weight > 0, jnp.clip(average, 0, 1), state.image)
