"""A surface as contours of the loss over compute and size, as in Hoffmann et al. 2022, Figure 4."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.laws import Fit
from isoflop.laws.forms.law import Array
from isoflop.laws.forms.surface import FLOPS
from isoflop.planning.shape import human
from isoflop.report.law_figures.sheet import ACCENT, INK, PAPER, SMALL, sheet
from isoflop.report.scales import scientific
from isoflop.report.style import log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet

GRID = 160
LEVELS = 14
ABOVE, NEAR_TOP = 3.0, 0.93  # room above the largest run, and how high in the frame contours are labelled there


def surface_contours(fit: Fit[Any], *, C: float | None = None, axes: Axes | None = None) -> Axes:
    """Draw the fitted surface's loss over C and N (C = 6ND), the runs, and the size that is best at each budget.

    ``C`` extends the picture to a larger budget. Raises ValueError for a law that is not of N and D or that has no
    compute-optimal point.
    """
    law, runs = fit.surface, fit.runs
    spent = FLOPS * runs.N * runs.D
    budgets = np.geomspace(spent.min() / 1.5, max(spent.max(), C or 0) * 1.5, GRID)
    best = np.array([law.optimal(float(c)).N for c in budgets])
    inside = best[budgets <= max(spent.max(), C or 0)]
    low, high = min(runs.N.min(), inside.min()) / 1.6, max(runs.N.max(), inside.max()) * ABOVE
    sizes = np.geomspace(low, high, GRID)
    loss = np.asarray(law.loss(sizes[:, None], budgets / FLOPS / sizes[:, None]))
    levels = contour_levels(np.array([law.loss(n, c / FLOPS / n) for n, c in zip(best, budgets, strict=True)]))
    with sheet(axes) as axes:
        scale: dict[str, Any] = {"cmap": "viridis", "norm": _norm(levels)}
        axes.contourf(budgets, sizes, loss, levels, alpha=0.16, extend="both", **scale)
        lines = axes.contour(budgets, sizes, loss, levels, linewidths=0.9, **scale)
        axes.plot(budgets, best, color=ACCENT, lw=1.8, label="best size at each budget", zorder=3)
        axes.scatter(
            spent, runs.N, c=runs.loss, s=15, edgecolors=PAPER, linewidths=0.4, zorder=4, label="runs", **scale
        )
        log_axis(axes, "x", [budgets[0], budgets[-1]], scientific, 0)
        log_axis(axes, "y", [low, high], human, 0)
        label_contours(axes, lines, sizes, budgets, loss)
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
        axes.set_xlabel("compute C = 6ND, FLOPs")
        axes.set_ylabel("parameters N")
    return axes


def contour_levels(along: Array) -> Array:
    """Levels that the best loss passes at equal steps of log C, rounded; ``along`` is that loss at rising budgets."""
    rounded = np.unique(np.round(np.interp(np.linspace(0, 1, LEVELS), np.linspace(0, 1, along.size), along), 6))
    digits = max(0, math.ceil(-math.log10(np.diff(rounded).min())))
    return np.unique(np.round(np.append(rounded, 2 * rounded[-1] - rounded[-2]), digits))


def label_contours(axes: Axes, lines: QuadContourSet, sizes: Array, budgets: Array, loss: Array) -> None:
    """Every other contour's loss, where it passes a height near the top."""
    levels = np.asarray(lines.levels)
    row = int(NEAR_TOP * GRID)
    falling = np.minimum.accumulate(loss[row])
    seen = [level for level in levels[::2] if falling[GRID // 40] > level > falling[-GRID // 40]]
    at = [(float(np.interp(-level, -falling, budgets)), float(sizes[row])) for level in seen]
    digits = max(2, math.ceil(-math.log10(np.diff(levels).min())))
    axes.clabel(lines, seen, fontsize=SMALL, fmt=f"%.{digits}f", colors=INK, manual=at)


def _norm(levels: Array) -> Any:
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(levels, 256, extend="both")
