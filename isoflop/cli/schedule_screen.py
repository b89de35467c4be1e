"""A run's schedule on the terminal: a row of bars for everything that changes, and the stretches as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from isoflop.cli.tables import aligned
from isoflop.planning.shape import human
from isoflop.training.config import TrainConfig
from isoflop.training.timeline import Stretch, points, shares_at, stretches

BARS = "▁▂▃▄▅▆▇█"
COLUMNS, LEAST = 72, 4


def text(config: TrainConfig) -> str:
    """The drawing, the table, and a sentence for averaging and for every gate."""
    return "\n".join([*drawing(config), "", table(stretches(config)), *sentences(config)])


def drawing(config: TrainConfig) -> list[str]:
    """Rate, batch, context and, where they change, rope and the shares of sources, over the tokens of the run."""
    at = list(points(stretches(config), COLUMNS, LEAST))
    rows = [
        row("rate", [config.schedule.learning_rate(t) for t in at], lambda v: f"{v:.3g}", 0.0),
        row("batch", [math.log2(config.batch.at(t)) for t in at], lambda v: human(2**v)),
        row("context", [math.log2(config.contexts.at(t)) for t in at], lambda v: f"{2**v:,.0f}"),
    ]
    if len({rope.theta for rope in config.ropes}) > 1:
        rows.append(row("rope θ", [math.log2(config.rope_at(t).theta) for t in at], lambda v: human(2**v)))
    if config.mixture is not None:
        rows += [
            row(name, [shares_at(config, t)[name] for t in at], lambda v: f"{100 * v:.3g}%", 0.0)
            for name in (source.name for source in config.sources)
        ]
    title = f"{config.shape.name} over {human(config.schedule.tokens)} tokens; short stretches are drawn wider"
    return [title, *aligned(rows, indent="").splitlines()]


def row(name: str, values: Sequence[float], words: Callable[[float], str], floor: float | None = None) -> list[str]:
    """A quantity's name, its least and largest value, and its bars; the lowest stands for ``floor`` or the least."""
    low, high = min(values), max(values)
    base = low if floor is None else floor
    span = (high - base) or 1.0
    bars = "".join(BARS[round((value - base) / span * (len(BARS) - 1))] for value in values)
    said = words(high) if low == high else f"{words(low)} … {words(high)}"
    return [name, said, bars]


def table(parts: list[Stretch]) -> str:
    """The stretches, one a line."""
    head = ("stage", "from token", "to token", "context", "batch", "rate from", "rate to", "rope θ", "scaling")
    rows = [
        (
            part.name,
            f"{part.start:,}",
            f"{part.end:,}",
            f"{part.context:,}",
            f"{part.batch:,}",
            f"{part.rate[0]:.3g}",
            f"{part.rate[1]:.3g}",
            f"{part.rope.theta:g}",
            f"×{part.rope.scaling.factor:g} from {part.rope.scaling.original:,}" if part.rope.scaling else "–",
        )
        for part in parts
    ]
    return aligned([head, *rows], indent="")


def sentences(config: TrainConfig) -> list[str]:
    """Averaging and gates."""
    found = []
    if config.average is not None:
        every = f"every {config.average.every:,} tokens" if config.average.every else "after each step"
        found.append(f"averaged: the weights {every} from {config.average.start:,} tokens on")
    gates = config.gates
    if gates is not None:
        for gate in config.gated:
            asked = f"loss within {gates.tolerance:g} of before" + (
                f", {gates.needle:.0%} of needles at {gate.context:,}" if gates.needle else ""
            )
            what = "loss measured, against which later ones are held" if gate.first else asked
            found.append(f"gate at {gate.tokens:,} tokens, before {gate.opens}: {what} ({gates.action})")
    return found
