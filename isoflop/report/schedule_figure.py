"""The figure of a run's schedule: rate, batch, context and mixture, one under the other over the same tokens.

Stretches that are short in tokens are drawn wider than they are, as Llama 3's annealing, 40M of 15.6T tokens, would not
be seen otherwise; ticks say where each begins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.planning.shape import human
from isoflop.report.law_figures.sheet import ACCENT, FAINT, INK, LOOKS, SECOND, shades
from isoflop.training.config import TrainConfig
from isoflop.training.timeline import Stretch, shares_at, stretches, widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS, LEAST = 400, 24
NEAR = 0.09
"""Share of the width that two ticks' words need between them."""


def write_schedule_figure(config: TrainConfig, path: Path) -> Path:
    """Draw the schedule of a config; the suffix of ``path`` chooses SVG, PNG or PDF. Raises without matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = [rate, batch, context, *([mixture] if config.mixture else [])]
    parts = stretches(config)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOKS)
        figure = Figure(figsize=(7.2, 1.5 * len(panels) + 0.5), layout="constrained")
        for axes, panel in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
            panel(axes, config, parts)
            for edge in edges(parts)[1:-1]:
                axes.axvline(edge, color=FAINT, lw=0.6, zorder=0)
        ticks(axes, parts)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def edges(parts: list[Stretch]) -> list[int]:
    """Where stretches begin on the drawing, and where the last ends, in columns."""
    found = [0]
    for width in widths(parts, COLUMNS, LEAST):
        found.append(found[-1] + width)
    return found


def curve(parts: list[Stretch], value: Callable[[int], float]) -> tuple[list[float], list[float]]:
    """A quantity along the drawing, to the last token of every stretch, so that jumps are upright."""
    xs, ys, begins = [], [], edges(parts)
    for part, begin, end in zip(parts, begins, begins[1:], strict=False):
        for step in range(end - begin + 1):
            share = step / (end - begin)
            token = part.start + (part.end - part.start) * share
            xs.append(begin + (end - begin) * share)
            ys.append(value(min(int(token), part.end - 1)))
    return xs, ys


def rate(axes: Axes, config: TrainConfig, parts: list[Stretch]) -> None:
    """The learning rate."""
    axes.plot(*curve(parts, config.schedule.learning_rate), color=ACCENT)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate")


def batch(axes: Axes, config: TrainConfig, parts: list[Stretch]) -> None:
    """The batch in tokens."""
    doubling(axes, *curve(parts, config.batch.at), colour=INK)
    axes.set_ylabel("batch, tokens")


def context(axes: Axes, config: TrainConfig, parts: list[Stretch]) -> None:
    """The context in tokens, and where the rotary embedding changes."""
    doubling(axes, *curve(parts, config.contexts.at), colour=SECOND)
    axes.set_ylabel("context, tokens")
    for part, edge in zip(parts, edges(parts), strict=False):
        if part.start and part.rope.at == part.start:
            words = f"rope θ {part.rope.theta:g}" + (f" ×{part.rope.scaling.factor:g}" if part.rope.scaling else "")
            axes.annotate(words, (edge, 0.04), xycoords=axes.get_xaxis_transform(), size=7, ha="left")


def doubling(axes: Axes, xs: list[float], ys: list[float], colour: str) -> None:
    """A quantity that doubles, over a scale of doublings."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_yscale("log", base=2)
    axes.plot(xs, ys, color=colour)
    axes.yaxis.set_major_locator(FixedLocator(sorted(set(ys))))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: human(value))


def mixture(axes: Axes, config: TrainConfig, parts: list[Stretch]) -> None:
    """The shares of the sources, stacked."""
    names = [source.name for source in config.sources]
    xs = curve(parts, lambda _: 0.0)[0]
    shares = [curve(parts, partial(share, config, name))[1] for name in names]
    axes.stackplot(xs, shares, labels=names, colors=shades(len(names)), lw=0)
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of tokens")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def share(config: TrainConfig, name: str, token: int) -> float:
    """A source's share of the tokens after ``token``."""
    return shares_at(config, token)[name]


def ticks(axes: Axes, parts: list[Stretch]) -> None:
    """Say at which token stretches begin, leaving out those whose words would touch."""
    places, words, last = [], [], -COLUMNS * 1.0
    total = edges(parts)[-1]
    for place, token in zip(edges(parts), [*(part.start for part in parts), parts[-1].end], strict=True):
        if place - last >= NEAR * total:
            places.append(place)
            words.append(human(token))
            last = place
    axes.set_xticks(places, words)
    axes.set_xlim(0, total)
    axes.set_xlabel("tokens consumed (short stretches drawn wider)")
