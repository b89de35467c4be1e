"""Schedules: learning rate, batch size, context length and RoPE as pure functions of tokens consumed.

A step is determined by how many tokens came before it, so a run resumes from one integer, a branch may leave a
trunk wherever their schedules agree up to that point, and every schedule can be tested and drawn without training.
Batch and context grow alike: by doubling at given tokens, as Llama 3 grew its batch from 4M to 16M tokens and its
context from 8k to 128k (arXiv 2407.21783, sections 3.4.1 and 3.4.2). Mixture weights are ``tokens.mixture``'s, which
weights are averaged ``planning.averaging``'s; both are such functions too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Literal, NamedTuple

from isoflop.planning.phases import Phase, check
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run of ``tokens`` tokens: linear warmup, then phases, for which two kinds are shorthand.

    ``wsd``: constant at ``peak`` until ``decay_tokens`` before the end, then to ``floor``·peak by one minus the
    square root of progress (Hägele et al. 2024). With no decay it is a trunk. ``cosine``: half a cosine from
    the end of warmup to ``floor``·peak at ``tokens``. ``phases``: any others, instead of those.
    """

    tokens: int
    peak: float
    warmup_tokens: int = 0
    decay_tokens: int = 0
    kind: Literal["wsd", "cosine", "phases"] = "wsd"
    floor: float = 0.0
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot be followed."""
        if self.tokens <= 0 or self.peak <= 0:
            raise ValueError(f"a schedule needs tokens and a peak rate above 0, not {self.tokens} and {self.peak}")
        if self.warmup_tokens + self.decay_tokens > self.tokens:
            raise ValueError(
                f"warmup ({self.warmup_tokens:,} tokens) and decay ({self.decay_tokens:,}) do not fit "
                f"a run of {self.tokens:,} tokens"
            )
        if bool(self.phases) != (self.kind == "phases"):
            raise ValueError('a schedule has phases where kind = "phases", and only there')
        if self.phases and (self.decay_tokens or self.floor):
            raise ValueError("decay_tokens and floor are the shorthands'; phases have an end and a level each")
        if self.phases:
            check(self.phases, self.warmup_tokens, self.tokens)

    @property
    def descent(self) -> tuple[Phase, ...]:
        """The phases after warmup, whether they were spelt out or not."""
        if self.kind == "phases":
            return self.phases
        if self.kind == "cosine":
            return (Phase(self.tokens, "cosine", self.floor),)
        decay = (Phase(self.tokens, "sqrt", self.floor),) if self.decay_tokens else ()
        return Phase(self.tokens - self.decay_tokens, "hold"), *decay

    @property
    def annealing(self) -> int:
        """Tokens consumed at which the last descent begins; ``tokens`` for a run that has only one, or none."""
        last = self.descent[-1]
        return self.corners[-2] if last.to is not None and len(self.descent) > 1 else self.tokens

    @property
    def corners(self) -> tuple[int, ...]:
        """Tokens consumed at the end of warmup and of every phase."""
        return self.warmup_tokens, *(phase.until for phase in self.descent)

    def learning_rate(self, consumed: int) -> float:
        """Learning rate of the step that starts after ``consumed`` tokens."""
        if consumed < self.warmup_tokens:
            return self.peak * (consumed + 1) / (self.warmup_tokens + 1)
        start, level = self.warmup_tokens, 1.0
        for phase in self.descent:
            progress = min(1.0, (consumed - start) / max(1, phase.until - start))
            if consumed < phase.until:
                return self.peak * phase.level(level, progress)
            start, level = phase.until, phase.level(level, 1.0)
        return self.peak * level


class Stage(NamedTuple):
    """A stretch of a run, in tokens consumed, over which a quantity has one value; ``end`` may be infinite."""

    start: int
    end: float
    value: int


@dataclass(frozen=True)
class Doubling:
    """A quantity that doubles: ``first`` until the first threshold, then doubled at each.

    ``thresholds`` are tokens consumed, ascending; those beyond the end of a run do nothing.
    """

    first: int
    thresholds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse thresholds that do not ascend."""
        if self.first < 1 or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"a ramp needs a first value of at least 1 and ascending thresholds: {self}")

    def at(self, consumed: int) -> int:
        """The value in the step that starts after ``consumed`` tokens."""
        return self.first << sum(consumed >= threshold for threshold in self.thresholds)

    @property
    def last(self) -> int:
        """The value after the last threshold."""
        return self.first << len(self.thresholds)

    def stages(self, start: int = 0, end: float = math.inf) -> list[Stage]:
        """What the tokens ``start`` … ``end`` are cut into by the thresholds between them."""
        cuts = [start, *(t for t in self.thresholds if start < t < end), end]
        return [Stage(int(a), b, self.at(int(a))) for a, b in pairwise(cuts)]


