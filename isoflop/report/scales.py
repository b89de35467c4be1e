"""Numbers on axes: round ticks, labels that do not collide, powers of ten as people write them. No matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between ``low`` and ``high``, fit for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / 7)]
    return linear_ticks(low, high)


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``, equally spaced."""
    step = round_step(high - low)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def round_step(span: float, most: int = 5) -> float:
    """The smallest of 1, 2, 5 times a power of ten that cuts ``span`` into at most ``most`` pieces."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in (1, 2, 5, 10) if span / (step * power) <= most)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart as little as keeps neighbours ``gap`` apart, in the order given: labels do not collide."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = [heights[i] for i in order]
    for _ in range(200):
        for i in range(1, len(moved)):
            if (lack := gap - (moved[i] - moved[i - 1])) > 1e-9:
                moved[i - 1] -= lack / 2
                moved[i] += lack / 2
    placed = dict(zip(order, moved, strict=True))
    return [placed[i] for i in range(len(heights))]


SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def scientific(value: float) -> str:
    """A positive number as people write it: 4×10¹¹, and plain between a thousandth and ten thousand."""
    if 1e-3 <= value < 1e4:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    power = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}×{power}"


def data_size(count: float) -> str:
    """Bytes as people say them, in decimal units: 512 B, 41.2 kB, 3.07 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size * 0.9995:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def percent(part: float, whole: float) -> str:
    """A share with as many digits as tell it from all and from nothing: 12.3%, 0.04%, <0.01%, 0%."""
    share = 100 * part / whole if whole else 0.0
    if 0 < share < 0.01:
        return "<0.01%"
    return f"{share:.2g}%" if share < 1 else f"{share:.3g}%" if share < 10 else f"{share:.1f}%"
