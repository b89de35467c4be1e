"""Schedules: learning rate and batch size as pure functions of tokens consumed.

A step is determined by how many tokens came before it, so a run resumes from one integer, a branch may leave a
trunk wherever their schedules agree up to that point (:func:`agree`), and every schedule can be tested and drawn
without training. Left out so far: context growth, mixture weights and averaging, which join as further functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Learning rate over a run of ``tokens`` tokens: linear warmup, then one of two ways down.

    ``wsd``: constant at ``peak`` until ``decay_tokens`` before the end, then to ``floor``·peak by one minus the
    square root of progress (Hägele et al. 2024). With no decay it is a trunk. ``cosine``: half a cosine from
    the end of warmup to ``floor``·peak at ``tokens``.
    """

    tokens: int
    peak: float
    warmup_tokens: int = 0
    decay_tokens: int = 0
    kind: Literal["wsd", "cosine"] = "wsd"
    floor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot be followed."""
        if self.tokens <= 0 or self.peak <= 0:
            raise ValueError(f"a schedule needs tokens and a peak rate above 0, not {self.tokens} and {self.peak}")
        if self.warmup_tokens + self.decay_tokens > self.tokens:
            raise ValueError(
                f"warmup ({self.warmup_tokens:,} tokens) and decay ({self.decay_tokens:,}) do not fit "
                f"a run of {self.tokens:,} tokens"
            )

    def learning_rate(self, consumed: int) -> float:
        """Learning rate of the step that starts after ``consumed`` tokens."""
        if consumed < self.warmup_tokens:
            return self.peak * (consumed + 1) / (self.warmup_tokens + 1)
        if self.kind == "cosine":
            progress = min(1.0, (consumed - self.warmup_tokens) / max(1, self.tokens - self.warmup_tokens))
            return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))
        start = self.tokens - self.decay_tokens
        if consumed < start or not self.decay_tokens:
            return self.peak
        progress = min(1.0, (consumed - start) / self.decay_tokens)
        return self.peak * (self.floor + (1 - self.floor) * (1 - math.sqrt(progress)))


@dataclass(frozen=True)
class BatchRamp:
    """Batch size in tokens: ``first`` until the first threshold, then doubled at each.

    ``thresholds`` are tokens consumed, ascending. The function is the same for every run of a sweep, so that
    all runs see equal batches at equal tokens.
    """

    first: int
    thresholds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse thresholds that do not ascend."""
        if self.first < 1 or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ValueError(f"a batch ramp needs a first batch of at least 1 and ascending thresholds: {self}")

    def batch(self, consumed: int) -> int:
        """Tokens in the step that starts after ``consumed`` tokens."""
        return self.first << sum(consumed >= threshold for threshold in self.thresholds)

    def steps(self, tokens: int, start: int = 0) -> Iterator[int]:
        """Tokens consumed before each step from ``start`` until ``tokens`` are reached."""
        while start < tokens:
            yield start
            start += self.batch(start)

    def align(self, tokens: float) -> int:
        """The first step boundary at or after ``tokens``."""
        boundary = 0
        for threshold in (*self.thresholds, math.inf):
            size, stop = self.batch(boundary), min(tokens, threshold)
            boundary += max(0, math.ceil((stop - boundary) / size)) * size
            if boundary >= tokens:
                break
        return boundary


def agree(one: Schedule, other: Schedule, until: int) -> bool:
    """Whether two schedules give the same learning rate at every point before ``until`` tokens.

    Both are smooth between a few corners, so they are compared at the corners and on a fine grid.
    """
    corners = [s.warmup_tokens for s in (one, other)] + [s.tokens - s.decay_tokens for s in (one, other)]
    grid = {until * i // 1024 for i in range(1024)} | {c + d for c in corners for d in (-1, 0, 1)}
    points = [point for point in grid if 0 <= point < until]
    return all(one.learning_rate(point) == other.learning_rate(point) for point in points)
