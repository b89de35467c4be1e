"""Profile likelihood: how far one parameter can be moved before no choice of the others makes up for it.

Where a direction is flat a bootstrap's percentiles depend on where its replicates happened to stop; a profile shows the
flatness itself, and its interval may honestly have no end. The parameter is held at every value of a grid, the others
refitted (a batch), and the rise of the objective is turned into a statistic that is χ² with one degree of freedom when
the form holds (F, as the noise is estimated):

    2κ·(Q(held) − Q(best)),  κ = E[ψ′] / E[ψ²]

with ψ the slope of Huber's function (Heritier & Ronchetti 1994, "Robust bounded-influence tests in general parametric
models"). E[ψ′] is taken for normal noise of the fit's robust standard deviation, E[ψ²] from the residuals. A profile of
Chinchilla's 240 runs takes about 0.1 s.

Left out: profiles of derived quantities, such as N* at a budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..forms.law import Array, Law
from .fit import Fit
from .newton import EXPONENTS
from .statuses import FLOORS, LOSS_PRECISION

POINTS = 61
TOLERANCE = 1e-7  # of the objective
LOG_RANGE = (1e-2, 1e6)  # for positive parameters that are neither exponents nor floors


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """The statistic of one parameter over a grid of its values, zero at the best; ``best`` is the fit's own value."""

    name: str
    best: float
    values: Array
    statistic: Array
    freedom: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Give the values whose statistic stays below the quantile; an end that is never reached is 0 or infinite.

        Raises ValueError for a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"the level is {level}; give a share between 0 and 1, such as 0.95")
        limit = _quantile(level, self.freedom)
        inside = np.flatnonzero(self.statistic <= limit)
        first, last = inside[0], inside[-1]
        low = 0.0 if first == 0 else self._crossing(first - 1, first, limit)
        high = math.inf if last == len(self.values) - 1 else self._crossing(last, last + 1, limit)
        return low, high

    def _crossing(self, i: int, j: int, limit: float) -> float:
        """Where the statistic crosses the limit between two neighbours, straight in its square root."""
        a, b = np.sqrt(np.maximum(self.statistic[[i, j]], 0))
        share = (math.sqrt(limit) - a) / (b - a)
        return float(np.exp(np.log(self.values[i]) + share * (np.log(self.values[j]) - np.log(self.values[i]))))

    def __repr__(self) -> str:
        return f"Profile[{self}]"

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.name} = {self.best:.5g}, profile 95% {low:.4g} to {high:.4g}"


def profile(fit: Fit[Law], name: str) -> Profile:
    """Profile one fitted parameter.

    Raises ValueError for a name that is not a fitted parameter of the form, or one that the search knows only together
    with others.
    """
    known = _profiled(fit)
    if name not in known:
        raise ValueError(f"{name} cannot be profiled; of this fit these can: {', '.join(known) or 'none'}")
    place = fit.bound.model.names.index(name)
    is_log = name in fit.bound.recipe.scales or name in fit.bound.recipe.logs
    best = float(fit.law.parameters()[name])
    values = np.unique(np.append(_grid(fit, name, best), best))
    theta = np.repeat(fit.theta[None], len(values), axis=0)
    theta[:, place] = np.log(values) if is_log else values
    heights = _held_minima(fit, theta, place)
    statistic = 2 * _kappa(fit) * np.maximum(heights - fit.objective, 0.0)
    return Profile(name, best, values, np.where(values == best, 0.0, statistic), fit.freedom)


def _profiled(fit: Fit[Law]) -> list[str]:
    """The fitted parameters that stand alone in θ; a coefficient is left out, as it moves with its exponent."""
    scales = fit.bound.recipe.scales
    return [name for name in fit.bound.free if name in fit.law.parameters() and scales.get(name) is None]


def _grid(fit: Fit[Law], name: str, best: float) -> Array:
    """Values from end to end of the parameter's range, and more of them about its best."""
    if name in FLOORS:
        top = max(float(fit.runs.loss.min()), 1.4 * best)  # noise may put losses below the floor
        wide = np.linspace(1e-3 * top, 0.9999 * top, POINTS)
    elif name in fit.bound.recipe.logs:
        wide = np.geomspace(*LOG_RANGE, POINTS)
    else:
        wide = np.geomspace(*EXPONENTS, POINTS)
    near = best * np.geomspace(0.7, 1.4, POINTS)
    return np.concatenate([wide, near[(near > wide[0]) & (near < wide[-1])]])


def _held_minima(fit: Fit[Law], theta: Array, place: int) -> Array:
    """The lowest objective at each held value, from the best fit and then from each neighbour's minimum."""
    held, problem = np.arange(theta.shape[1]) == place, fit.problem
    minima, heights = problem.descend(theta, problem.z, problem.weights, held=held, tolerance=TOLERANCE)
    # A value that fell into a worse basin than its neighbour starts again from there, until none gains.
    for _ in range(len(theta)):
        gained = False
        for step in (1, -1):
            again = np.roll(minima, step, axis=0)
            again[:, place] = theta[:, place]
            start = problem.heights(again, problem.z, problem.weights)
            better = np.flatnonzero(start < heights * (1 - 1e-9))
            if better.size:
                moved = problem.descend(again[better], problem.z, problem.weights, held=held, tolerance=TOLERANCE)
                minima[better], heights[better] = moved
                gained = True
        if not gained:
            break
    return heights


def _kappa(fit: Fit[Law]) -> float:
    """E[ψ′]/E[ψ²]: what turns the objective's rise into a χ² statistic."""
    delta, sd, weights = fit.problem.delta, max(fit.residual_sd, LOSS_PRECISION), fit.problem.weights
    slope = math.erf(delta / sd / math.sqrt(2)) * weights.mean()
    square = np.sum((weights * np.clip(fit.residuals, -delta, delta)) ** 2) / fit.freedom
    return float(slope / max(square, np.mean(weights**2) * LOSS_PRECISION**2))


def _quantile(level: float, freedom: int) -> float:
    """The quantile of F with one and ``freedom`` degrees of freedom: χ² of one when the noise is well known."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2)) ** 2
