"""Laws of the loss over model and data, L(N, D), and the questions that any of them can answer.

A form states its loss and its slopes; how to spend a budget, which tokens reach a loss at a size, which compute
does, are answered here for all of them, by bisection and golden section in logarithms (a few hundred evaluations,
about a millisecond, to full precision). A form with a closed answer overrides it. Compute is C = 6ND throughout:
forward and backward passes, attention's own products not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .law import Law, Values, positive

RANGE = (1e-2, 1e40)  # where sizes and token counts are looked for
FLOPS = 6.0  # per parameter and token, forward and backward


@dataclass(frozen=True)
class Allocation:
    """How a budget is spent: N parameters on D tokens, at the loss the law gives there (C = 6ND)."""

    N: float
    D: float
    C: float
    loss: float

    @property
    def tokens_per_parameter(self) -> float:
        """D/N."""
        return self.D / self.N

    def __str__(self) -> str:
        return f"N = {self.N:.4g}, D = {self.D:.4g} for C = {self.C:.4g} FLOPs: {self.loss:.4f} nats/token"


class LossSurface(Law):
    """L(N, D) in nats per token, falling in both. Subclasses give ``loss`` and ``slopes``."""

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        raise NotImplementedError

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D, in nats per parameter and nats per token."""
        raise NotImplementedError

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND.

        Raises ValueError for a budget that is not positive, and for a law whose best size is at the end of the
        searched range (one side is then free).
        """
        positive("the budget C", C)
        low = RANGE[0]
        high = C / FLOPS / low
        N = math.exp(minimise(lambda x: self.loss(np.exp(x), C / FLOPS / np.exp(x)), math.log(low), math.log(high)))
        if not low * 10 < N < high / 10:
            raise ValueError(f"{self} has no compute-optimal point at C = {C:.4g}: it wants all of one side")
        D = C / FLOPS / N
        return Allocation(N=N, D=D, C=C, loss=float(self.loss(N, D)))

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        positive("N", N)
        return reach(lambda D: self.loss(N, D), loss)

    def params_for(self, loss: float, D: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        positive("D", D)
        return reach(lambda N: self.loss(N, D), loss)

    def compute_for(self, loss: float, N: float) -> float:
        """FLOPs that bring N parameters to ``loss`` (C = 6ND); infinite where none do."""
        return FLOPS * N * self.tokens_for(loss, N)

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute.

        Raises ValueError when no budget reaches it: it lies at or below the law's floor.
        """
        C = reach(lambda C: np.array([self.optimal(c).loss for c in np.atleast_1d(C)]), loss, 1e3, 1e45)
        if not math.isfinite(C):
            raise ValueError(f"no budget reaches a loss of {loss}: {self} does not fall that low")
        return self.optimal(C)


def reach(falling: Callable[[Values], Values], target: float, low: float = RANGE[0], high: float = RANGE[1]) -> float:
    """Solve falling(x) = target for x in [low, high] by bisection of log x.

    ``falling`` maps an array to an array. Gives infinity when even ``high`` does not come down to the target, and
    ``low`` when already ``low`` is below it.
    """
    a, b = math.log(low), math.log(high)
    if not float(np.squeeze(falling(high))) <= target:
        return math.inf
    if float(np.squeeze(falling(low))) <= target:
        return low
    for _ in range(200):
        middle = (a + b) / 2
        if float(np.squeeze(falling(math.exp(middle)))) <= target:
            b = middle
        else:
            a = middle
        if b - a < 1e-15 * max(1.0, abs(b)):
            break
    return math.exp((a + b) / 2)


def minimise(curve: Callable[[Values], Values], low: float, high: float) -> float:
    """Minimise a curve of one variable over [low, high]: a grid for the basin, then narrower grids about its best.

    ``curve`` maps an array to an array. The answer is good to about the square root of machine precision, which is
    all that the values of a function near its minimum can tell.
    """
    for _ in range(40):
        x = np.linspace(low, high, 129)
        best = int(np.argmin(curve(x)))
        low, high = x[max(best - 1, 0)], x[min(best + 1, 128)]
        if high - low < 1e-10 * max(1.0, abs(low)):
            break
    return float((low + high) / 2)
