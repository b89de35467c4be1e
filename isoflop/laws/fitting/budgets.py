"""Which runs share a budget: by gaps in C where there are gaps, by equal shares of the runs where there are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..forms.law import Array, Index

SAME_BUDGET = 0.05  # runs whose C is this close, relatively, to their neighbour's share a budget
WIDEST = 0.15  # and a budget spans no more than this, in log C
CURVE = 3  # runs that make a budget a curve
BINS = 6


@dataclass(frozen=True, eq=False)
class Budgets:
    """Budgets in rising order, and which one each run belongs to.

    ``values`` (budgets,) are geometric means of C; ``of`` (runs,) indexes them. ``are_curves`` says whether the runs
    cluster at budgets, so that a curve of loss against size can be read at each.
    """

    values: Array
    of: Index
    are_curves: bool
    notes: tuple[str, ...]


def group_budgets(C: Array) -> Budgets:
    """Group runs by C (FLOPs), shape (runs,)."""
    logs = np.log(C)
    order = np.argsort(logs)
    of = np.empty(len(C), np.intp)
    of[order] = np.concatenate([[0], np.cumsum(np.diff(logs[order]) > np.log1p(SAME_BUDGET))])
    if not _are_curves(logs, of):
        bins = min(BINS, len(C) // CURVE)
        of[order] = np.arange(len(C)) * bins // len(C)
        note = f"C does not cluster at budgets: the runs are taken in {bins} groups of rising C"
        return Budgets(_means(logs, of), of, False, (note,))
    return Budgets(_means(logs, of), of, True, ())


def _are_curves(logs: Array, of: Index) -> bool:
    """Whether most runs lie in clusters of three or more, none of them wide."""
    counts = np.bincount(of)
    widths = np.array([np.ptp(logs[of == i]) for i in range(len(counts))])
    return bool(len(counts) > 1 and counts[(counts >= CURVE) & (widths < WIDEST)].sum() > 0.7 * len(of))


def _means(logs: Array, of: Index) -> Array:
    return np.asarray(np.exp(np.bincount(of, logs) / np.bincount(of)))
