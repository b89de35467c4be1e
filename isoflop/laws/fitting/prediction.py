"""A predicted number with its two intervals: where the mean is, and where one more measurement would fall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array


@dataclass(frozen=True)
class Prediction:
    """A value, the ``confidence`` interval of its mean, and the ``interval`` of one new measurement.

    The second is the wider: it adds the noise of a single run. Units are those of the value. For vector
    inputs, value and bounds are arrays of one shape.
    """

    value: float | Array
    confidence: tuple[float | Array, float | Array]
    interval: tuple[float | Array, float | Array]
    level: float

    def __str__(self) -> str:
        if np.ndim(self.value):
            return f"{np.size(self.value)} predictions with {self.level:.0%} intervals"
        (low, high), (least, most) = self.confidence, self.interval
        if (low, high) == (least, most):  # a choice, not a measurement
            return f"{self.value:.4g} ({self.level:.0%}: {low:.4g} to {high:.4g})"
        mean = f"{self.level:.0%}: mean {low:.4g} to {high:.4g}"
        return f"{self.value:.4g} ({mean}, one measurement {least:.4g} to {most:.4g})"


def percentile_interval(draws: Array, level: float) -> tuple[float | Array, float | Array]:
    """Return the equal-tailed interval holding ``level`` of the draws, taken along the first axis.

    Draws that are NaN (a replicate with no answer) are left out. Raises ValueError for a level outside (0,
    1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; give a share between 0 and 1, such as 0.95")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def prediction(value: ArrayLike, means: Array, outcomes: Array, level: float) -> Prediction:
    """Summarise draws of the mean and draws of one outcome, each of shape (draws, *value's shape).

    One outcome is never more certain than its mean; where the draws are too few to show that, it is imposed.
    """
    confidence, outcome = percentile_interval(means, level), percentile_interval(outcomes, level)
    return Prediction(
        value=np.asarray(value, float)[()],
        confidence=confidence,
        interval=(np.minimum(outcome[0], confidence[0]), np.maximum(outcome[1], confidence[1])),
        level=level,
    )


def noise_factors(sd: float, freedom: int, count: int, seed: int) -> Array:
    """Draw one measurement's noise as factors, shape (count,): Student's t, as the log sd is estimated."""
    t = np.random.default_rng([seed, 1]).standard_t(freedom, count)
    return np.exp(np.clip(sd * t, -20, 20))  # with a degree of freedom or two, t knows no bound


def check_replicates(replicates: int) -> None:
    """Raise ValueError unless ``replicates`` is zero (no intervals) or enough for percentiles."""
    if replicates != 0 and replicates < 20:
        raise ValueError(f"replicates is {replicates}; give 0 for no intervals, or at least 20 (1,000 is good)")
