"""The figures of a search for a mixture: the weights with what they are compared with, and how well unseen proxies
were predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.report.style import ACCENT, FAINT, INK, PAPER, SECOND, SOFT, WIDE, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weights(sources: list[dict[str, Any]]) -> str:
    """Each source's chosen share, its interval over refits, its natural share and its cap."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, source in enumerate(sources):
            if source["cap"] < 1:
                axes.plot([100 * source["cap"]] * 2, [row - 0.3, row + 0.3], color=SOFT, lw=1)
            axes.plot([100 * end for end in source["interval"]], [row, row], color=ACCENT, lw=4, alpha=0.35)
            axes.plot(100 * source["weight"], row, "o", ms=6, color=ACCENT, mec=PAPER, mew=0.7, zorder=3, clip_on=False)
            axes.plot(100 * source["natural"], row, "D", ms=5, mfc=PAPER, mec=SECOND, mew=1.1, zorder=2)
        axes.set_yticks(range(len(sources)), [source["name"] for source in sources])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(sources) - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.grid(axis="x", color=FAINT, lw=0.5)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}%")
        axes.set_xlabel("share of the tokens")

    return render("mixture-weights", "Chosen share of each source with its interval", WIDE, draw)


def left_out(proxies: list[dict[str, Any]], predictor: dict[str, Any]) -> str:
    """The loss to be lowered of every proxy: measured, against predicted from all the others."""
    measured = np.array([proxy["measured"] for proxy in proxies])
    predicted = np.array(predictor["left_out"])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        low, high = (float(end(np.concatenate([measured, predicted]))) for end in (np.min, np.max))
        room = 0.05 * (high - low) or 0.01
        axes.plot([low - room, high + room], [low - room, high + room], color=SOFT, lw=0.7, zorder=1)
        axes.plot(predicted, measured, "o", ms=4, color=SECOND, mec=PAPER, mew=0.5, zorder=2)
        named = [(proxy["name"], p, m) for proxy, p, m in zip(proxies, predicted, measured, strict=True)]
        for name, p, m in named:
            if name in ("natural", "uniform"):
                axes.plot(p, m, "o", ms=5, color=ACCENT, mec=PAPER, mew=0.5, zorder=3)
                axes.annotate(name, (p, m), (4, -7), textcoords="offset points", size=7, color=ACCENT)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_xlabel("predicted from the other proxies, nats/token")
        axes.set_ylabel("measured")

    return render("mixture-left-out", "Measured losses of proxies against their predictions", WIDE, draw)
