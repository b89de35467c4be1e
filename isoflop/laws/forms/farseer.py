"""A surface whose data term depends on the size: larger models use tokens at another rate.

Evaluation is direct and tokens for a loss have a closed answer. Nothing in the form makes the loss fall in N
everywhere, and it may have no floor: an absurdly large model on almost no tokens can come out best of all. So a
budget is spent in a valley of the loss between the extremes, and sizes are sought from below, up to one per token;
milliseconds a question. Left out: published constants, which we could not check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .law import BLANK, Array, Values, positive
from .surface import FLOPS, RANGE, Allocation, LossSurface, minimise, reach

BUDGETS = (1e15, 1e27)  # FLOPs; the form has a valley at these with plausible numbers


@dataclass(frozen=True, repr=False)
class Farseer(LossSurface, kind="farseer"):
    """L(N, D) = exp(a3·N^γ + b3) + exp(a2·N^β + b2) · D^(−exp(a1·N^α + b1)), in nats per token.

    The first term is the loss of N parameters on unlimited data; the second what data still removes, with a
    coefficient and an exponent that each go with N as a stretched exponential; with a1 = a2 = 0 it is Chinchilla's.
    Trust it inside the range of its runs. Source: Li et al. 2025, "Predictable Scale: Part II, Farseer"; the form is
    as remembered, not read in the paper.
    """

    a1: float = BLANK
    b1: float = BLANK
    alpha: float = BLANK
    a2: float = BLANK
    b2: float = BLANK
    beta: float = BLANK
    a3: float = BLANK
    b3: float = BLANK
    gamma: float = BLANK
    formula = "L = exp({a3}·N^{gamma} + {b3}) + exp({a2}·N^{beta} + {b2}) · D^(-exp({a1}·N^{alpha} + {b1}))"

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        floor, coefficient, exponent = self._at(np.asarray(N, float))
        return floor + coefficient * np.asarray(D, float) ** -exponent

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        n, d = np.asarray(N, float), np.asarray(D, float)
        floor, coefficient, exponent = self._at(n)
        data = coefficient * d**-exponent
        # Each of the three is exp(a·N^p + b), so its logarithm has the slope a·p·N^(p−1).
        floor_slope, coefficient_slope, exponent_slope = (
            a * p * n ** (p - 1) for a, p in ((self.a3, self.gamma), (self.a2, self.beta), (self.a1, self.alpha))
        )
        by_size = floor * floor_slope + data * (coefficient_slope - np.log(d) * exponent * exponent_slope)
        return by_size, -exponent * data / d

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        floor, coefficient, exponent = (float(value) for value in self._at(positive("N", N)))
        if not loss > floor:
            return math.inf
        return math.exp(min(math.log(coefficient / (loss - floor)) / exponent, 700.0))

    def params_for(self, loss: float, D: float) -> float:
        """Return the fewest parameters that reach ``loss`` on D tokens; infinite where no size up to D is enough."""
        sizes = np.geomspace(RANGE[0], float(positive("D", D)), 1000)
        enough = np.flatnonzero(self.loss(sizes, D) <= loss)
        if not enough.size:
            return math.inf
        return reach(lambda N: self.loss(N, D), loss, sizes[max(enough[0] - 1, 0)], sizes[enough[0]])

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss in a valley between the extremes, under C = 6ND.

        Raises ValueError for a budget that is not positive, and for one at which the loss has no valley.
        """
        budget = float(positive("the budget C", C)) / FLOPS

        def curve(x: Values) -> Values:
            return self.loss(np.exp(x), budget / np.exp(x))

        x = np.linspace(math.log(RANGE[0]), math.log(budget / RANGE[0]), 1000)
        losses = curve(x)
        valleys = 1 + np.flatnonzero((losses[1:-1] < losses[:-2]) & (losses[1:-1] < losses[2:]))
        if not valleys.size:
            raise ValueError(f"{self} has no compute-optimal point at C = {C:.4g}: it wants all of one side")
        best = valleys[np.argmin(losses[valleys])]
        N = math.exp(minimise(curve, x[best - 1], x[best + 1]))
        return Allocation(N=N, D=budget / N, C=C, loss=float(self.loss(N, budget / N)))

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError where no budget from 1e15 to 1e27 FLOPs does."""
        C = reach(lambda C: np.array([self.optimal(c).loss for c in np.atleast_1d(C)]), loss, *BUDGETS)
        if not BUDGETS[0] < C < BUDGETS[1]:
            raise ValueError(f"no budget from {BUDGETS[0]:.0e} to {BUDGETS[1]:.0e} FLOPs has {loss} as its lowest loss")
        return self.optimal(C)

    def _at(self, n: Array) -> tuple[Array, Array, Array]:
        """Return the floor, the data term's coefficient and its exponent at sizes n."""
        return (
            np.exp(self.a3 * n**self.gamma + self.b3),
            np.exp(self.a2 * n**self.beta + self.b2),
            np.exp(self.a1 * n**self.alpha + self.b1),
        )
