"""Llama 3's compute-optimal size (Grattafiori et al. 2024, section 3.2.1), from the points of its Figure 2.

Data: ``llama3/isoflops_points.csv`` under the folder, 133 points at ten budgets, read off the figure. Parabolas of the
loss in log10 D, and a straight line through log D* of their minima over log C, give D*(C) = .29936·C^.53678.

The paper prints (.53, .29) for these, which are not enough digits: at 3.8e25 they would give 10.5T tokens, where its
headline says 16.55T and 402B parameters. With the unrounded constants the headline is exact at C = 4.0e25; at the
3.8e25 that the paper names and trained with they give 16.10T and 393B. There were 15.6T tokens on hand, and on those
3.8e25 FLOPs feed 406B parameters, of which the model has 405B.

A surface through the same points says otherwise: 10.2T tokens at 3.8e25 by least squares of the loss, and, as robust
fits follow fewer of the points, 9.9T at Huber's δ = .01 and 7.1T at .001. The extrapolation is by 3,800 times.
"""

from __future__ import annotations

from pathlib import Path

from ..fitting.fit import fit
from ..fitting.isoflop import analyse
from ..fitting.runs import Runs, read_runs
from ..forms.chinchilla import Chinchilla
from .check import Check

SOURCE = "Grattafiori et al. 2024 (Llama 3)"
FIGURE = "points of Llama 3's Figure 2"
HEADLINE, PRINTED = 4.0e25, 3.8e25  # FLOPs: what the headline is for, and what the paper says it is for
ON_HAND = 15.6e12  # tokens
SQUARES = 0.1  # Huber's δ beyond all residuals


def checks(folder: Path) -> list[Check]:
    """Recompute the law of the tokens, the sizes it gives, and a surface's answer, from folder/"llama3"."""
    runs = read(folder)
    tokens = analyse(runs.C, runs.N, runs.D, runs.loss, replicates=0).tokens
    best, at_printed = float(tokens(HEADLINE)), float(tokens(PRINTED))
    by_surface = least_squares(runs).optimal(PRINTED).D
    return [
        Check(FIGURE, "exponent of D*(C)", 0.53678, tokens.exponent, 5e-6),
        Check(FIGURE, "coefficient of D*(C)", 0.29936, tokens.coefficient, 5e-6),
        Check(SOURCE, "D* at 4.0e25, in 1e12 tokens", 16.55, best / 1e12, 5e-3),
        Check(SOURCE, "N* at 4.0e25, in 1e9 parameters", 402, HEADLINE / 6 / best / 1e9, 1.0),
        Check(FIGURE, "N* at 4.0e25, in 1e9 parameters", 402.8, HEADLINE / 6 / best / 1e9, 0.05),
        Check(FIGURE, "D* at 3.8e25, in 1e12 tokens", 16.10, at_printed / 1e12, 5e-3),
        Check(FIGURE, "N* at 3.8e25, in 1e9 parameters", 393.3, PRINTED / 6 / at_printed / 1e9, 0.05),
        # 405B is the model's size; what its tokens allow is 406B, and shapes come in steps.
        Check(SOURCE, "1e9 parameters that 15.6e12 tokens allow", 405, PRINTED / 6 / ON_HAND / 1e9, 1.0),
        Check(FIGURE, "D* of a surface at 3.8e25, in 1e12 tokens", 10.2, by_surface / 1e12, 0.05),
    ]


def read(folder: Path) -> Runs:
    """Read the points; sizes follow from N = C/6D."""
    return read_runs(folder / "llama3" / "isoflops_points.csv")


def least_squares(runs: Runs) -> Chinchilla:
    """Fit the surface by squares of the loss: those of its logarithm, weighted by the square of the loss."""
    return fit(runs, delta=SQUARES, weights=runs.loss**2).law