@dataclass(frozen=True)
class BatchRamp(Doubling):
    """Batch size in tokens. The same for every run of a sweep, so that all see equal batches at equal tokens."""

    def steps(self, tokens: float, start: int = 0) -> Iterator[int]:
        """Tokens consumed before each step from ``start`` until ``tokens`` are reached."""
        while start < tokens:
            yield start
            start += self.at(start)

    def align(self, tokens: float, multiple: int = 1) -> int:
        """The first step boundary at or after ``tokens`` that is a multiple of ``multiple``.

        Raises ValueError where none is found: no more steps than ``multiple`` are tried, after which steps of one size
        repeat themselves.
        """
        boundary = 0
        for threshold in (*self.thresholds, math.inf):
            size, stop = self.at(boundary), min(tokens, threshold)
            boundary += max(0, math.ceil((stop - boundary) / size)) * size
            if boundary >= tokens:
                break
        for whole in islice(self.steps(math.inf, boundary), multiple):
            if whole % multiple == 0:
                return whole
        raise ValueError(
            f"no step from {boundary:,} tokens on begins at a multiple of {multiple:,} tokens; "
            f"make the first batch, which has {self.first:,}, such a multiple"
        )


@dataclass(frozen=True)
class ContextRamp(Doubling):
    """Context length in tokens. Every stage is whole blocks of the longest context, in which the corpus is shuffled."""

    def __post_init__(self) -> None:
        """Refuse thresholds that do not ascend or cut a block."""
        super().__post_init__()
        if cut := [threshold for threshold in self.thresholds if threshold % self.last]:
            raise ValueError(
                f"a context that grows to {self.last:,} must do so at multiples of that, which {cut[0]:,} tokens are "
                f"not; move that threshold to {-(-cut[0] // self.last) * self.last:,}"
            )

    @classmethod
    def aligned(cls, first: int, wishes: Iterable[float], batch: BatchRamp) -> ContextRamp:
        """The ramp that doubles as soon after each of ``wishes`` (tokens, ascending) as blocks and batches allow.

        Raises ValueError where they never do, or where two wishes fall together.
        """
        wishes = tuple(wishes)
        longest = first << len(wishes)
        return cls(first, tuple(batch.align(wish, longest) for wish in wishes))

    def agrees(self, other: ContextRamp, until: int) -> bool:
        """Whether two ramps give the same sequences in the same order up to ``until`` tokens.

        The order knows the longest context, by which the corpus is cut, and the end of the stage in force, over which
        it is shuffled (``tokens.order``).
        """
        begun, theirs = ([stage for stage in ramp.stages() if stage.start < until] for ramp in (self, other))
        return self.last == other.last and begun == theirs


@dataclass(frozen=True)
class RopeStage:
    """The rotary embedding from ``at`` tokens consumed on: its base and, if it is stretched, how."""

    at: int
    theta: float
    scaling: RopeScaling | None = None


def check_ropes(stages: tuple[RopeStage, ...], shape: Shape) -> None:
    """A ValueError unless the stages begin at 0, ascend, and end with the shape's own embedding."""
    starts = [stage.at for stage in stages]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise ValueError(f"the stages of rope must begin at 0 tokens and one after another, not at {starts}")
    if (stages[-1].theta, stages[-1].scaling) != (shape.rope_theta, shape.rope_scaling):
        raise ValueError(
            f"the last stage of rope has theta {stages[-1].theta:g} and scaling {stages[-1].scaling}, but the shape "
            f"{shape.rope_theta:g} and {shape.rope_scaling}; a shape's rope is what its training ends with"
        )


def rope_at(stages: tuple[RopeStage, ...], consumed: int) -> RopeStage:
    """The rotary embedding of the step that starts after ``consumed`` tokens."""
    return max((stage for stage in stages if stage.at <= consumed), key=lambda stage: stage.at)


def agree(one: Schedule, other: Schedule, until: int) -> bool:
    """Whether two schedules give the same learning rate at every point before ``until`` tokens.

    Both are smooth between a few corners, so they are compared at the corners and on a fine grid.
    """
    corners = (*one.corners, *other.corners)
    grid = {until * i // 1024 for i in range(1024)} | {c + d for c in corners for d in (-1, 0, 1)}
    points = [point for point in grid if 0 <= point < until]
    return all(one.learning_rate(point) == other.learning_rate(point) for point in points)
