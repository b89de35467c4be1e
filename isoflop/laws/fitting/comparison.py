"""The two ways of reading a sweep, side by side at one budget, and a plain statement of whether they agree.

The minima of the IsoFLOP curves use each curve's bottom and nothing else; the surface uses every run and believes that
one form holds over all of them. On the points of Llama 3's Figure 2 they are a factor of two apart at the
flagship's budget, which no interval of either one shows. So both are given, with intervals, with what the choice costs,
and with what would settle it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..forms.chinchilla import Chinchilla
from ..forms.surface import FLOPS, LossSurface
from .budgets import group_budgets
from .fit import Fit, OptimalPrediction, fit
from .isoflop import IsoFLOPAnalysis, analyse
from .prediction import Prediction
from .runs import read_runs

APART = 1.25  # the two sizes, beyond which it is said that they disagree
LARGE_DELTA = 0.1  # Huber's δ beyond all residuals: least squares in log L


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What minima and surface say of a budget: both analyses, their N*, D* and loss, and the statement."""

    C: float
    surface: Fit[LossSurface]
    isoflop: IsoFLOPAnalysis
    by_surface: OptimalPrediction
    N: Prediction
    D: Prediction
    loss: Prediction
    statement: str

    @property
    def ratio(self) -> float:
        """D* of the minima over D* of the surface."""
        return float(self.D.value / self.by_surface.D.value)

    def __repr__(self) -> str:
        return f"Comparison[C = {self.C:.4g}, D* of the minima / D* of the surface = {self.ratio:.3g}]"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        surface = {"N": self.by_surface.N, "D": self.by_surface.D, "loss": self.by_surface.loss}
        minima = {"N": self.N, "D": self.D, "loss": self.loss}
        told = {
            name: {k: {"value": float(p.value), "interval_95": [float(b) for b in p.confidence]} for k, p in x.items()}
            for name, x in (("surface", surface), ("isoflop", minima))
        }
        return {"C": self.C, "ratio": self.ratio, "statement": self.statement} | told

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{'at C = ' + format(self.C, '.4g'):<18}{'IsoFLOP minima':<34}surface",
                *(
                    f"  {name:<16}{_told(a):<34}{_told(b)}"
                    for name, a, b in (
                        ("N*", self.N, self.by_surface.N),
                        ("D*", self.D, self.by_surface.D),
                        ("loss", self.loss, self.by_surface.loss),
                    )
                ),
                self.statement,
            ]
        )


def compare(
    runs: Any,
    C: float,
    form: LossSurface | type[LossSurface] = Chinchilla,
    *,
    replicates: int = 1000,
    seed: int = 0,
    columns: dict[str, str] | None = None,
) -> Comparison:
    """Analyse runs both ways and read both at ``C`` FLOPs; ``form`` is that of the surface.

    Raises ValueError when either cannot be done: faulty runs, or fewer than two budgets with a minimum.
    """
    table = read_runs(runs, columns=columns)
    budgets = group_budgets(table.C)
    if not budgets.are_curves:
        raise ValueError("the runs do not cluster at budgets, so there are no IsoFLOP minima to compare with; use fit")
    isoflop = analyse(budgets.values[budgets.of], table.N, table.D, table.loss, replicates=replicates, seed=seed)
    surface = fit(table, form, replicates=replicates, seed=seed)
    return compare_fits(surface, isoflop, C)


def compare_fits(surface: Fit[LossSurface], isoflop: IsoFLOPAnalysis, C: float) -> Comparison:
    """Read two finished analyses of the same runs at ``C`` FLOPs."""
    best, N, D, loss = surface.optimal(C), isoflop.params_at(C), isoflop.tokens_at(C), isoflop.loss_at(C)
    return Comparison(C, surface, isoflop, best, N, D, loss, _statement(surface, isoflop, C, best, D))


def _statement(
    surface: Fit[LossSurface], isoflop: IsoFLOPAnalysis, C: float, best: OptimalPrediction, D: Prediction
) -> str:
    ratio = float(D.value / best.D.value)
    if 1 / APART < ratio < APART:
        return f"The two agree: D* within {abs(np.log(ratio)):.0%} of each other."
    largest = max(curve.budget for curve in isoflop.curves)
    reach = f"{C / largest:.3g} times beyond the largest budget" if largest < C else "within the budgets that were run"
    overlap = max(D.confidence[0], best.D.confidence[0]) <= min(D.confidence[1], best.D.confidence[1])
    says = (
        f"The two DISAGREE: the minima want {ratio:.2g}× the surface's tokens, {reach}; their 95% intervals "
        f"{'overlap all the same: neither is refuted' if overlap else 'do not overlap: one form does not hold'}."
    )
    return " ".join([says, _price(surface, C, best, D), *_sensitivity(surface, C, best), _advice(largest)])


def _price(surface: Fit[LossSurface], C: float, best: OptimalPrediction, D: Prediction) -> str:
    """What following the minima costs if the surface is right."""
    tokens = float(D.value)
    price = float(surface.law.loss(C / FLOPS / tokens, tokens)) - float(best.loss.value)
    return f"If the surface is right, following the minima costs {price:.4f} nats."


def _sensitivity(surface: Fit[LossSurface], C: float, best: OptimalPrediction) -> list[str]:
    """How far the surface's answer hangs on how it treats large residuals."""
    squares = fit(surface.runs, surface.bound.form, delta=LARGE_DELTA, weights=surface.problem.weights)
    moved = squares.surface.optimal(C).D / float(best.D.value)
    if 1 / 1.1 < moved < 1.1:
        return []
    return [f"The surface's D* becomes {moved:.2g}× itself under least squares: much hangs on a few large residuals."]


def _advice(largest: float) -> str:
    return (
        f"One more curve at 3 to 10 times {largest:.3g} FLOPs would tell; until then take the one that rolls forward "
        "better (validate), and treat the other as its error bar."
    )


def _told(p: Prediction) -> str:
    return f"{p.value:.4g} ({p.confidence[0]:.3g} to {p.confidence[1]:.3g})"
