"""Training curves: the flagship with its schedule, and every run of the sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isoflop.planning.shape import human
from isoflop.report.data import Array, Dossier, History, RunRecord
from isoflop.report.style import (
    ACCENT,
    INK,
    PAPER,
    SECOND,
    SOFT,
    WIDE,
    budget_colour,
    label,
    log_axis,
    render,
    spread,
    tokens_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RAW_POINTS = 1200
MEANS = 160


def flagship_curves(run: RunRecord) -> str:
    """Training loss (means over raw), validation points, and below them learning rate and batch size."""

    def draw(figure: Figure) -> None:
        loss, rate, batch = figure.subplots(3, 1, sharex=True, height_ratios=[6, 1.2, 1.2])
        history = run.history
        draw_loss(loss, history)
        thin = slice(None, None, -(-history.tokens.size // RAW_POINTS))
        rate.plot(history.tokens[thin], history.rate[thin], color=SECOND)
        batch.step(history.tokens[thin], history.batch[thin], color=SECOND, where="pre")
        rate.set_ylim(0, float(history.rate.max()) * 1.15)
        batch.set_ylim(0, float(history.batch.max()) * 1.15)
        batch.yaxis.set_major_formatter(lambda value, _: human(value))
        for axes, name in ((loss, "loss, nats/token"), (rate, "learning\nrate"), (batch, "batch,\ntokens")):
            axes.set_ylabel(name)
        figure.align_ylabels()
        batch.set_xlim(0, run.config.schedule.tokens * 1.01)
        tokens_axis(batch)
        batch.set_xlabel("tokens")

    return render("flagship", "The flagship's loss, learning rate and batch size", (WIDE[0], 4.1), draw)


def draw_loss(axes: Axes, history: History) -> None:
    """Raw losses faint, their means strong, validation as points; the first descent may leave the frame."""
    thin = slice(None, None, -(-history.tokens.size // RAW_POINTS))
    axes.plot(history.tokens[thin], history.loss[thin], color=SOFT, lw=0.4, alpha=0.45)
    tokens, loss = means(history.tokens, history.loss, np.linspace(0, history.tokens[-1], MEANS + 1))
    axes.plot(tokens, loss, color=INK, lw=1.2)
    settled = history.loss[history.tokens > 0.02 * history.tokens[-1]]
    low, high = float(settled.min()), float(settled.max())
    axes.plot(*history.validation.T, "o", ms=3.4, color=ACCENT, mec=PAPER, mew=0.5, zorder=3)
    if history.validation.size:
        low = min(low, float(history.validation[:, 1].min()))
        at = history.validation[-1]
        label(axes, "validation", (at[0], at[1]), (0, 7), color=ACCENT, ha="right")
    axes.set_ylim(low - 0.05 * (high - low), high)


def means(x: Array, y: Array, edges: Array) -> tuple[Array, Array]:
    """The means of x and y within each pair of ascending edges that holds a point."""
    place = np.searchsorted(edges, x)
    found = np.unique(place)
    return (
        np.array([x[place == i].mean() for i in found]),
        np.array([y[place == i].mean() for i in found]),
    )


def sweep_curves(dossier: Dossier) -> str:
    """Every run's loss against tokens: trunks grey, what decays to a cell in its budget's colour."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        runs = [run for run in dossier.runs if run.history.tokens.size]
        first = min(float(run.history.tokens[-1]) for run in runs) / 6
        last = max(float(run.history.tokens[-1]) for run in runs)
        edges = np.geomspace(first, last, max(20, min(90, 9000 // len(runs))))
        for run in runs:
            draw_run(axes, dossier, run, edges)
        log_axis(axes, "x", [first, last * 1.25], human)
        label_sizes(axes, runs)
        axes.set_xlabel("tokens")
        axes.set_ylabel("loss, nats/token")

    return render("sweep-runs", "Training loss of every run of the sweep", WIDE, draw)


def draw_run(axes: Axes, dossier: Dossier, run: RunRecord, edges: Array) -> None:
    """One run's means from the first edge on; a finished cell ends in a point, its validation loss."""
    history, cell = run.history, not run.name.endswith("trunk")
    late = history.tokens >= edges[0]
    if not late.any():
        return
    nominal = 6.0 * run.config.shape.matmul * run.config.schedule.tokens
    colour = budget_colour(dossier.budget_index(nominal)) if cell else SOFT
    tokens, loss = means(history.tokens[late], history.loss[late], edges)
    axes.plot(tokens, loss, color=colour, lw=1 if cell else 0.7, alpha=1 if cell else 0.7)
    if cell and run.summary is not None:
        axes.plot(*history.validation[-1], "o", ms=3.2, color=colour, mec=PAPER, mew=0.5, zorder=3)


def label_sizes(axes: Axes, runs: list[RunRecord]) -> None:
    """Each size's parameters beside the end of its longest run."""
    longest = {run.config.shape.matmul: run for run in sorted(runs, key=lambda run: run.end)}
    ends = [(float(run.history.tokens[-1]), float(run.history.loss[-20:].mean())) for run in longest.values()]
    low, high = axes.get_ylim()
    heights = spread([end[1] for end in ends], (high - low) / 24)
    for N, (tokens, _), height in zip(longest, ends, heights, strict=True):
        axes.annotate(human(N), (tokens, height), (5, 0), textcoords="offset points", va="center", color=SOFT, size=6.5)
