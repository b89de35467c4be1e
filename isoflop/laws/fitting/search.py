"""The search for a bound form's global minimum, and the noise that it leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..forms.law import Array, Mask
from .newton import descend, objective
from .recipes import Bound

STARTS = 6


@dataclass(frozen=True, eq=False)
class Problem:
    """A form bound to runs, their log losses z and weights (runs,), and Huber's δ: what is minimised."""

    bound: Bound
    z: Array
    weights: Array
    delta: float

    def minima(self, starts: int = STARTS) -> tuple[Array, Array]:
        """Descend from the best starts; return the minima (starts, entries) and their objectives, lowest first."""
        minima, heights = self.descend(self.starts(starts), self.z, self.weights)
        order = np.argsort(heights)
        return minima[order], heights[order]

    def minimum(self) -> tuple[Array, float]:
        """Return the θ of lowest objective, and that objective."""
        minima, heights = self.minima()
        return minima[0], float(heights[0])

    def minimum_from(self, theta: Array) -> Array:
        """Return the minimum that a good guess leads to."""
        return np.asarray(self.descend(theta[None], self.z, self.weights)[0][0])

    def starts(self, count: int) -> Array:
        """The most promising θ, best first."""
        return self.bound.model.starts(self.z, self.weights, self.delta, self.bound.held, count)

    def descend(
        self, theta: Array, z: Array, weights: Array, *, held: Mask | None = None, tolerance: float = 1e-13
    ) -> tuple[Array, Array]:
        """Minimise from each θ, for its own z and weights; ``held`` adds to what the form holds already."""
        mask = self.bound.mask if held is None else self.bound.mask | held
        return descend(self.bound.model, theta, z, weights, self.delta, held=mask, tolerance=tolerance)

    def heights(self, theta: Array, z: Array, weights: Array) -> Array:
        """The objective of each θ."""
        return objective(self.bound.model, theta, z, weights, self.delta)

    def without(self, rows: Mask) -> Problem:
        """Leave out some runs."""
        return replace(self, weights=np.where(rows, 0.0, self.weights))

    def residuals(self, theta: Array) -> Array:
        """log L − log L_pred per run, for one θ."""
        return np.asarray(self.z - self.bound.model.log_loss(theta[None])[0])


def robust_sd(residuals: Array, parameters: int) -> float:
    """Estimate the noise's standard deviation from the median size of the residuals that are free to show it.

    The ``parameters`` smallest are left out: a robust fit passes through that many runs whatever the noise.
    """
    free = np.sort(np.abs(residuals))[parameters:]
    return float(1.4826 * np.median(free))
