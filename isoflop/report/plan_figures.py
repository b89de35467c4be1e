"""Figures of a plan: the price of other sizes, what every law says around the budget, and what fills the memory.

Like :mod:`isoflop.report.law_figures`: each takes the plan and optionally the Axes, and returns the Axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from isoflop.planning import repetition
from isoflop.planning.evidence import published
from isoflop.planning.planner import Plan
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import human
from isoflop.report.law_figures.sheet import ACCENT, FAINT, INK, SECOND, SMALL, SOFT, Draw, save, sheet
from isoflop.report.scales import scientific, spread
from isoflop.report.style import label, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACH = 16.0
"""How far sizes are drawn to either side of the plan's, as a factor."""
BUDGETS = (1e-4, 10.0)
"""From which to which budget laws are drawn, times the plan's."""
POINTS = 81
NEAR = 30.0  # a released model is named where its compute is within this factor of the budgets drawn


def write_plan_figures(plan: Plan, folder: Path, suffix: Literal["png", "svg", "pdf"] = "png") -> list[Path]:
    """Draw all that there is of a plan into ``folder``, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return [save(folder / f"{name}.{suffix}", draw) for name, draw in _figures(plan)]


def _figures(plan: Plan) -> Iterator[tuple[str, Draw]]:
    yield "laws", partial(laws_around, plan)
    if plan.law.surface is not None:
        yield "sizes", partial(price_of_sizes, plan)
    if plan.memory is not None:
        yield "memory", partial(memory_by_part, plan)


def price_of_sizes(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """The loss of other sizes for the same training compute, with the plan and the law's own optimum.

    Raises ValueError for a law that knows no loss.
    """
    surface, choice, fresh = plan.law.surface, plan.choice, plan.limits.fresh
    if surface is None:
        raise ValueError(f"{plan.law.name} knows no loss, so other sizes have no price")
    sizes = choice.N * np.geomspace(1 / REACH, REACH, POINTS)
    losses = repetition.loss(surface, sizes, choice.training / 6 / sizes, fresh)
    here = float(repetition.loss(surface, choice.N, choice.D, fresh))
    with sheet(axes) as axes:
        axes.plot(sizes, losses, color=INK, lw=1.3, zorder=2)
        if plan.best_size.interval is not None:
            axes.axvspan(*plan.best_size.interval, color=SECOND, alpha=0.10, lw=0, zorder=0)
        axes.axvline(plan.best_size.value, color=SECOND, lw=0.9, ls=(0, (5, 2.5)), zorder=1)
        axes.plot(choice.N, here, "o", ms=5, color=ACCENT, zorder=4)
        log_axis(axes, "x", [sizes[0], sizes[-1]], human, 0.02)
        words = f"the plan: {human(choice.N)} on {human(choice.D)} tokens"
        label(axes, words, (choice.N, here), (0, -12), color=ACCENT, size=SMALL + 0.5, ha="center")
        top = {"xycoords": axes.get_xaxis_transform(), "color": SECOND, "size": SMALL, "va": "top"}
        label(axes, "the law's optimum, 95%", (plan.best_size.value, 1), (3, -2), **top)
        axes.margins(y=0.14)
        axes.set_xlabel(f"parameters ({plan.law.counts} counted), at {choice.training:.3g} FLOPs of training")
        axes.set_ylabel(f"loss by {plan.law.name}, nats/token")
    return axes


def laws_around(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """Every law's best size against compute, the plan among them, and the released Llamas."""
    C = plan.budget.flops
    along = C * np.geomspace(*BUDGETS, POINTS)
    chosen, others = plan.law, [law for name, law in published(plan.question.seed).items() if name != plan.law.name]
    with sheet(axes) as axes:
        ends = {}
        for law in [*others, chosen]:
            sizes = np.array([law.optimum(float(c)) for c in along])
            first = law is chosen
            colour = ACCENT if first else SECOND if law.verified else FAINT
            axes.plot(along, sizes, color=colour, lw=1.5 if first else 0.9, zorder=3 if first else 1)
            ends[law.name] = (sizes[-1], colour)
        shape = plan.shape
        axes.plot(C, shape.count(chosen.counts), "o", ms=5.5, color=ACCENT, zorder=5)
        log_axis(axes, "x", [along[0], along[-1] * (along[-1] / along[0]) ** 0.45], scientific, 0.02)
        log_axis(axes, "y", [value for value, _ in ends.values()] + [float(chosen.optimum(float(along[0])))], human)
        _name_released(axes, along)
        low, high = np.log(axes.get_ylim())
        names = sorted(ends, key=lambda name: ends[name][0])
        heights = spread([float(np.log(ends[name][0])) for name in names], (high - low) / 22)
        for name, height in zip(names, heights, strict=True):
            label(axes, name, (along[-1], float(np.exp(height))), (5, 0), color=ends[name][1], size=SMALL)
        axes.set_xlabel("compute C, FLOPs")
        axes.set_ylabel("best parameters N*, each as its law counts")
    return axes


def _name_released(axes: Axes, along: np.ndarray) -> None:
    """The released Llamas that lie in the frame, as crosses with their names."""
    low, high = axes.get_ylim()
    for model in RELEASED.values():
        C = 6 * model.parameters * model.training.tokens
        if along[0] < C < along[-1] and low < model.parameters < high:
            axes.plot(C, model.parameters, "x", ms=4, mew=0.9, color=SOFT, zorder=4)
            label(axes, model.name.removeprefix("Llama "), (C, model.parameters), (4, -6), color=SOFT, size=SMALL - 0.5)


def memory_by_part(plan: Plan, *, axes: Axes | None = None) -> Axes:
    """What fills a device in training, part by part, beside what it has. Raises ValueError without hardware."""
    if plan.memory is None:
        raise ValueError("nothing is known of the hardware, so there is no memory to draw; give a device")
    parts = sorted(plan.memory.parts.items(), key=lambda part: part[1])
    device = plan.placements[0].device
    have = device.memory
    with sheet(axes) as axes:
        names, sizes = [name for name, _ in parts], [size / 1e9 for _, size in parts]
        axes.barh(names, sizes, color=SECOND, height=0.62)
        for name, size in zip(names, sizes, strict=True):
            label(axes, f"{size:.3g}", (size, name), (4, 0), color=INK, size=SMALL)  # type: ignore[arg-type]
        words = f"{plan.memory.total / 1e9:.3g} GB in all"
        if have is not None:
            words += f", of {have / 1e9:.3g} on one {device.name}"
        axes.set_xlabel(f"GB of a device in training: {words}")
        axes.margins(x=0.12)
    return axes
