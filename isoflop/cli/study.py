"""Runs and their laws, as ``isoflop fit`` reads them: a surface or another form, and the minima where there are curves.

A sweep's directory is read through :mod:`isoflop.sweeps`, which knows its conventions of N, chooses the form by its own
roll-forward and counts cells that are missing. Anything else is a table of runs to :mod:`isoflop.laws`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoflop import laws
from isoflop.cli.tables import aligned
from isoflop.laws.fitting.budgets import group_budgets
from isoflop.laws.fitting.statuses import LOSS_PRECISION, OUTLIER
from isoflop.laws.forms.law import letter
from isoflop.planning.shape import human
from isoflop.sweeps.fit import fit_results, isoflop_json
from isoflop.sweeps.results import read_results


@dataclass(frozen=True)
class Answer:
    """One part of what was asked: text for a screen, entries for the JSON document."""

    text: str
    data: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Study:
    """A fitted law with its runs, the analysis of the minima where there is one, and what is said of both first.

    ``x`` is the variable of a law of one variable.
    """

    fit: laws.Fit[laws.Law]
    isoflop: laws.IsoFLOPAnalysis | None
    opening: Answer
    x: str = ""


@dataclass(frozen=True)
class Request:
    """How to fit: the form, the variable of a law of one, what to leave out, Huber's δ, and the bootstrap."""

    form: laws.Law
    x: str
    drop_largest: int
    drop_outliers: bool
    delta: float
    replicates: int
    seed: int

    def fit(self, runs: laws.Runs, replicates: int) -> laws.Fit[laws.Law]:
        """Fit the form to runs."""
        return laws.fit(runs, self.form, x=self.x, delta=self.delta, replicates=replicates, seed=self.seed)


def study_sweep(sweep: Path, replicates: int, seed: int) -> Study:
    """Read a sweep's directory; the study is of its surface by the budgets' own convention of N."""
    fit = fit_results(read_results(sweep), replicates=replicates, seed=seed)
    lines = []
    for name, surface in fit.surfaces.items():
        lines.append(f"surface, N = {name}: {surface.law}")
        lines += [f"    {p:<6} 95% {low:.4g} to {high:.4g}" for p, (low, high) in _intervals(surface).items()]
    if fit.isoflop is not None:
        lines.append(f"D*(C): {fit.isoflop.tokens}\nN*(C): {fit.isoflop.params}\nL*(C): {fit.isoflop.loss}")
        lines += [f"    {curve}" for curve in fit.isoflop.curves]
    lines += [f"note: {status}" for status in fit.statuses]
    return Study(fit.surfaces["matmul"], fit.isoflop, Answer("\n".join(lines), fit.to_json()))


def study_runs(sources: Sequence[Path], columns: Mapping[str, str], request: Request) -> Study:
    """Read CSV files and directories of runs as one table, and fit it."""
    runs, notes = drop(laws.read_runs(list(sources), columns=columns), request)
    fit = request.fit(runs, request.replicates)
    notes += [*unfinished(sources), *fit.statuses]
    isoflop, said = minima(runs, request)
    notes += said
    text = [law_text(fit), *([minima_text(isoflop)] if isoflop else []), "\n".join(f"note: {note}" for note in notes)]
    data = {"fit": fit.to_json(), "isoflop": isoflop_json(isoflop), "notes": notes}
    return Study(fit, isoflop, Answer("\n\n".join(filter(None, text)), data), request.x)


def unfinished(sources: Sequence[Path]) -> list[str]:
    """Say of sweeps among the sources how many of their cells are still missing."""
    missing = {path: read_results(path).missing for path in sources if (path / "sweep.toml").exists()}
    return [f"{path}: {count} cells are not finished and are left out" for path, count in missing.items() if count]


