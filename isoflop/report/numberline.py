"""The number line under the verdict: each interval as a bar, each median as a tick, the measurement across them all.

Made of positioned elements rather than SVG, so that its text keeps its size on a phone. No matplotlib.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from isoflop.report.markup import text
from isoflop.report.scales import linear_ticks


@dataclass(frozen=True)
class Bar:
    """One interval on the line."""

    who: str
    low: float
    middle: float
    high: float
    main: bool = False


def number_line(bars: list[Bar], measured: float | None, unit: str) -> str:
    """Bars over one axis, in their order."""
    points = [value for bar in bars for value in (bar.low, bar.high)] + ([measured] if measured is not None else [])
    room = 0.06 * (max(points) - min(points)) or 0.01
    low, high = min(points) - room, max(points) + room

    def at(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    across = f'<i class="at" style="left:{at(measured)}"></i>' if measured is not None else ""
    rows = ""
    if measured is not None:
        rows += row("", f'<b class="flag" style="left:{clamped(at(measured))}">measured {measured:.3f}</b>', "top")
    for bar in bars:
        span = f"left:{at(bar.low)};width:{100 * (bar.high - bar.low) / (high - low):.2f}%"
        marks = f'<i class="bar" style="{span}"></i><i class="mid" style="left:{at(bar.middle)}"></i>{across}'
        rows += row(text(bar.who), marks, "main" if bar.main else "")
    ticks = linear_ticks(low, high)
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    rows += row(text(unit), "".join(f'<span style="left:{at(t)}">{t:.{places}f}</span>' for t in ticks), "axis")
    said = "; ".join(f"{bar.who} {bar.middle:.3f}, {bar.low:.3f} to {bar.high:.3f}" for bar in bars)
    said += f"; measured {measured:.3f}" if measured is not None else ""
    return f'<div class="line" role="img" aria-label="{text(said)}">{rows}</div>'


def row(who: str, marks: str, kind: str) -> str:
    """One row: a name, and marks on the common scale."""
    return f'<div class="row {kind}"><span class="who">{who}</span><div class="track">{marks}</div></div>'


def clamped(left: str) -> str:
    """A place for a label about seven letters wide to either side, kept on the track."""
    return f"clamp(3.6rem,{left},calc(100% - 3.6rem))"
