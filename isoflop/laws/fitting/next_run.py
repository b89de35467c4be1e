"""Which run next? Rank affordable runs by how much each would narrow the decision that is to be made.

A run is worth doing when the law is in doubt about its loss in the same way as it is about the decision. The
bootstrap draws know both: over the replicates, let g be the logarithm of N* (or of the loss) at the target budget and f
the log loss of the candidate. Were the draws normal, measuring the candidate with noise s would leave the decision

    var(g) − cov(g, f)² / (var(f) + s²),

the rule of Bayesian linear design (Chaloner & Verdinelli 1995). Draws in the outer hundredth are pulled in first,
because a bootstrap has tails that one run will not cure. The tests hold the ranking against refits. Milliseconds for
hundreds of candidates.

Left out: batches of several runs (choose one, measure, ask again), and doubt about the form itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..forms.law import Array, Law, positive
from ..forms.surface import FLOPS
from .fit import Fit

Decision = Literal["N", "loss"]
PULLED_IN = 0.01  # of the draws, at either end


@dataclass(frozen=True)
class Candidate:
    """A run that could be done: N parameters on D tokens for C FLOPs, and what it would do.

    ``width`` is what would remain of the decision's interval, relative to now (1: the run is useless); ``value`` the
    share of the decision's variance it removes, per FLOP.
    """

    N: float
    D: float
    C: float
    width: float
    value: float

    def __str__(self) -> str:
        return f"N = {self.N:.4g}, D = {self.D:.4g}, C = {self.C:.3g} FLOPs: interval × {self.width:.3f}"


def rank_candidates(
    fit: Fit[Law],
    N: ArrayLike,
    D: ArrayLike,
    budget: float,
    *,
    decision: Decision = "N",
    most: float | None = None,
) -> list[Candidate]:
    """Rank candidate runs (N and D broadcast to one row each) for a decision at ``budget`` FLOPs, best first.

    ``decision`` is the compute-optimal "N" at the budget or the "loss" there; ``most`` leaves out runs of more FLOPs.

    Raises ValueError for a fit without replicates, for candidates that are not positive, and when none is affordable.
    """
    n, d = (positive(name, column).ravel() for name, column in zip("ND", np.broadcast_arrays(N, D), strict=True))
    C = FLOPS * n * d
    if most is not None:
        affordable = most >= C
        n, d, C = n[affordable], d[affordable], C[affordable]
    if not n.size:
        raise ValueError("no candidate is affordable; raise `most`, or offer smaller runs")
    left = _variance_left(_decision(fit, budget, decision), np.log(fit.draw_means(n, d)), fit.residual_sd)
    found = [
        Candidate(float(a), float(b), float(c), float(np.sqrt(rest)), float((1 - rest) / c))
        for a, b, c, rest in zip(n, d, C, left, strict=True)
    ]
    return sorted(found, key=lambda candidate: candidate.width)


def candidates_at(budgets: ArrayLike, fit: Fit[Law], *, sizes: int = 7, span: float = 4.0) -> tuple[Array, Array]:
    """Propose runs: at each budget, sizes from 1/span to span times the fitted optimum; N and D, one row a run."""
    C = np.atleast_1d(positive("budgets", budgets))
    middle = np.array([np.median(fit.draw_optimum(c)[0]) for c in C])
    N = (middle[:, None] * np.geomspace(1 / span, span, sizes)).ravel()
    return N, np.repeat(C, sizes) / FLOPS / N


def _decision(fit: Fit[Law], budget: float, decision: Decision) -> Array:
    N = fit.draw_optimum(budget)[0]
    if decision == "N":
        return np.asarray(np.log(N))
    if decision == "loss":
        best = float(np.median(N))
        return np.asarray(np.log(fit.draw_means(best, budget / FLOPS / best)))
    raise ValueError(f"decision is {decision!r}; it is 'N' or 'loss'")


def _variance_left(g: Array, f: Array, noise: float) -> Array:
    """The share of var(g) that measuring each column of f (draws, candidates) would leave."""
    g, f = (np.clip(v, *np.quantile(v, [PULLED_IN, 1 - PULLED_IN], axis=0)) for v in (g, f))
    g, f = g - g.mean(), f - f.mean(axis=0)
    shared = (g @ f / len(g)) ** 2 / ((f**2).mean(axis=0) + noise**2)
    return np.asarray(1 - shared / max(float((g**2).mean()), 1e-300)).clip(0.0, 1.0)
