"""The IsoFLOP curves, as in Hoffmann et al. 2022, Figure 3, and Llama 3's Figure 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from isoflop.laws import Curve, IsoFLOPAnalysis
from isoflop.laws.forms.law import Array
from isoflop.planning.shape import human
from isoflop.report.law_figures.labels import Labels
from isoflop.report.law_figures.sheet import INK, PAPER, SMALL, SOFT, shades, sheet
from isoflop.report.scales import scientific
from isoflop.report.style import log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Against = Literal["N", "D"]
Drawn = tuple[Array, Array]
LABELS = {"N": "parameters N", "D": "training tokens D"}


def isoflop_curves(analysis: IsoFLOPAnalysis, *, against: Against = "N", axes: Axes | None = None) -> Axes:
    """Draw loss against N or D at each budget: runs, parabolas, minima with 95% intervals, and the minima's own law.

    Budgets without a usable minimum are open and dashed.
    """
    with sheet(axes) as axes:
        curves = sorted(analysis.curves, key=lambda curve: curve.budget)
        colours = shades(len(curves))
        for curve, colour in zip(curves, colours, strict=True):
            draw_curve(axes, curve, against, colour)
        budgets = np.geomspace(curves[0].budget, curves[-1].budget, 200)
        law = (analysis.params if against == "N" else analysis.tokens)(budgets), analysis.loss(budgets)
        axes.plot(*law, color=INK, lw=0.8, ls=(0, (1, 1.5)), zorder=2)
        sizes = np.concatenate([column(curve, against) for curve in curves])
        room = (sizes.max() / sizes.min()) ** 0.13  # for the labels
        log_axis(axes, "x", [sizes.min(), sizes.max() * room], human)
        label_budgets(axes, curves, colours, against, law)
        axes.set_xlabel(LABELS[against])
        axes.set_ylabel("loss, nats/token")
    return axes


def draw_curve(axes: Axes, curve: Curve, against: Against, colour: str) -> None:
    """A budget's runs, its parabola over their range, and its minimum."""
    inside = colour if curve.usable else PAPER
    axes.plot(column(curve, against), curve.loss, "o", ms=3.4, mfc=inside, mec=colour, mew=0.8, alpha=0.9)
    if np.isfinite(curve.coefficients).all():
        axes.plot(*parabola(curve, against), color=colour, lw=1.1, ls="-" if curve.usable else (0, (4, 3)), zorder=1.5)
    if not curve.usable:
        return
    lowest = curve.N_star if against == "N" else curve.D_star
    if against in curve.intervals:
        axes.plot(curve.intervals[against], [curve.loss_star] * 2, color=colour, lw=4, alpha=0.3, zorder=1)
    axes.plot(lowest, curve.loss_star, "D", ms=5, mfc=PAPER, mec=colour, mew=1.2, zorder=3)


def column(curve: Curve, against: Against) -> Array:
    """The runs' N or D."""
    return curve.N if against == "N" else curve.D


def parabola(curve: Curve, against: Against) -> tuple[Array, Array]:
    """Points of the parabola over the runs' range, its tokens turned into sizes as the analysis turns them."""
    x = np.log10(curve.D)
    along = np.linspace(x.min(), x.max(), 80)
    c0, c1, c2 = curve.coefficients
    slope, level = np.polyfit(x, np.log10(curve.N), 1) if against == "N" else (1.0, 0.0)
    return np.power(10.0, level + slope * along), c0 + c1 * along + c2 * along**2


def label_budgets(axes: Axes, curves: list[Curve], colours: list[str], against: Against, law: Drawn) -> None:
    """Each curve's budget beside its right end, or where there is room near an end."""
    drawn = [law, *((column(curve, against), curve.loss) for curve in curves)]
    drawn += [parabola(curve, against) for curve in curves if np.isfinite(curve.coefficients).all()]
    labels = Labels(axes, drawn)
    for curve, colour in zip(curves, colours, strict=True):
        x = column(curve, against)
        right, left = ((float(x[i]), float(curve.loss[i])) for i in (np.argmax(x), np.argmin(x)))
        labels.put(scientific(curve.budget), right, left, colour)
    axes.annotate(
        "beside each curve: C, FLOPs",
        (1, 1),
        (0, 2),
        "axes fraction",
        "offset points",
        ha="right",
        color=SOFT,
        size=SMALL,
    )
