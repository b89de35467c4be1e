"""Words beside what they name, where nothing else is drawn: each label takes the first free place of a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from isoflop.laws.forms.law import Array
from isoflop.report.law_figures.sheet import SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAP = 5.0  # points between a label and what it names
WIDTH, HEIGHT = 0.62, 1.1  # of a character, relative to the size of the type
Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""
PLACES = ((1, 0), (1, 1), (1, -1), (0, 1), (0, -1))  # beside, above, below


@dataclass(eq=False)
class Labels:
    """The labels of one Axes, whose limits are set; ``drawn`` are points in its data's coordinates to keep off, (n, 2).

    Distances are in points (1/72 inch).
    """

    axes: Axes
    drawn: Sequence[tuple[Array, Array]]
    taken: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        figure: Any = self.axes.figure.figure  # that of a subfigure is its root
        figure.draw_without_rendering()  # so that the layout is known
        self.scale = 72 / figure.dpi
        self.points = np.concatenate([self._places(x, y) for x, y in self.drawn])

    def put(self, words: str, right: Point, left: Point, colour: str) -> None:
        """Write words to the right of one point or to the left of another, where there is room or they cover least."""
        choices = [
            (self._box(words, self._places(*np.array([anchor]).T)[0], (side * dx, dy)), anchor, (side * dx, dy))
            for anchor, side in ((right, 1), (left, -1))
            for dx, dy in PLACES
        ]
        box, anchor, (dx, dy) = min(choices, key=lambda choice: self._crowd(choice[0]))
        self.taken.append(box)
        self.axes.annotate(
            words,
            anchor,
            (dx * GAP * (1 if dy == 0 else 0.5), dy * GAP),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[dx],
            va={-1: "top", 0: "center", 1: "bottom"}[dy],
            color=colour,
            size=SMALL,
        )

    def _places(self, x: Array, y: Array) -> Array:
        return np.asarray(self.axes.transData.transform(np.column_stack([x, y])) * self.scale)

    def _box(self, words: str, at: Array, place: tuple[int, int]) -> Box:
        """Where words would stand at a place beside a point."""
        width, height = len(words) * SMALL * WIDTH, SMALL * HEIGHT
        dx, dy = place
        left = at[0] + {-1: -GAP - width, 0: -width / 2, 1: GAP}[dx]
        bottom = at[1] + {-1: -GAP - height, 0: -height / 2, 1: GAP}[dy]
        return left, bottom, left + width, bottom + height

    def _crowd(self, box: Box) -> int:
        """Count what is drawn inside a box, other labels and the world beyond the axes many times over."""
        left, bottom, right, top = box
        x, y = self.points.T
        inside = (left - 2 < x) & (x < right + 2) & (bottom - 2 < y) & (y < top + 2)
        others = [left < r and l < right and bottom < t and b < top for l, b, r, t in self.taken]  # noqa: E741
        start, _, end, height = self.axes.bbox.extents * self.scale
        out = bool(right > end + 30 or left < start or top > height + 8)
        return int(inside.sum()) + 100 * (sum(others) + out)
