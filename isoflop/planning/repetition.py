"""Any law of N and D, for a limited number of different tokens: what repeats and excess parameters still count for.

Muennighoff et al. 2023 (equations 5 and 6) made Chinchilla's law data-constrained by replacing D with the fresh tokens
it is worth, and N with the parameters that so many different tokens can feed. Both replacements need of a law only its
optimum, so they serve every surface here. R_D is hardly determined by the runs behind it, so that its doubt is drawn.
A millisecond. Left out: overfitting after tens of epochs, and the doubt about R_N, which their runs tie to R_D.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isoflop.laws import MUENNIGHOFF_2023, Chinchilla, DataConstrained, LossSurface
from isoflop.laws.forms.repetition import decayed

Draws = NDArray[np.float64]
R_D, R_N = MUENNIGHOFF_2023.R_D, MUENNIGHOFF_2023.R_N
LEAST_R_D = 5.7
"""Lower end of the 95% profile interval of R_D, whose upper end is infinity (docs/lab.md, Muennighoff)."""
HALF_NORMAL_95 = 2.2414  # the point below which 97.5% of a half-normal variable lies


def worth(D: ArrayLike, unique: float, rate: ArrayLike = R_D) -> Draws:
    """The fresh tokens that D tokens are worth, of which ``unique`` are different; the inputs broadcast."""
    d = np.asarray(D, float)
    return decayed(d, np.minimum(d, unique), np.asarray(rate, float))


def drawn_worth(D: float, unique: float, count: int) -> Draws:
    """The same with the doubt about R_D: half-normal in 1/R_D, so that its 95% interval is the profile's."""
    if unique >= D:
        return np.full(count, D)
    rates = np.abs(np.random.default_rng(1).standard_normal(count)) / HALF_NORMAL_95 / LEAST_R_D
    return worth(D, unique, 1 / np.maximum(rates, 1e-9))


def fed(surface: LossSurface, N: ArrayLike, D: ArrayLike, unique: float) -> Draws:
    """The parameters that count, of N that see D tokens of which ``unique`` are different: all of enough ones."""
    n = np.asarray(N, float)
    if math.isinf(unique):
        return n
    return decayed(n, np.minimum(n, matched(surface, np.minimum(D, unique))), R_N)


def matched(surface: LossSurface, tokens: ArrayLike) -> Draws:
    """The size for which so many tokens are compute-optimal: where one percent more of either gains the same."""
    D = np.asarray(tokens, float)
    if isinstance(surface, Chinchilla):
        return DataConstrained(**surface.parameters(), R_D=R_D, R_N=R_N).matched(D)
    low, high = np.full(D.shape, math.log(1e-2)), np.full(D.shape, math.log(1e20))
    for _ in range(80):
        middle = (low + high) / 2
        N = np.exp(middle)
        by_size, by_tokens = surface.slopes(N, D)
        too_small = np.asarray(N * by_size < D * by_tokens)  # both fall: size still gains more
        low, high = np.where(too_small, middle, low), np.where(too_small, high, middle)
    return np.asarray(np.exp((low + high) / 2))


def loss(surface: LossSurface, N: ArrayLike, D: ArrayLike, unique: float) -> Draws:
    """The loss of N parameters on D tokens of which ``unique`` are different (infinite: all are); N and D broadcast."""
    return np.asarray(surface.loss(fed(surface, N, D, unique), worth(D, unique)))
