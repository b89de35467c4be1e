"""How far off each form's predictions were, and how far they reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isoflop.laws import Validation
from isoflop.laws.forms.law import Array
from isoflop.report.law_figures.sheet import ACCENT, INK, SECOND, SOFT, sheet
from isoflop.report.style import log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "IsoFLOP minima": INK,
    "Chinchilla": SECOND,
    "PoweredSum": ACCENT,
    "OverTraining": "#2f7d4f",
    "KaplanSurface": "#8a5aa8",
    "Farseer": "#a8841f",
}
BINS = 5
DEEPEST = 100.0  # how far below the largest error the frame goes, as a factor


def rolled_forward(validation: Validation, *, axes: Axes | None = None) -> Axes:
    """Draw the size of each form's errors against the reach of the prediction, as a factor of the largest budget seen.

    A dot is one pair of budgets, seen and held out; lines join the means of dots of like reach. Best form first.
    """
    with sheet(axes) as axes:
        reaches, errors = [], []
        for score in validation.scores:
            colour = COLOURS.get(score.form, SOFT)
            held = [holdout for holdout in validation.holdouts if holdout.form == score.form]
            x = np.array([holdout.reach for holdout in held])
            y = np.array([100 * np.mean(np.abs(np.expm1(holdout.errors))) for holdout in held])
            axes.plot(x, y, "o", ms=3, color=colour, alpha=0.35, mew=0, zorder=2)
            axes.plot(*means(x, y), "-", color=colour, lw=1.6, label=f"{score.form}: {score.error:.2%}", zorder=3)
            reaches += list(x)
            errors += list(y)
        log_axis(axes, "x", reaches, lambda value: f"{value:g}×")
        log_axis(axes, "y", [max(error, max(errors) / DEEPEST) for error in errors], lambda value: f"{value:g}%")
        axes.set_xlabel("held-out budget over the largest seen")
        axes.set_ylabel("error of the predicted loss")
        axes.legend(title="mean error", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return axes


def means(x: Array, y: Array) -> tuple[Array, Array]:
    """Means of groups of like x: as many as there are, and at most :data:`BINS`."""
    logs = np.log(x)
    group = np.minimum(((logs - logs.min()) / max(float(np.ptp(logs)), 1e-9) * BINS).astype(int), BINS - 1)
    found = np.unique(group)
    return (
        np.exp([logs[group == g].mean() for g in found]),
        np.array([y[group == g].mean() for g in found]),
    )
