"""Residuals: by how much each cell's loss misses the surface, so that a misfit with a shape can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from isoflop.planning.shape import human
from isoflop.report.data import Dossier
from isoflop.report.style import FAINT, HALF, PAPER, SOFT, budget_colour, log_axis, render
from isoflop.sweeps.fit import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def residuals(dossier: Dossier, fit: Fit, against: Literal["N", "ratio"]) -> str:
    """Measured over predicted loss, in percent, against N or tokens per parameter; the band is ±2 deviations."""
    surface, results = fit.surfaces["matmul"], dossier.results
    N = results.parameters("matmul")
    x = N if against == "N" else results.tokens / N

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        percent = 100 * np.expm1(surface.residuals)
        axes.axhspan(-200 * surface.residual_sd, 200 * surface.residual_sd, color=FAINT, alpha=0.35, lw=0, zorder=0)
        axes.axhline(0, color=SOFT, lw=0.7, zorder=1)
        for at, value, budget in zip(x, percent, results.budgets, strict=True):
            colour = budget_colour(dossier.budget_index(budget))
            axes.plot([at, at], [0, value], color=colour, lw=0.7, alpha=0.6)
            axes.plot(at, value, "o", ms=4, color=colour, mec=PAPER, mew=0.5, zorder=3)
        reach = 1.15 * max(np.abs(percent).max(), 200 * surface.residual_sd)
        axes.set_ylim(-reach, reach)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g}%".replace("-", "−") if value else "0")
        log_axis(axes, "x", [*x], human if against == "N" else lambda value: f"{value:g}")
        axes.set_xlabel("parameters N" if against == "N" else "tokens per parameter D/N")
        axes.set_ylabel("measured over surface")

    return render(f"residuals-{against}", f"Residuals of the surface against {against}", HALF, draw)
