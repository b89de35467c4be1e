"""How a planned model is trained: learning rate, warmup, decay, batch ramp, context stages, annealing; as a config.

Everything is a function of tokens consumed (:mod:`isoflop.planning.schedule`), by the rules that every run of a sweep
obeys (:mod:`isoflop.planning.hyperparameters`); what published rules say of the same run stands beside them. The
annealing stage is the schedule's own decay to zero over the last tenth; a long context is grown into, by doubling,
just before it, so that annealing happens at the full length. Instant. Left out: mixtures of data by stage, averages
of checkpoints, muP.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from isoflop.laws import (
    KAPLAN_2020_CRITICAL_BATCH,
    OLMO_CORE_BATCH,
    OLMO_CORE_LEARNING_RATE,
    STEP_LAW_BATCH,
    STEP_LAW_LEARNING_RATE,
)
from isoflop.planning.hyperparameters import (
    DECAY_FRACTION,
    batch_ramp,
    first_batch_for,
    peak_learning_rate,
    warmup_tokens,
)
from isoflop.planning.schedule import BatchRamp, ContextRamp, Schedule
from isoflop.planning.shape import Shape

LONG_SHARE = 0.05
"""Share of the tokens on which a long context is grown: Llama 3's 800B of 15.6T (arXiv 2407.21783, section 3.4.2)."""
FIRST_BATCH_AT = 0.01
"""Share of a large run at whose best batch it starts: a smaller one would leave a cluster idle."""
VALIDATIONS = 4
"""Validations over a run, the last at its end, on so many ``VALIDATION_TOKENS``."""
VALIDATION_TOKENS = 131_072
SMALL_RUN = 1e9
"""Tokens below which a run starts at the smallest batch, as the runs of a sweep do."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training, from and to in tokens consumed, with the batch and rate of its first and last step."""

    name: str
    start: int
    end: int
    context: int
    batch: tuple[int, int]
    learning_rate: tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """The schedules of a run."""

    schedule: Schedule
    batch: BatchRamp
    contexts: ContextRamp

    @property
    def tokens(self) -> int:
        """Tokens of the run, whole batches."""
        return self.schedule.tokens

    @property
    def largest_batch(self) -> int:
        """The batch of most of the run."""
        return self.batch.at(self.tokens - 1)

    @property
    def steps(self) -> int:
        """Optimiser steps in all; exact but for a step cut by a threshold."""
        stages = self.batch.stages(0, self.tokens)
        return sum(math.ceil((stage.end - stage.start) / stage.value) for stage in stages)

    def flops(self, shape: Shape) -> float:
        """Exact training FLOPs, attention counted at each stage's context."""
        parts = self.contexts.stages(0, self.tokens)
        return float(sum(shape.flops_per_token_at(part.value) * int(part.end - part.start) for part in parts))

    def stages(self) -> Iterator[Stage]:
        """The initial stage, the longer contexts one by one, and annealing."""
        anneal = self.tokens - self.schedule.decay_tokens
        for i, part in enumerate(self.contexts.stages(0, anneal)):
            yield self._stage("long context" if i else "initial", part.start, int(part.end))
        yield self._stage("annealing", anneal, self.tokens)

    def _stage(self, name: str, start: int, end: int) -> Stage:
        batch, rate = self.batch.at, self.schedule.learning_rate
        last = end - 1
        return Stage(name, start, end, self.contexts.at(start), (batch(start), batch(last)), (rate(start), rate(last)))

    def config(self, shape: Shape, data: str, **more: Any) -> dict[str, Any]:
        """The run as the config.toml of ``isoflop train`` holds it; ``more`` are further keys of it."""
        values: dict[str, Any] = {
            "shape": asdict(shape),
            "data": data,
            "schedule": asdict(self.schedule),
            "batch": asdict(self.batch),
            "validate_times": VALIDATIONS,
            "validation_tokens": VALIDATION_TOKENS,
        }
        if self.contexts.thresholds:
            values["context"] = asdict(self.contexts)
        return values | more

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return asdict(self) | {"steps": self.steps, "stages": [asdict(stage) for stage in self.stages()]}


def recipe(
    shape: Shape,
    tokens: float,
    *,
    first_context: int | None = None,
    first_batch: int | None = None,
    devices: int = 1,
    rate_factor: float = 1.0,
) -> Recipe:
    """The schedules for a shape and a number of tokens, rounded to whole batches.

    ``first_context`` is what most tokens are seen at, where that is shorter than the shape's; ``first_batch`` is that
    of a sweep whose rules the run has to share; without one, batches divide over the odd part of ``devices``, as
    doubling takes care of the rest. Raises ValueError where the context does not grow by doubling, or
    where batches cannot hold its long sequences.
    """
    context = first_context or shape.context
    batch = BatchRamp(*batch_ramp(tokens, first_batch or starting_batch(tokens, context, devices)))
    total, start = batch.align(tokens), batch.align(tokens * (1 - DECAY_FRACTION))
    schedule = Schedule(
        tokens=total,
        peak=peak_learning_rate(shape.matmul) * rate_factor,
        warmup_tokens=int(warmup_tokens(shape.matmul, total, batch.first)),
        decay_tokens=max(total - start, 1),
    )
    return Recipe(schedule, batch, contexts(context, shape.context, tokens, batch))


def starting_batch(tokens: float, context: int, devices: int = 1) -> int:
    """Tokens of the first batch: the smallest for small runs, the best one at a hundredth of a large run."""
    if tokens < SMALL_RUN:
        return first_batch_for(context)
    least = context * (devices // (devices & -devices))
    best = float(STEP_LAW_BATCH(D=FIRST_BATCH_AT * tokens))
    return least << max(0, round(math.log2(best / least)))


def contexts(first: int, longest: int, tokens: float, batch: BatchRamp) -> ContextRamp:
    """Context lengths that double from ``first`` to ``longest`` in even steps over the tokens before annealing."""
    doublings = round(math.log2(longest / first))
    if doublings < 0 or first << doublings != longest:
        raise ValueError(f"a context grows by doubling: {longest:,} is no power of two times {first:,}")
    begin = tokens * (1 - DECAY_FRACTION - LONG_SHARE)
    wishes = [begin + tokens * LONG_SHARE * i / doublings for i in range(doublings)]
    if doublings and batch.at(int(begin)) < longest:
        raise ValueError(
            f"a batch of {batch.at(int(begin)):,} tokens does not hold a sequence of {longest:,}; shorten the long "
            f"context, or plan for a larger budget"
        )
    return ContextRamp.aligned(first, wishes, batch)


@dataclass(frozen=True)
class Rule:
    """What a published rule says of a run: its peak learning rate and its batch in tokens; None where it is silent."""

    name: str
    learning_rate: float | None
    batch: float | None


def published_rules(shape: Shape, tokens: float, loss: float | None) -> tuple[Rule, ...]:
    """Published rules for the same run, to see how far they lie apart. ``loss`` in nats sets the critical batch."""
    body = {"N": float(shape.body), "D": tokens}
    step = Rule("Step Law", float(STEP_LAW_LEARNING_RATE(**body)), float(STEP_LAW_BATCH(D=tokens)))
    olmo = Rule("OLMo's ladder", float(OLMO_CORE_LEARNING_RATE(N=body["N"])), float(OLMO_CORE_BATCH(N=body["N"])))
    critical = None if loss is None else float(KAPLAN_2020_CRITICAL_BATCH.batch(loss))
    return step, olmo, Rule("critical batch (Kaplan, not verified)", None, critical)
