"""From a sweep's results to laws: IsoFLOP minima and the surface, each with its uncertainty.

The surface is fitted twice, once per convention of N, because at small sizes embeddings are much of a model:
``matmul`` (head counted, input embedding not) is the convention of the budgets, ``body`` leaves the head out too.
Whether the plan hinges on the choice is for the planner to say. Cheap enough (under a second or two) to be recomputed
from the run directories wherever it is needed, so it is never stored as a second truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from isoflop import laws
from isoflop.planning.shape import Convention
from isoflop.sweeps.results import Results

FORMS: tuple[type[laws.LossSurface], ...] = (laws.Chinchilla, laws.PoweredSum)
CONVENTIONS: tuple[Convention, ...] = ("matmul", "body")


@dataclass(frozen=True)
class Fit:
    """The laws of one sweep. ``isoflop`` is None, and ``statuses`` says why, when minima cannot give a law."""

    surfaces: dict[Convention, laws.Fit[laws.LossSurface]]
    isoflop: laws.IsoFLOPAnalysis | None
    statuses: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The laws, their parameters' 95% intervals and everything that should be known about them."""
        surfaces = {
            name: {"law": fit.law.to_json(), "intervals_95": fit.parameter_intervals(), "residual_sd": fit.residual_sd}
            for name, fit in self.surfaces.items()
        }
        return {"surfaces": surfaces, "isoflop": isoflop_json(self.isoflop), "statuses": list(self.statuses)}


def isoflop_json(analysis: laws.IsoFLOPAnalysis | None) -> dict[str, Any] | None:
    """The minima and their laws as plain values."""
    if analysis is None:
        return None
    curves = [
        {"budget": c.budget, "status": c.status}
        | ({"D": c.D_star, "N": c.N_star, "loss": c.loss_star} if c.usable else {})
        | {"intervals_95": dict(c.intervals or {})}
        for c in analysis.curves
    ]
    found = {"tokens": analysis.tokens, "params": analysis.params, "loss": analysis.loss}
    return {"curves": curves} | {name: law.to_json() for name, law in found.items()}


def choose_form(runs: laws.Runs) -> tuple[type[laws.LossSurface], str]:
    """Choose the form that would have predicted this sweep's own larger budgets best; and a sentence about it."""
    try:
        scores = {score.form: score.error for score in laws.validate(runs, FORMS, replicates=20).scores}
    except ValueError as error:
        return FORMS[0], f"the surface is {FORMS[0].__name__}'s, unchosen: {error}"
    best = min(FORMS, key=lambda form: scores.get(form.__name__, math.inf))
    told = ", ".join(f"{name} {error:.2%}" for name, error in scores.items() if name in {f.__name__ for f in FORMS})
    return best, f"the surface is {best.__name__}: errors when rolling forward over this sweep's budgets were {told}"


def fit_results(results: Results, *, replicates: int = 1000, seed: int = 0) -> Fit:
    """Fit both kinds of law to the finished cells. Raises ValueError when there are too few for a surface."""
    tables = {
        name: laws.read_runs({"N": results.parameters(name), "D": results.tokens, "loss": results.loss})
        for name in CONVENTIONS
    }
    form, chosen = choose_form(tables["matmul"])
    surfaces = {name: laws.fit(table, form, replicates=replicates, seed=seed) for name, table in tables.items()}
    statuses = [chosen, *(f"surface ({name}): {status}" for name, fit in surfaces.items() for status in fit.statuses)]
    try:
        N = results.parameters("matmul")
        isoflop = laws.analyse(results.budgets, N, results.tokens, results.loss, replicates=replicates, seed=seed)
        statuses += [f"IsoFLOP: {status}" for status in isoflop.statuses]
    except ValueError as error:
        isoflop = None
        statuses.append(f"IsoFLOP: {error}")
    if results.missing:
        statuses.append(f"{results.missing} cells of the grid are not finished and are left out")
    return Fit(surfaces, isoflop, tuple(statuses))
