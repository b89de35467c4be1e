"""The IsoFLOP curves: at each budget, loss against size, a parabola through the cells, and where it is lowest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isoflop.laws.fitting.parabola import Curve
from isoflop.planning.shape import human
from isoflop.report.data import Array, Dossier
from isoflop.report.scales import scientific, spread
from isoflop.report.style import PAPER, SOFT, WIDE, budget_colour, label, log_axis, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def isoflop_curves(dossier: Dossier) -> str:
    """Loss against N, one colour per budget; budgets without a usable minimum are grey, dashed and open."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        curves = dossier.curves
        for curve in curves:
            draw_curve(axes, curve, budget_colour(dossier.budget_index(curve.budget)))
        sizes = np.concatenate([curve.N for curve in curves])
        room = (sizes.max() / sizes.min()) ** 0.12  # for the labels
        log_axis(axes, "x", [sizes.min(), sizes.max() * room], human)
        label_curves(axes, curves, dossier)
        axes.set_xlabel("parameters N (head counted, input embedding not)")
        axes.set_ylabel("validation loss, nats/token")

    return render("isoflop", "Loss against parameters at each compute budget", WIDE, draw)


def draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    """A budget's cells, its parabola over their range, and its minimum with 95% intervals."""
    shade = colour if curve.usable else SOFT
    axes.plot(curve.N, curve.loss, "o", ms=3.6, mfc=shade if curve.usable else PAPER, mec=shade, mew=0.8)
    if np.isfinite(curve.coefficients).all():
        N, loss = parabola(curve)
        axes.plot(N, loss, color=shade, lw=1.1, ls="-" if curve.usable else (0, (4, 3)), zorder=1.5)
    if not curve.usable:
        return
    if "N" in curve.intervals:
        low, high = curve.intervals["N"]
        axes.plot([low, high], [curve.loss_star] * 2, color=shade, lw=4, alpha=0.3, solid_capstyle="butt", zorder=1)
        axes.plot([curve.N_star] * 2, curve.intervals["loss"], color=shade, lw=0.9, zorder=1.6)
    axes.plot(curve.N_star, curve.loss_star, "D", ms=5.2, mfc=PAPER, mec=shade, mew=1.3, zorder=3)


def parabola(curve: Curve) -> tuple[Array, Array]:
    """Points of the parabola over the cells' range, its tokens turned into sizes as the analysis turns them."""
    x = np.log10(curve.D)
    slope, level = np.polyfit(x, np.log10(curve.N), 1)
    along = np.linspace(x.min(), x.max(), 60)
    c0, c1, c2 = curve.coefficients
    return np.power(10.0, level + slope * along), c0 + c1 * along + c2 * along**2


def label_curves(axes: Axes, curves: tuple[Curve, ...], dossier: Dossier) -> None:
    """Each curve's budget beside its largest model."""
    low, high = axes.get_ylim()
    largest = [int(np.argmax(curve.N)) for curve in curves]
    heights = spread([float(c.loss[i]) for c, i in zip(curves, largest, strict=True)], (high - low) / 22)
    for curve, i, height in zip(curves, largest, heights, strict=True):
        colour = budget_colour(dossier.budget_index(curve.budget)) if curve.usable else SOFT
        label(axes, scientific(curve.budget), (float(curve.N[i]), height), (6, 0), color=colour)
