"""The law: what the budgets' minima follow, and how far beyond them the flagship lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isoflop.laws import Prediction
from isoflop.planning.shape import human
from isoflop.report.data import Array, Dossier
from isoflop.report.scales import scientific, spread
from isoflop.report.style import (
    ACCENT,
    FAINT,
    HALF,
    INK,
    PAPER,
    SECOND,
    SOFT,
    WIDE,
    budget_colour,
    label,
    log_axis,
    render,
)
from isoflop.sweeps.fit import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

What = Literal["N", "D", "loss"]
LABELS = {"N": "optimal parameters N*", "D": "optimal tokens D*", "loss": "validation loss, nats/token"}


def optimum_against_compute(dossier: Dossier, fit: Fit, what: Literal["N", "D"]) -> str:
    """The minima's N* or D* against C, the power law with its 95% band, the surface's line, the flagship's star."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        drawn = draw_laws(axes, dossier, fit, what) + draw_minima(axes, dossier, what)
        if dossier.plan is not None:
            size = dossier.plan["N_matmul"] if what == "N" else dossier.plan["tokens"]
            axes.plot(dossier.plan["budget"], size, "*", ms=11, color=ACCENT, mec=PAPER, mew=0.6, zorder=5)
            drawn.append(size)
        log_axis(axes, "x", compute_range(dossier), scientific)
        log_axis(axes, "y", drawn, human)
        label_axes(axes, dossier, what)
        axes.legend(loc="lower right")

    return render(f"law-{what}", f"{LABELS[what]} against compute", HALF, draw)


def loss_against_compute(dossier: Dossier, fit: Fit) -> str:
    """The minima's loss against C, the law out to the flagship, the prediction's interval and the measurement."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        draw_laws(axes, dossier, fit, "loss")
        draw_minima(axes, dossier, "loss")
        least, most = compute_range(dossier)
        if dossier.plan is not None:
            draw_prediction(axes, dossier.plan, dossier.score)
            most *= (most / least) ** 0.25  # room for the numbers
        log_axis(axes, "x", (least, most), scientific)
        label_axes(axes, dossier, "loss")
        axes.legend(loc="lower left")

    return render("law-loss", "Loss of the best model against compute", WIDE, draw)


def compute_range(dossier: Dossier) -> tuple[float, float]:
    """From the smallest budget to the flagship's, or a tenfold beyond the sweep while there is no plan."""
    last = dossier.plan["budget"] if dossier.plan else 10 * dossier.budgets[-1]
    return dossier.budgets[0], last


def draw_laws(axes: Axes, dossier: Dossier, fit: Fit, what: What) -> list[float]:
    """The minima's law, where there is one, and the surface's optimum; returns ordinates to make room for.

    Only the first of them has its band, which says how far the doubt goes; two would hide each other.
    """
    C = np.geomspace(*compute_range(dossier), 60)
    surface, isoflop = fit.surfaces["matmul"], fit.isoflop
    drawn: list[float] = []
    if isoflop is not None:
        law = {"N": isoflop.params_at, "D": isoflop.tokens_at, "loss": isoflop.loss_at}[what]
        predictions = [law(float(c)) for c in C]
        axes.plot(C, [float(p.value) for p in predictions], color=INK, lw=1.2, zorder=2, label="law of the minima")
        drawn += draw_band(axes, C, predictions, what)
    try:
        predictions = [getattr(surface.optimal(float(c)), what) for c in C]
    except ValueError:  # a surface without an optimum
        return drawn
    values = [float(p.value) for p in predictions]
    axes.plot(C, values, color=SECOND, lw=1.1, ls=(0, (5, 2.5)), zorder=1.8, label="surface L(N, D)")
    return drawn + (values if isoflop is not None else draw_band(axes, C, predictions, what))


def draw_band(axes: Axes, C: Array, predictions: Sequence[Prediction], what: What) -> list[float]:
    """The 95% band of a law, or for a loss of one run's outcome; returns ordinates of law and band.

    A band of few minima can span many decades: it may leave the frame, the law may not.
    """
    low, high = np.array([p.interval if what == "loss" else p.confidence for p in predictions], float).T
    axes.fill_between(C, low, high, color=INK, alpha=0.1, lw=0, zorder=0)
    values = np.array([p.value for p in predictions], float)
    span = np.log(values.max() / values.min()) + 0.7
    edges = np.clip([low.min(), high.max()], values.min() * np.exp(-span), values.max() * np.exp(span))
    return [*values, *edges]


def draw_minima(axes: Axes, dossier: Dossier, what: What) -> list[float]:
    """The usable minima with their 95% intervals; returns their ordinates."""
    drawn = []
    for curve in dossier.curves:
        if not curve.usable:
            continue
        colour = budget_colour(dossier.budget_index(curve.budget))
        value = {"N": curve.N_star, "D": curve.D_star, "loss": curve.loss_star}[what]
        if what in curve.intervals:
            axes.plot([curve.budget] * 2, curve.intervals[what], color=colour, lw=1, zorder=3)
        axes.plot(curve.budget, value, "D", ms=4.2, mfc=PAPER, mec=colour, mew=1.2, zorder=4)
        drawn.append(value)
    return drawn


def draw_prediction(axes: Axes, plan: dict[str, Any], score: dict[str, Any] | None) -> None:
    """The prediction written before training, as a bar with its median; the measurement, if there is one, as a star."""
    C, predicted = plan["budget"], plan["predicted_loss"]
    axes.plot([C, C], plan["interval_95"], color=ACCENT, lw=4.5, alpha=0.35, solid_capstyle="butt", zorder=3)
    axes.plot(C, predicted, "_", ms=9, mew=1.6, color=ACCENT, zorder=4)
    said = {f"predicted {predicted:.3f}": predicted}
    if score is not None:
        axes.plot(C, score["measured"], "*", ms=11, color=ACCENT, mec=PAPER, mew=0.6, zorder=5)
        said[f"measured {score['measured']:.3f}"] = score["measured"]
    heights = spread(list(said.values()), 0.05 * float(np.ptp(axes.get_ylim())))
    for words, height in zip(said, heights, strict=True):
        label(axes, words, (C, height), (9, 0), color=ACCENT)


def label_axes(axes: Axes, dossier: Dossier, what: What) -> None:
    """Axis labels, and a fine line where the sweep ends and extrapolation begins."""
    axes.axvline(dossier.budgets[-1] * 1.12, color=FAINT, lw=0.7, ls=(0, (1, 2)), zorder=0)
    top = {"xycoords": axes.get_xaxis_transform(), "color": SOFT, "size": 6.5, "va": "top"}
    label(axes, "beyond the sweep →", (dossier.budgets[-1] * 1.12, 1), (3, -2), **top)
    axes.set_xlabel("compute C, FLOPs")
    axes.set_ylabel(LABELS[what])
