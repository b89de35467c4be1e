"""The compute-optimal N or D against compute, out to a budget beyond the runs, as in Llama 3's Figure 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.laws import Fit, IsoFLOPAnalysis, Prediction
from isoflop.laws.forms.law import Array
from isoflop.planning.shape import human
from isoflop.report.law_figures.isoflop import Against
from isoflop.report.law_figures.sheet import FAINT, INK, PAPER, SECOND, SMALL, SOFT, shades, sheet
from isoflop.report.scales import scientific, spread
from isoflop.report.style import label, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {"N": "optimal parameters N*", "D": "optimal tokens D*"}
BEYOND = 100.0  # times the largest budget, where no other is named
POINTS = 60
WIDEST = 30.0  # how far a band may push the frame beyond its law, as a factor


def optimum_against_compute(
    analysis: IsoFLOPAnalysis,
    fit: Fit[Any] | None = None,
    *,
    what: Against = "D",
    C: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the minima, their power law out to C FLOPs, and the surface's line; with 95% bands where there are draws.

    Where the two part, the sizes that they name at C stand at the end of their lines. Raises ValueError for a surface
    that has no compute-optimal point.
    """
    budgets = [curve.budget for curve in analysis.curves if curve.usable]
    end = BEYOND * max(budgets) if C is None else C
    along = np.geomspace(min([*budgets, end]) / 1.3, max([*budgets, end]), POINTS)
    with sheet(axes) as axes:
        law = analysis.params if what == "N" else analysis.tokens
        ends = {"minima": (law(end), INK)}
        reached = [*law(along), *draw_law(axes, along, law(along), _band(analysis, along, what), INK, "-")]
        if fit is not None:
            values, band = _surface(fit, along, what)
            reached += [*values, *draw_law(axes, along, values, band, SECOND, (0, (5, 2.5)))]
            ends["surface"] = values[np.argmin(np.abs(along - end))], SECOND
        reached += draw_minima(axes, analysis, what)
        log_axis(axes, "x", [along[0], along[-1] * (along[-1] / along[0]) ** 0.24], scientific, 0.02)
        log_axis(axes, "y", reached, human)
        label_ends(axes, end, ends)
        mark_end_of_runs(axes, max(budgets))
        axes.set_xlabel("compute C, FLOPs")
        axes.set_ylabel(LABELS[what])
    return axes


def draw_law(
    axes: Axes, along: Array, values: Array, band: tuple[Array, Array] | None, colour: str, dashes: Any
) -> list[float]:
    """A law and its 95% band; returns how far down and up the frame should show the band."""
    axes.plot(along, values, color=colour, lw=1.3, ls=dashes, zorder=2)
    if band is None:
        return []
    axes.fill_between(along, *band, color=colour, alpha=0.11, lw=0, zorder=0)
    return [
        float(np.maximum(band[0], values / WIDEST).min()),
        float(np.minimum(band[1], values * WIDEST).max()),
    ]


def draw_minima(axes: Axes, analysis: IsoFLOPAnalysis, what: Against) -> list[float]:
    """The usable minima with their 95% intervals; returns their sizes."""
    drawn = []
    for curve, colour in zip(analysis.curves, shades(len(analysis.curves)), strict=True):
        if not curve.usable:
            continue
        value = curve.N_star if what == "N" else curve.D_star
        if what in curve.intervals:
            axes.plot([curve.budget] * 2, curve.intervals[what], color=colour, lw=1, zorder=3)
        axes.plot(curve.budget, value, "D", ms=4.5, mfc=PAPER, mec=colour, mew=1.2, zorder=4)
        drawn.append(value)
    return drawn


def label_ends(axes: Axes, end: float, ends: dict[str, tuple[float, str]]) -> None:
    """What each law says at the last budget, beside a dot there."""
    low, high = np.log(axes.get_ylim())
    heights = spread([float(np.log(value)) for value, _ in ends.values()], (high - low) / 13)
    for (name, (value, colour)), height in zip(ends.items(), heights, strict=True):
        axes.plot(end, value, "o", ms=4, color=colour, zorder=5)
        label(axes, f"{name}: {human(value)}", (end, float(np.exp(height))), (7, 0), color=colour, size=SMALL + 0.5)


def mark_end_of_runs(axes: Axes, largest: float) -> None:
    """A fine line where the runs end and extrapolation begins."""
    axes.axvline(largest * 1.15, color=FAINT, lw=0.8, ls=(0, (1, 2)), zorder=0)
    top = {"xycoords": axes.get_xaxis_transform(), "color": SOFT, "size": SMALL, "va": "top"}
    label(axes, "beyond the runs →", (largest * 1.15, 1), (3, -2), **top)


def _band(analysis: IsoFLOPAnalysis, along: Array, what: Against) -> tuple[Array, Array] | None:
    if not len(analysis.token_draws):
        return None
    at = analysis.params_at if what == "N" else analysis.tokens_at
    return _edges([at(float(c)) for c in along])


def _surface(fit: Fit[Any], along: Array, what: Against) -> tuple[Array, tuple[Array, Array] | None]:
    """The surface's optimum along the budgets, and its band where the fit has draws."""
    if not len(fit.draws):
        return np.array([getattr(fit.surface.optimal(float(c)), what) for c in along]), None
    told = [getattr(fit.optimal(float(c)), what) for c in along]
    return np.array([p.value for p in told], float), _edges(told)


def _edges(told: list[Prediction]) -> tuple[Array, Array]:
    low, high = np.array([p.confidence for p in told], float).T
    return low, high
