"""The ways a learning rate goes from one level to another: held, cosine, linear, one minus the square root.

Levels are shares of the peak rate. A run after its warmup is a sequence of phases, each from where the one before left
off: Llama 3's cosine to a hundredth, its long contexts at that rate and its last tokens linearly to zero are three of
them (arXiv 2407.21783, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

REMAINING: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "sqrt": lambda progress: 1 - math.sqrt(progress),
}
"""The share of a descent that is still to come, from 1 to 0 as progress goes from 0 to 1."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the rate that ends at ``until`` tokens consumed, at the level ``to`` (a share of the peak).

    ``hold`` keeps the level it finds and takes no ``to``. ``sqrt`` is Hägele et al.'s (2024) cooldown.
    """

    until: int
    kind: Literal["hold", "cosine", "linear", "sqrt"]
    to: float | None = None

    def __post_init__(self) -> None:
        """Refuse a descent that leads nowhere, and a level that is none."""
        if (self.kind == "hold") != (self.to is None):
            raise ValueError(f"a phase of the rate needs a level to go to, or is held and has none: {self}")
        if self.to is not None and not 0 <= self.to < math.inf:
            raise ValueError(f"a rate's level is a share of the peak, 0 or more, not {self.to}")

    def level(self, before: float, progress: float) -> float:
        """The level, ``before`` at the beginning of the phase, after a share ``progress`` of it."""
        if self.to is None:
            return before
        return self.to + (before - self.to) * REMAINING[self.kind](progress)


def check(phases: tuple[Phase, ...], start: int, end: int) -> None:
    """A ValueError unless the phases follow one another from ``start`` to ``end`` tokens."""
    ends = [start, *(phase.until for phase in phases)]
    if ends != sorted(set(ends)) or ends[-1] != end:
        raise ValueError(
            f"the phases of a rate must end one after another, beyond the warmup's {start:,} tokens and the last at "
            f"the run's {end:,}, not at {', '.join(f'{until:,}' for until in ends[1:])}"
        )
