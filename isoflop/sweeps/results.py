"""The results of a sweep as a table, read from its run directories and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.planning.shape import Convention
from isoflop.sweeps.layout import cell_budget, laid_out
from isoflop.training.run import Run

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One finished cell. ``seconds`` of a branch include its trunk's up to where it leaves."""

    path: str
    budget: float
    N_matmul: int
    N_body: int
    N_total: int
    tokens: int
    loss: float
    bpb: float
    flops_exact: float
    seconds: float


@dataclass(frozen=True)
class Results:
    """The finished cells of a sweep, and how many are still to come."""

    rows: tuple[Row, ...]
    missing: int

    def parameters(self, convention: Convention) -> Column:
        """N of every cell under a named convention."""
        return np.array([getattr(row, f"N_{convention}") for row in self.rows], float)

    @property
    def tokens(self) -> Column:
        """D of every cell."""
        return np.array([row.tokens for row in self.rows], float)

    @property
    def budgets(self) -> Column:
        """The nominal budget of every cell."""
        return np.array([row.budget for row in self.rows], float)

    @property
    def loss(self) -> Column:
        """Validation loss of every cell, nats per token."""
        return np.array([row.loss for row in self.rows], float)


def read_results(sweep: Path) -> Results:
    """Read a sweep's directory."""
    rows, missing = [], 0
    for name in [name for column in laid_out(sweep) for name, _ in column.runs]:
        budget, summary = cell_budget(name), Run(sweep / name).summary
        if budget is None:
            continue
        if summary is None:
            missing += 1
            continue
        rows.append(
            Row(
                path=name,
                budget=budget,
                N_matmul=summary["N_matmul"],
                N_body=summary["N_body"],
                N_total=summary["N_total"],
                tokens=summary["tokens"],
                loss=summary["validation_loss"],
                bpb=summary["validation_bpb"],
                flops_exact=summary["flops_exact"],
                seconds=summary["seconds"],
            )
        )
    return Results(tuple(sorted(rows, key=lambda row: (row.budget, row.N_matmul))), missing)
