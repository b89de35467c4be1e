"""Gates: what a long-context stage must have reached before the next one begins, and where a run is asked.

Llama 3 went on to a longer context when its short-context evaluations had recovered and it found a needle in a text of
the length at hand (arXiv 2407.21783, section 3.4.2). Here gates are places, known beforehand; what is measured there is
``training.gates``'s. Training itself never depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from isoflop.planning.schedule import ContextRamp, Schedule

END = "the end"


@dataclass(frozen=True)
class Gates:
    """What has to hold at the end of every stage with a context longer than the short one.

    Attributes:
        tolerance: nats per token by which the loss at the short context may stay above that before the first stage.
        needle: share of needle tests at the stage's own context that must be solved; 0 asks for none.
        trials: needle tests at each of five depths.
        short: the short context, by default the run's first.
        action: whether a gate that is shut is only said, or ends the run.
    """

    tolerance: float = 0.02
    needle: float = 0.9
    trials: int = 8
    short: int | None = None
    action: Literal["warn", "stop"] = "warn"

    def __post_init__(self) -> None:
        """Refuse conditions that cannot be met or measured."""
        if self.tolerance < 0 or not 0 <= self.needle <= 1 or self.trials < 1:
            raise ValueError(
                f"a gate needs a tolerance of 0 or more, a share of needles in 0 to 1 and at least one trial: {self}"
            )


@dataclass(frozen=True)
class Gate:
    """The end, at ``tokens``, of a stage that began at ``start`` with ``context``.

    ``opens`` is what comes next: another context, annealing, or the end. Before the first long-context stage
    there is nothing to hold against anything (``first``): the loss that later ones are held against is measured.
    """

    tokens: int
    start: int
    context: int
    opens: str
    first: bool = False


def places(gates: Gates, contexts: ContextRamp, schedule: Schedule) -> list[Gate]:
    """The gates of a run in their order; none where its context never exceeds the short one."""
    short = short_context(gates, contexts)
    stages = contexts.stages(0, schedule.tokens)
    long = [stage for stage in stages if stage.value > short]
    if not long or long[0] is stages[0]:
        return []
    before = stages[stages.index(long[0]) - 1]
    found = [Gate(long[0].start, before.start, before.value, f"context {long[0].value:,}", first=True)]
    for stage, after in pairwise(long):
        found.append(Gate(after.start, stage.start, stage.value, f"context {after.value:,}"))
    last, annealing = long[-1], schedule.annealing
    end, opens = (annealing, "annealing") if last.start < annealing < schedule.tokens else (schedule.tokens, END)
    return [*found, Gate(end, last.start, last.value, opens)]


def short_context(gates: Gates, contexts: ContextRamp) -> int:
    """The longest context that counts as short."""
    return gates.short or contexts.first
