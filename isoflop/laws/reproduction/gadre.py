"""Gadre et al. 2024, over-trained models: their law of the loss and their law of the error, refitted to their testbed.

Data: ``gadre/testbed.csv`` under the folder, 104 runs, and ``gadre/reference_fits.json``, the paper's own fits. Both
laws are linear given one of their numbers (the exponent b, the rate γ), so a fit is a search along a line (variable
projection) and needs no starting values. The loss law is fitted to five runs a corpus: four sizes at 20 tokens per
parameter and the smallest at 320 too; the error law to these and a 1.4B model.

The paper averages errors over 17 of its 46 tasks. Which ones is not in these files, but the testbed's column of
averages determines them: 104 equations for 46 weights, solved by 1/17 for :data:`TASKS` and zero for the rest.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..forms.law import Array
from ..forms.overtraining import OverTraining
from ..forms.surface import minimise
from .check import Check

Row = dict[str, str]

CORPORA = {"C4": "c4_original", "RedPajama": "rpj", "RefinedWeb": "rw_original"}
LOSS_RUNS = {(10569312, 20), (78914048, 20), (153677376, 20), (411616256, 20), (10569312, 320)}
"""Parameters and tokens per parameter of the runs that the loss law is fitted to."""
ERROR_RUNS = LOSS_RUNS | {(1439795200, 20)}
TASKS = (
    "arc_easy",
    "bigbench_cs_algorithms",
    "bigbench_dyck_languages",
    "bigbench_novel_concepts",
    "bigbench_operators",
    "bigbench_qa_wikidata",
    "boolq",
    "commonsense_qa",
    "copa",
    "coqa",
    "hellaswag",
    "hellaswag_zeroshot",
    "lambada_openai",
    "piqa",
    "pubmed_qa_labeled",
    "squad",
    "winograd",
)
SOURCE = "Gadre et al. 2024"


def checks(folder: Path) -> list[Check]:
    """Compare the paper's constants of both laws, for its three corpora, with fits to its runs."""
    published = json.loads((folder / "gadre" / "reference_fits.json").read_text())
    rows = testbed(folder)
    found = []
    for corpus, name in CORPORA.items():
        theirs = published[f"{name}|c4_val|avg_subset"]
        law = fit_loss(runs(rows, name, LOSS_RUNS))
        ours = {"a": law.a, "β": law.beta, "b": law.b, "E": law.E}
        found += [_check(corpus, *pair) for pair in zip(ours.items(), theirs["loss"], strict=True)]
        ours = dict(zip(("k", "γ", "ε"), fit_error(runs(rows, name, ERROR_RUNS)), strict=True))
        found += [_check(corpus, *pair) for pair in zip(ours.items(), theirs["err"], strict=True)]
    return found


def testbed(folder: Path) -> list[Row]:
    """Read the runs."""
    with (folder / "gadre" / "testbed.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def runs(rows: list[Row], corpus: str, wanted: set[tuple[int, int]]) -> list[Row]:
    """Choose the runs on one corpus of the wanted parameters and tokens per parameter."""
    return [r for r in rows if r["dataset_name"] == corpus and (int(r["N"]), float(r["tok_mult"])) in wanted]


def fit_loss(rows: list[Row]) -> OverTraining:
    """Fit the loss law to runs by least squares of the loss on C4."""
    N, D, loss = (np.array([float(r[name]) for r in rows]) for name in ("N", "D", "loss_c4_val"))
    b, (a, beta, E) = project(lambda b: np.column_stack([N**b, 6 ** (b / 2) * D**b, np.ones_like(N)]), loss, -1, -0.05)
    return OverTraining(E=E, a=a, beta=beta, b=b)


def fit_error(rows: list[Row]) -> tuple[float, float, float]:
    """Fit error = ε − k·exp(−γL) to the mean error over :data:`TASKS` by least squares; return k, γ, ε."""
    loss = np.array([float(r["loss_c4_val"]) for r in rows])
    error = np.array([[float(r[f"err_{task}"]) for task in TASKS] for r in rows]).mean(axis=1)
    rate, (k, epsilon) = project(lambda g: np.column_stack([-np.exp(-g * loss), np.ones_like(loss)]), error, 0.05, 5)
    return k, rate, epsilon


def project(columns: Callable[[float], Array], y: Array, low: float, high: float) -> tuple[float, list[float]]:
    """Minimise |columns(x)·c − y|² over x in [low, high] and c; return x and c. ``columns`` gives (runs, entries)."""

    def solve(x: float) -> Array:
        return np.asarray(np.linalg.lstsq(columns(x), y)[0])

    def squares(x: Array) -> Array:
        return np.array([np.sum((columns(v) @ solve(v) - y) ** 2) for v in x])

    best = minimise(squares, low, high)
    return best, [float(c) for c in solve(best)]


def _check(corpus: str, ours: tuple[str, float], published: float) -> Check:
    # Their optimiser stops when the sum of squares changes by 1e-8 of itself: its parameters are good to some 4e-6.
    name, recomputed = ours
    return Check(SOURCE, f"{name} of models on {corpus}", published, recomputed, 1e-5 * abs(published))
