"""What a stylization, or a run over many pairs, tells: its progress, its results, and how it can fail."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swag_jax._checks import UserError
from swag_jax._types import AnyHostImage, HostImage
from swag_jax.optimize.settings import StylizeSettings
from swag_jax.params import Source


@dataclass(frozen=True)
class Progress:
    """The state of a stylization between two compiled chunks of steps.

    Attributes:
        step: Steps done, of `steps` in all.
        height: Of the present scale in pixels, as `width`.
        losses: The total and every weighted term at the last step.
        rate: Steps per second at the present scale.
        seconds: Since the first step, compilation included.
        seconds_left: Expected to the end, from the rate and the sizes of the scales ahead.
        image: Call it to fetch the image so far, `height width 3` in [0, 1].
    """

    step: int
    steps: int
    height: int
    width: int
    losses: dict[str, float]
    rate: float
    seconds: float
    seconds_left: float
    image: Callable[[], HostImage]


@dataclass(frozen=True)
class Result:
    """A stylized image and how it came about.

    Attributes:
        image: `height width 3`, float32 in [0, 1].
        history: The loss (`total`) and every weighted term by step, `steps` float32 numbers each.
        sizes: Height and width of each scale, coarse to fine.
        steps: Taken at each scale.
        status: `done`, or `stopped` by the callback.
        tile: Side in pixels of the tiles that large scales were solved in; 0: every scale was solved whole.
        source: Where the network's weights came from.
        seconds: By phase: `load` (network and images), `compile` and `optimize`.
    """

    image: HostImage
    history: dict[str, np.ndarray]
    sizes: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    status: str
    settings: StylizeSettings
    source: Source
    seconds: dict[str, float]
    tile: int = 0


@dataclass(frozen=True)
class Outcome:
    """How one pair ended.

    Attributes:
        index: Its place among the pairs.
        result: Its `seconds` are the pair's share of its batch's. `None` if there is none.
        error: What was wrong with the pair; `None` if nothing was, or if the run was stopped before it.
    """

    index: int
    name: str
    result: Result | None
    error: UserError | None


@dataclass(frozen=True)
class BatchProgress:
    """The state of many pairs between two compiled chunks of steps.

    Attributes:
        done: Pairs that have an image; `failed`: that ended in an error.
        pairs: In all; `None` if unknown.
        rate: Pairs times steps per second, at the present size.
        seconds_left: Expected to the end, from the pixels and steps so far; `None` if `pairs` is.
        compilations: Programs compiled so far.
    """

    done: int
    failed: int
    pairs: int | None
    rate: float
    seconds: float
    seconds_left: float | None
    compilations: int


@dataclass(frozen=True)
class BatchResult:
    """Many stylized images and how they came about.

    Attributes:
        outcomes: In the order of the pairs.
        compilations: Programs compiled.
    """

    outcomes: tuple[Outcome, ...]
    compilations: int
    seconds: float

    @property
    def images(self) -> list[AnyHostImage | None]:
        """The images in the order of the pairs; `None` for a pair without one."""
        return [None if outcome.result is None else outcome.result.image for outcome in self.outcomes]

    @property
    def failed(self) -> list[Outcome]:
        """The outcomes of the pairs that ended in an error."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]


class NonFiniteLossError(UserError):
    """The loss or its gradient was not finite.

    Attributes:
        step: The step, counted from 1.
        term: The term that failed, or `gradient`.
    """

    def __init__(self, *, step: int, term: str, value: float, source: Source):
        self.step, self.term = step, term
        what = f"the term {term}" if term != "gradient" else "the gradient"
        super().__init__(
            f"{what} must be finite, got {value} at step {step}: check the weights ({source.describe()}) with "
            f"`swag-jax weights verify`, or use --precision float32 and smaller weights."
        )
