"""Metrics over many stylized images: means with their standard errors, and distances of whole sets."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from swag_jax.measure.evaluator import CANDIDATES, Candidate, Comparison
from swag_jax.measure.frechet import Moments, artfid, frechet_distance


@dataclass(frozen=True)
class Estimate:
    """The mean of a metric over images.

    Attributes:
        standard_error: Of the mean; `None` for one image, and for a metric of sets, whose value `mean` is.
        count: How many images.
    """

    mean: float
    standard_error: float | None
    count: int


Estimates: TypeAlias = dict[str, dict[Candidate, Estimate]]
"""The estimate of every candidate, by metric."""


def estimate(values: Sequence[float]) -> Estimate:
    r"""Return the mean of numbers with its standard error, :math:`s / \sqrt n`, s being the sample's deviation.

    Example:
        >>> estimate([1.0, 2.0, 3.0, 6.0])
        Estimate(mean=3.0, standard_error=1.0801234497346435, count=4)
    """
    count = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else None
    return Estimate(float(np.mean(values)), error, count)


class Aggregate:
    """Adds up the comparisons of many images, without keeping them."""

    def __init__(self):
        self._values: dict[str, list[dict[Candidate, float]]] = {}
        self._moments: dict[Candidate, Moments] = {}

    def add(self, comparison: Comparison) -> None:
        """Add one image."""
        for name, found in comparison.values.items():
            self._values.setdefault(name, []).append(found)
        for candidate, vectors in comparison.vectors.items():
            before = self._moments.get(candidate) or Moments.empty(vectors.shape[1])
            self._moments[candidate] = before.add(vectors)

    def estimates(self) -> Estimates:
        """Return the estimates of every metric for each candidate; without `fid` if there are fewer than two images."""
        found: Estimates = {
            name: {c: estimate([value[c] for value in values]) for c in CANDIDATES}
            for name, values in self._values.items()
        }

        def of_set(value: Callable[[Candidate], float]) -> dict[Candidate, Estimate]:
            return {c: Estimate(value(c), None, self._moments[c].count) for c in CANDIDATES}

        if min((moments.count for moments in self._moments.values()), default=0) > 1:
            found["fid"] = of_set(lambda c: frechet_distance(self._moments[c], self._moments["style"]))
            if "lpips" in found:
                found["artfid"] = of_set(lambda c: artfid(found["lpips"][c].mean, found["fid"][c].mean))
        return found
