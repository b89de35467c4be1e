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
    tokens_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RAW_POINTS = 1200
MEANS = 100
STEPS_PER_MEAN = 20


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
    axes.plot(history.tokens[thin], history.loss[thin], color=SOFT, lw=0.4, alpha=0.45, label="training, each step")
    tokens, loss = means(history.tokens, history.loss, np.linspace(0, history.tokens[-1], MEANS + 1))
    axes.plot(tokens, loss, color=INK, lw=1.2, label="training, averaged")
    settled = history.loss[history.tokens > 0.02 * history.tokens[-1]]
    low, high = float(settled.min()), float(settled.max())
    axes.plot(*history.validation.T, "o", ms=3.4, color=ACCENT, mec=PAPER, mew=0.5, zorder=3, label="validation")
    if history.validation.size:
        low = min(low, float(history.validation[:, 1].min()))
    axes.legend(loc="upper right")
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
        first, last = min(run.end for run in runs) / 6, max(run.end for run in runs)
        for run in runs:
            draw_run(axes, dossier, run, first)
        log_axis(axes, "x", [first, last], human)
        axes.margins(y=0.1)  # room for the lowest labels
        label_sizes(axes, runs)
        axes.set_xlabel("tokens")
        axes.set_ylabel("loss, nats/token")

    return render("sweep-runs", "Training loss of every run of the sweep", WIDE, draw)


def draw_run(axes: Axes, dossier: Dossier, run: RunRecord, first: float) -> None:
    """One run's means from ``first`` tokens on; a finished cell ends in a point, its validation loss."""
    history, trunk = run.history, run.name.endswith("trunk")
    start = max(first, run.start)
    if run.end <= start:
        return
    late = history.tokens >= start
    edges = np.geomspace(start, run.end, min(60, max(4, int(late.sum()) // STEPS_PER_MEAN)))
    tokens, loss = means(history.tokens[late], history.loss[late], edges)
    nominal = 6.0 * run.config.shape.matmul * run.config.schedule.tokens
    colour = SOFT if trunk else budget_colour(dossier.budget_index(nominal))
    axes.plot(tokens, loss, color=colour, lw=0.7 if trunk else 1.1, alpha=0.7 if trunk else 1)
    if not trunk and run.summary is not None:
        axes.plot(*history.validation[-1], "o", ms=3.6, color=colour, mec=PAPER, mew=0.5, zorder=3)


def label_sizes(axes: Axes, runs: list[RunRecord]) -> None:
    """Each size's parameters below the end of its longest run."""
    longest = {run.config.shape.matmul: run for run in sorted(runs, key=lambda run: run.end)}
    for N, run in longest.items():
        end = run.history.validation[-1, 1] if run.history.validation.size else run.history.loss[-20:].mean()
        label(axes, human(N), (run.end, float(end)), (0, -8), color=SOFT, size=6.5, ha="center")
