"""Muennighoff et al. 2023, repeated data: their law against the 182 runs that it was fitted to.

Data: ``muennighoff/fit_set_cells25_26.csv`` under the folder. The published fit holds E, A, α, B and β and moves R_D
and R_N to lower the sum over runs of the Huber loss (δ = 10⁻³) of log L; R² is of L itself. The published point is at
a local minimum. A slightly lower one lies at R_D = 95.4 and R_N = 1.71 (:func:`lowest`), and between R_D = 15 and 300
the objective, minimised over R_N (:func:`profile`), stays within .25% of its least. These runs hardly say how fast
repeated tokens lose their worth, only that it is not within the first few epochs.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..forms.law import Array
from ..forms.repetition import MUENNIGHOFF_2023, DataConstrained
from ..forms.surface import minimise
from .check import Check

SOURCE = "Muennighoff et al. 2023"
DELTA = 1e-3
STARTS = ((3.0, 3.0), (15.0, 5.0), (50.0, 1.0), (300.0, 1.0))  # R_D and R_N

Runs = tuple[Array, Array, Array, Array]


def checks(folder: Path) -> list[Check]:
    """Compare the two losses that the paper's code prints, and its fit's objective and R², with the law's."""
    runs = read(folder)
    law = MUENNIGHOFF_2023
    return [
        Check(SOURCE, "loss of 6.34B on 242B tokens, 25B unique", 2.22564409, law.loss(6.34e9, 242e9, 25e9), 5e-9),
        Check(SOURCE, "loss of 8.67B on 178B tokens, 25B unique", 2.22696341, law.loss(8.67e9, 178e9, 25e9), 5e-9),
        Check(SOURCE, "objective", 0.01582594, objective(law, runs), 5e-9),
        Check(SOURCE, "R²", 0.7722, r_squared(law, runs), 5e-5),
    ]


def read(folder: Path) -> Runs:
    """Read N, D, U and the loss, each (runs,)."""
    with (folder / "muennighoff" / "fit_set_cells25_26.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    N, D, U, loss = (np.array([float(r[name]) for r in rows]) for name in ("params", "tokens", "unique_tokens", "loss"))
    return N, D, U, loss


def objective(law: DataConstrained, runs: Runs) -> float:
    """Return the sum of Huber losses of the log residuals."""
    N, D, U, loss = runs
    size = np.abs(np.log(law.loss(N, D, U) / loss))
    return float(np.where(size <= DELTA, size**2 / 2, DELTA * (size - DELTA / 2)).sum())


def r_squared(law: DataConstrained, runs: Runs) -> float:
    """Return the part of the loss's variance that the law explains."""
    N, D, U, loss = runs
    return float(1 - np.sum((law.loss(N, D, U) - loss) ** 2) / np.sum((loss - loss.mean()) ** 2))


def lowest(runs: Runs) -> DataConstrained:
    """Move R_D and R_N to the lowest objective, by the simplex method from several starts."""
    from scipy.optimize import minimize

    def height(logs: Array) -> float:
        return objective(_with(*np.exp(logs)), runs)

    found = [
        minimize(height, np.log(start), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12})
        for start in STARTS
    ]
    return _with(*np.exp(min(found, key=lambda result: float(result.fun)).x))


def profile(runs: Runs, R_D: float) -> DataConstrained:
    """Move R_N to the lowest objective at an R_D that is given."""

    def heights(logs: Array) -> Array:
        return np.array([objective(_with(R_D, np.exp(log)), runs) for log in logs])

    return _with(R_D, np.exp(minimise(heights, np.log(0.1), np.log(100.0))))


def _with(R_D: float, R_N: float) -> DataConstrained:
    return replace(MUENNIGHOFF_2023, R_D=float(R_D), R_N=float(R_N))
