"""Coarse to fine: the scales of a run and how its steps are shared among them."""

from dataclasses import dataclass

from swag_jax._checks import error
from swag_jax.images import fitted
from swag_jax.images.resize import scales
from swag_jax.optimize.settings import StylizeSettings


@dataclass(frozen=True)
class Scale:
    """One scale of a run: its longer side, height and width in pixels, and the steps taken at it."""

    size: int
    height: int
    width: int
    steps: int

    @property
    def pixels(self) -> int:
        """Pixels of the image, to which the memory is about proportional."""
        return self.height * self.width

    @property
    def work(self) -> int:
        """Pixels times steps, to which the time is about proportional."""
        return self.pixels * self.steps


def plan(shape: tuple[int, int], settings: StylizeSettings, *, minimum_size: int) -> tuple[Scale, ...]:
    """Return the scales of a run, coarse to fine; it is an error if even the finest is too small for the network.

    Steps are shared equally, the finest takes the remainder. The coarsest are left out if there are fewer steps than
    scales, or if their shorter side is below `minimum_size`.
    """
    sizes = scales(settings.size, smallest=min(settings.smallest_size, settings.size), ratio=settings.scale_ratio)
    shapes = [(size, *fitted(*shape, size)) for size in sizes]
    fitting = [s for s in shapes if min(s[1:]) >= minimum_size]
    if not fitting:
        _, height, width = shapes[-1]
        needed = -(-minimum_size * max(shape) // min(shape))
        rule = f"the shorter side must be at least {minimum_size} pixels for the deepest layer"
        raise error(rule, got=f"{height}x{width}", cure=f"pass --size {needed} or more, or shallower layers")
    fitting = fitting[-settings.steps :]
    share = settings.steps // len(fitting)
    shares = [share] * (len(fitting) - 1) + [settings.steps - share * (len(fitting) - 1)]
    return tuple(Scale(*fit, steps) for fit, steps in zip(fitting, shares, strict=True))