def drop(runs: laws.Runs, request: Request) -> tuple[laws.Runs, list[str]]:
    """Leave out the runs of highest loss, then those far from a first fit, as asked; and say which.

    Raises ValueError when no run would be left.
    """
    notes = []
    if not 0 <= request.drop_largest < len(runs):
        raise ValueError(f"drop_largest is {request.drop_largest}; there are {len(runs)} runs to choose from")
    if request.drop_largest:
        last = np.argsort(np.argsort(runs.loss)) >= len(runs) - request.drop_largest
        notes.append(f"left out: the {last.sum()} highest losses ({runs.named(last)})")
        runs = runs.take(~last)
    if request.drop_outliers:
        first = request.fit(runs, 0)
        far = np.abs(first.residuals) > max(OUTLIER * first.residual_sd, 10 * LOSS_PRECISION)
        notes.append(f"left out: {far.sum()} outliers of a first fit" + (f" ({runs.named(far)})" if far.any() else ""))
        runs = runs.take(~far)
    return runs, notes


def minima(runs: laws.Runs, request: Request) -> tuple[laws.IsoFLOPAnalysis | None, list[str]]:
    """Analyse the IsoFLOP curves, where the runs cluster at budgets; and what is to be said of them."""
    budgets = group_budgets(runs.C)
    if not budgets.are_curves:
        return None, []
    nominal, options = budgets.values[budgets.of], {"replicates": request.replicates, "seed": request.seed}
    try:
        found = laws.analyse(nominal, runs.N, runs.D, runs.loss, **options)
    except ValueError as error:
        return None, [f"IsoFLOP: {error}"]
    return found, [f"IsoFLOP: {status}" for status in found.statuses]


def law_text(fit: laws.Fit[laws.Law]) -> str:
    """The formula with its numbers, what it was fitted to, and the parameters with their intervals."""
    intervals = _intervals(fit)
    rows = [("", "value", "95% interval" if intervals else "")]
    for name, value in fit.law.parameters().items():
        low, high = intervals.get(name, (np.nan, np.nan))
        rows.append((letter(name), f"{value:.5g}", f"{low:.4g} to {high:.4g}" if name in intervals else ""))
    C = fit.runs.C
    return "\n".join(
        [
            f"{fit.law}",
            f"{len(fit.runs)} runs, C = {C.min():.3g} to {C.max():.3g} FLOPs, residual sd {fit.residual_sd:.2%}",
            aligned(rows),
        ]
    )


def minima_text(analysis: laws.IsoFLOPAnalysis) -> str:
    """A row per budget, and the laws of the minima."""
    rows = [("C", "runs", "N*", "D*", "D*/N*", "loss", "95% of N*")]
    for curve in analysis.curves:
        start = (f"{curve.budget:.3g}", str(curve.D.size))
        if not curve.usable:
            rows.append((*start, curve.status, "", "", "", ""))
            continue
        low, high = curve.intervals.get("N", (np.nan, np.nan))
        found = (human(curve.N_star), human(curve.D_star), f"{curve.D_star / curve.N_star:.3g}")
        between = f"{human(low)} to {human(high)}" if "N" in curve.intervals else ""
        rows.append((*start, *found, f"{curve.loss_star:.4f}", between))
    told = [
        ("N*(C)", analysis.params, analysis.param_draws, 1),
        ("D*(C)", analysis.tokens, analysis.token_draws, 1),
        ("L*(C)", analysis.loss, analysis.loss_draws, 2),
    ]
    lines = [f"  {name} = {_of_compute(law)}{_exponent(draws, place)}" for name, law, draws, place in told]
    return "\n".join(["IsoFLOP minima", aligned(rows), *lines])


def _of_compute(law: laws.Law) -> str:
    """A law of x as one of C, without its left side."""
    return str(law).split("= ", 1)[1].replace("x", "C")


def _exponent(draws: Any, place: int) -> str:
    if not len(draws):
        return ""
    low, high = np.nanquantile(draws[:, place], [0.025, 0.975])
    return f"   (95% of the exponent: {low:.3f} to {high:.3f})"


def _intervals(fit: laws.Fit[laws.Law]) -> dict[str, tuple[float, float]]:
    return fit.parameter_intervals() if len(fit.draws) else {}
