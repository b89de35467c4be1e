"""When the weights of a run are averaged: a rule on tokens consumed, like every schedule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Averaging:
    """The mean of the weights after ``start`` tokens, one taken whenever ``every`` more are consumed.

    Llama 3 averages the checkpoints of its annealing to have its final model (arXiv 2407.21783, section 3.4.3). With
    ``every`` 0 the weights after each step count.
    """

    start: int
    every: int = 0

    def __post_init__(self) -> None:
        """Refuse an average that begins before the run."""
        if self.start < 0 or self.every < 0:
            raise ValueError(f"averaging begins at 0 tokens or later, every 0 tokens or more: {self}")

    def due(self, before: int, now: int) -> bool:
        """Whether the weights count that the step from ``before`` to ``now`` tokens ended with."""
        if now <= self.start:
            return False
        if not self.every:
            return True
        return (now - self.start) // self.every > max(0, before - self.start) // self.every


def agree(one: Averaging | None, other: Averaging | None, until: int) -> bool:
    """Whether two rules have taken the same weights by ``until`` tokens."""
    begun = [rule if rule is not None and rule.start < until else None for rule in (one, other)]
    return begun[0] == begun[1]
