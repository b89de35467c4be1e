"""What the figures of laws are drawn on: an Axes of the caller's or a new one, in the report's looks on white.

A new one is pyplot's, so that a notebook shows it; :func:`save` draws into a file without pyplot. The settings of the
report's pages (:mod:`isoflop.report.style`) hold while a figure is drawn, with their light colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoflop.report.style import ROLES, SETTINGS, budget_roles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, FAINT, ACCENT, SECOND, PAPER = (role.light for role in ROLES.values())
LIGHT = {role.marker: role.light for role in ROLES.values()}
LOOKS: Any = {
    **{key: LIGHT.get(value, value) if isinstance(value, str) else value for key, value in SETTINGS.items()},
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "savefig.transparent": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",  # alone in a file, text must not depend on the viewer's fonts
}
SMALL = 7.5  # points, of words inside a figure
SIZE = (6.2, 4.0)
"""Inches of a figure."""
PANEL = (5.0, 3.9)
"""Inches of each of several side by side."""
Draw = Callable[..., object]
"""Draws on the Axes that it is given as ``axes``."""


@contextmanager
def sheet(axes: Axes | None) -> Iterator[Axes]:
    """Give the Axes to draw on, a new one where there is none, with the looks in force."""
    import matplotlib

    with matplotlib.rc_context(LOOKS):
        if axes is None:
            import matplotlib.pyplot as plt

            axes = plt.subplots(figsize=SIZE, layout="constrained")[1]
        yield axes


def save(path: Path, *panels: Draw) -> Path:
    """Draw panels side by side and write them; the suffix of ``path`` chooses PNG, SVG or PDF."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change a file
        matplotlib.rcParams.update(LOOKS)
        size = SIZE if len(panels) == 1 else (PANEL[0] * len(panels), PANEL[1])
        figure = Figure(figsize=size, layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes=axes)
        figure.savefig(path)
    return path


def shades(count: int) -> list[str]:
    """Colours of ``count`` budgets in rising order."""
    return [role.light for role in budget_roles(count)]
