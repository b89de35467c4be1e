"""A run's schedule laid out before it runs: the stretches between the tokens at which anything begins to change.

Everything that changes is a function of tokens consumed, so the whole course of a run is known from its config; this
module reads it off for the screen, the figure and JSON. Instant, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from isoflop.planning.gates import short_context
from isoflop.planning.schedule import RopeStage
from isoflop.training.config import TrainConfig


@dataclass(frozen=True)
class Stretch:
    """From ``start`` to ``end`` tokens nothing changes but the rate, which goes on from ``rate[0]`` to ``rate[1]``."""

    name: str
    start: int
    end: int
    context: int
    batch: int
    rate: tuple[float, float]
    rope: RopeStage
    shares: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The stretch as plain values."""
        return asdict(self)


def stretches(config: TrainConfig) -> list[Stretch]:
    """The stretches of a run in their order; they fill it."""
    return [stretch(config, start, end) for start, end in pairwise(cuts(config))]


def stretch(config: TrainConfig, start: int, end: int) -> Stretch:
    """The stretch between two neighbouring cuts."""
    rate = config.schedule.learning_rate
    return Stretch(
        stage_name(config, start),
        start,
        end,
        config.contexts.at(start),
        config.batch.at(start),
        (rate(start), rate(end)),
        config.rope_at(start),
        shares_at(config, start),
    )


def cuts(config: TrainConfig) -> list[int]:
    """Where anything begins to change, in tokens consumed, with the run's beginning and end."""
    batch, tokens = config.batch, config.schedule.tokens
    doublings = (batch.align(threshold) for threshold in batch.thresholds if threshold < tokens)
    ropes = (rope.at for rope in config.ropes)
    blends = (blend.at for blend in config.blends.blends)
    average = (config.average.start,) if config.average else ()
    corners = {0, *config.contexts.thresholds, *doublings, *config.schedule.corners, *ropes, *blends, *average}
    return [*sorted(corner for corner in corners if corner < tokens), tokens]


def stage_name(config: TrainConfig, consumed: int) -> str:
    """Which of the three stages the step after ``consumed`` tokens belongs to."""
    if consumed >= config.schedule.annealing:
        return "annealing"
    short = short_context(config.gates, config.contexts) if config.gates else config.contexts.first
    return "long context" if config.contexts.at(consumed) > short else "initial"


def shares_at(config: TrainConfig, consumed: int) -> dict[str, float]:
    """Each source's share of the tokens after ``consumed``."""
    blends = config.blends
    blend = max((blend for blend in blends.blends if blend.at <= consumed), key=lambda blend: blend.at)
    return {source.name: blend.shares.get(source.name, 0.0) for source in blends.sources}


def widths(parts: list[Stretch], columns: int, least: int) -> list[int]:
    """How many of about ``columns`` columns each stretch is drawn with: by its tokens, but ``least`` at least."""
    total, room = parts[-1].end, max(0, columns - least * len(parts))
    return [least + round(room * (part.end - part.start) / total) for part in parts]


def points(parts: list[Stretch], columns: int, least: int) -> Iterator[int]:
    """Tokens consumed that stand for the columns of a drawing, ``least`` at least in every stretch."""
    for part, width in zip(parts, widths(parts, columns, least), strict=True):
        for column in range(width):
            yield part.start + (part.end - part.start) * column // max(1, width - 1 if part is parts[-1] else width)


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The whole course of a run as plain values: its stretches, its gates, its averaging."""
    return {
        "tokens": config.schedule.tokens,
        "stages": [part.to_json() for part in stretches(config)],
        "gates": [asdict(gate) for gate in config.gated],
        "average": asdict(config.average) if config.average else None,
    }
