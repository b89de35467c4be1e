"""What an evaluation found: figures with intervals, and the outcome of every item, by which models are compared."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from isoflop.evaluation.intervals import Difference, Figure, difference


@dataclass(frozen=True)
class Result:
    """A model's result in a task.

    Attributes:
        primary: Name of the figure that stands for the task.
        figures: All figures by name; shares are from 0 to 1.
        outcomes: What every item adds to the primary figure, in the task's order.
        clusters: Which items belong together, where some do.
        groups: The primary figure of parts of the task, by name.
        counts: What a reader must know, such as contexts cut off.
    """

    primary: str
    figures: dict[str, Figure]
    outcomes: tuple[float, ...]
    clusters: tuple[Hashable, ...] | None = None
    groups: dict[str, Figure] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def headline(self) -> Figure:
        """The primary figure."""
        return self.figures[self.primary]

    def counting(self, name: str, count: int) -> Result:
        """The same, with one more thing to know."""
        return replace(self, counts={**self.counts, name: count})

    def better_than(self, other: Result) -> Difference:
        """This model's primary figure less another's in the same task."""
        return difference(other.outcomes, self.outcomes, self.clusters)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "primary": self.primary,
            "figures": {name: vars(figure) for name, figure in self.figures.items()},
            "groups": {name: vars(figure) for name, figure in self.groups.items()},
            "counts": self.counts,
        }
