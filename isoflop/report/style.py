"""How figures look, and how matplotlib's SVG becomes a piece of the page.

Figures are drawn in marker colours, each of which stands for a role (ink, band, budget 3). On the way into the page
they become CSS variables with a light and a dark value, so that one SVG suits both schemes. Text stays text in the
page's font. The output depends on the data alone: no dates, salted ids, coordinates to a hundredth of a point.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from isoflop.planning.shape import human
from isoflop.report.scales import log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Role(NamedTuple):
    """A colour's part in the figures: the marker matplotlib draws with, and its two values on the page."""

    marker: str
    light: str
    dark: str


ROLES = {
    "ink": Role("#010101", "#23272e", "#e4e2dd"),
    "soft": Role("#010102", "#6c737d", "#9aa0a8"),
    "faint": Role("#010103", "#c9cdd3", "#43484f"),
    "accent": Role("#010104", "#c2410c", "#ff9d66"),
    "second": Role("#010105", "#4a6fa5", "#8fb4e8"),
    "paper": Role("#010106", "#ffffff", "#15181c"),
}
INK, SOFT, FAINT, ACCENT, SECOND, PAPER = (role.marker for role in ROLES.values())

WIDE = (4.9, 3.3)
"""Inches of a figure that has the page's width to itself."""
HALF = (3.3, 2.6)
"""Inches of a figure that stands beside another, and below it on a phone."""

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 7.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "savefig.transparent": True,
    "svg.fonttype": "none",
}


def budget_colour(index: int) -> str:
    """The marker of a budget's colour, by its place among the budgets."""
    return f"#0b0c{index:02x}"


def budget_roles(count: int) -> list[Role]:
    """Colours of ``count`` budgets in viridis order, kept off the end that each background swallows."""
    if not count:
        return []
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    shades = [i / max(1, count - 1) for i in range(count)]
    viridis = colormaps["viridis"]
    return [
        Role(budget_colour(i), to_hex(viridis(0.05 + 0.75 * s)), to_hex(viridis(0.42 + 0.5 * s)))
        for i, s in enumerate(shades)
    ]


def roles(budgets: int) -> dict[str, Role]:
    """Every role of a page whose sweep has this many budgets, by the name of its CSS variable."""
    return ROLES | {f"b{i}": role for i, role in enumerate(budget_roles(budgets))}


def variables(budgets: int, scheme: Literal["light", "dark"]) -> str:
    """The CSS variables of a colour scheme."""
    return "".join(f"--{name}:{getattr(role, scheme)};" for name, role in roles(budgets).items())


def need_matplotlib() -> None:
    """Raise a ValueError that says how to get matplotlib, if it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("the report draws its figures with matplotlib: pip install isoflop[report]") from None


def render(name: str, label: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Draw a figure and return it as inline SVG; ``name`` is unique on the page, ``label`` is read aloud."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change the report
        settings: Any = SETTINGS | {"svg.hashsalt": name}
        matplotlib.rcParams.update(settings)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return inline(buffer.getvalue(), name, label)


def inline(svg: str, name: str, label: str) -> str:
    """Matplotlib's SVG document as an element of a page: no prologue, own ids, page font, colours by role."""
    body = svg[svg.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', body)
    assert view is not None
    body = body[body.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\1{name}-", body).replace("xlink:href", "href")
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", two_places, tag[0]), body)
    body = re.sub(r"#(0101|0b0c)([0-9a-f]{2})", css_variable, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg class="plot" {view[0]} role="img" aria-label="{label}">{body}'.strip()


def two_places(number: re.Match[str]) -> str:
    """A coordinate to a hundredth of a point."""
    return f"{float(number[0]):.2f}"


def css_variable(marker: re.Match[str]) -> str:
    """The CSS variable of a marker colour."""
    if marker[1] == "0b0c":
        return f"var(--b{int(marker[2], 16)})"
    return f"var(--{list(ROLES)[int(marker[2], 16) - 1]})"


def log_axis(
    axes: Axes, which: Literal["x", "y"], values: Sequence[float], text: Callable[[float], str], margin: float = 0.06
) -> None:
    """Make an axis logarithmic around ``values`` (positive), with few round ticks and nothing between them."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = math.log(min(values)), math.log(max(values))
    room = max(margin * (high - low), 0.02)
    low, high = math.exp(low - room), math.exp(high + room)
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(log_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: text(value))


def tokens_axis(axes: Axes) -> None:
    """Tokens on a linear x axis, as people say them."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: human(value))


def label(axes: Axes, words: str, at: tuple[float, float], offset: tuple[float, float], **looks: Any) -> None:
    """Words a few points away from a place in the data's coordinates, or in those that ``xycoords`` names."""
    settings: dict[str, Any] = {"size": 7, "va": "center"} | looks
    axes.annotate(words, at, offset, textcoords="offset points", **settings)
