"""What a stylization tells: its progress while it runs, its result, and how it can fail."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from swag_jax._checks import UserError
from swag_jax._types import HostImage
from swag_jax.optimize.settings import Settings
from swag_jax.params import Source


@dataclass(frozen=True)
class Progress:
    """The state of a stylization between two compiled chunks of steps.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        height: Height of the present scale in pixels.
        width: Width of the present scale in pixels.
        losses: The total and every weighted term at the last step.
        rate: Steps per second at the present scale.
        seconds: Seconds since the first step, compilation included.
        seconds_left: Expected seconds to the end, from the rate and the sizes of the scales ahead.
        picture: Call it to fetch the picture so far, `height width 3` in [0, 1].
    """

    step: int
    steps: int
    height: int
    width: int
    losses: dict[str, float]
    rate: float
    seconds: float
    seconds_left: float
    picture: Callable[[], HostImage]


@dataclass(frozen=True)
class Result:
    """A stylized picture and how it came about.

    Attributes:
        image: The picture, `height width 3`, float32 in [0, 1].
        history: The loss (`total`) and every weighted term by step, `steps` float32 numbers each.
        sizes: Height and width of each scale, coarse to fine.
        steps: Steps taken at each scale.
        status: `done`, or `stopped` by the callback.
        settings: What was asked for.
        source: Where the network's weights came from.
        seconds: Seconds by phase: `load` (network and pictures), `compile` and `optimize`.
    """

    image: HostImage
    history: dict[str, np.ndarray]
    sizes: tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    status: str
    settings: Settings
    source: Source
    seconds: dict[str, float]


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


class OutOfMemoryError(UserError):
    """The memory of the device does not hold the run."""
