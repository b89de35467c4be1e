"""How well a law fits its runs: predicted against measured loss, and what is left over at each budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.laws import Fit
from isoflop.laws.forms.law import Array
from isoflop.planning.shape import human
from isoflop.report.law_figures.sheet import FAINT, INK, PAPER, SMALL, SOFT, sheet
from isoflop.report.scales import log_ticks, scientific
from isoflop.report.style import log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = 6.0  # residual standard deviations that the frame holds; what lies beyond is drawn at its edge


def predicted_against_measured(fit: Fit[Any], *, axes: Axes | None = None) -> Axes:
    """Draw each run's predicted loss against the measured one, coloured by compute, and the line of equality."""
    measured = fit.runs.loss
    predicted = measured * np.exp(-fit.residuals)
    with sheet(axes) as axes:
        low, high = min(measured.min(), predicted.min()), max(measured.max(), predicted.max())
        ends = low - 0.05 * (high - low), high + 0.05 * (high - low)
        axes.plot(ends, ends, color=SOFT, lw=0.8, zorder=1)
        axes.set(xlim=ends, ylim=ends)
        draw_runs(axes, measured, predicted, fit.runs.C, "compute C, FLOPs", scientific)
        axes.set_xlabel("measured loss, nats/token")
        axes.set_ylabel("predicted loss, nats/token")
    return axes


def residuals_by_budget(fit: Fit[Any], *, axes: Axes | None = None) -> Axes:
    """Draw measured over predicted loss, in percent, against compute, coloured by N; the band is ±2 deviations.

    A shape in it is a misfit of the form: the intervals do not know of it. Runs beyond six deviations are triangles at
    the frame's edge.
    """
    sd = 100 * fit.residual_sd
    percent = 100 * np.expm1(fit.residuals)
    with sheet(axes) as axes:
        reach = min(1.1 * float(np.abs(percent).max()), FARTHEST * sd) or 1.0
        axes.axhspan(-2 * sd, 2 * sd, color=FAINT, alpha=0.3, lw=0, zorder=0)
        axes.axhline(0, color=SOFT, lw=0.8, zorder=1)
        far = np.abs(percent) > reach
        draw_runs(axes, fit.runs.C, np.where(far, np.nan, percent), fit.runs.N, "parameters N", human)
        for rows, marker, edge in ((far & (percent > 0), "^", reach), (far & (percent < 0), "v", -reach)):
            axes.plot(fit.runs.C[rows], np.full(rows.sum(), 0.96 * edge), marker, color=INK, ms=5, ls="none", zorder=4)
        axes.set_ylim(-reach, reach)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.3g}%".replace("-", "−") if value else "0")
        log_axis(axes, "x", [*fit.runs.C], scientific)
        axes.set_xlabel("compute C, FLOPs")
        axes.set_ylabel("measured over predicted")
        if far.any():
            farthest = f"{percent[np.argmax(np.abs(percent))]:+.3g}%".replace("-", "−")
            axes.set_title(f"beyond the frame: {far.sum()} of {far.size} runs, as far as {farthest}", color=SOFT)
    return axes


def draw_runs(axes: Axes, x: Array, y: Array, shade: Array, name: str, text: Any) -> None:
    """The runs as dots, coloured by the logarithm of a column, with a bar that says how."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import FixedLocator, NullLocator

    even = np.ptp(np.log(shade)) < 1e-9
    norm = Normalize(0.5 * shade[0], 2 * shade[0]) if even else LogNorm(shade.min(), shade.max())
    dots = axes.scatter(x, y, c=shade, s=16, cmap="viridis", norm=norm, edgecolors=PAPER, linewidths=0.4, zorder=3)
    if even:
        return
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(dots, ax=axes, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label(name)
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.yaxis.set_major_locator(FixedLocator(log_ticks(shade.min(), shade.max())))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(lambda value, _: text(value))
