"""How far one parameter can be moved before no choice of the others makes up for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from isoflop.laws import Profile
from isoflop.laws.forms.law import letter
from isoflop.report.law_figures.sheet import ACCENT, INK, PAPER, SECOND, SMALL, SOFT, sheet
from isoflop.report.scales import scientific
from isoflop.report.style import label, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.68, 0.95)
TALLEST = 4.0  # times the statistic's 95% limit


def profile_curve(profile: Profile, *, axes: Axes | None = None) -> Axes:
    """Draw the square root of a profile's statistic, its 68% and 95% limits, and the interval between the crossings.

    A parabola is a V here: straight arms say that a symmetric interval would do; an arm that never crosses, that the
    runs set no limit on that side.
    """
    height = np.sqrt(profile.statistic)
    limits = [_limit(profile, level) for level in LEVELS]
    low, high = profile.interval(LEVELS[-1])
    with sheet(axes) as axes:
        near = np.flatnonzero(profile.statistic < TALLEST * limits[-1] ** 2)
        shown = slice(max(near[0] - 1, 0), near[-1] + 2)
        values = profile.values[shown]
        axes.axvspan(max(low, values[0]), min(high, values[-1]), color=SECOND, alpha=0.12, lw=0, zorder=0)
        axes.plot(values, height[shown], color=INK, lw=1.4, zorder=3)
        axes.plot(profile.best, 0, "D", ms=5, mfc=PAPER, mec=ACCENT, mew=1.3, zorder=4, clip_on=False)
        log_axis(axes, "x", [float(values[0]), float(values[-1])], scientific, 0.0)
        axes.set_ylim(0, 2 * limits[-1])
        for level, limit in zip(LEVELS, limits, strict=True):
            axes.axhline(limit, color=SOFT, lw=0.7, ls=(0, (4, 3)), zorder=1)
            beside = {"xycoords": axes.get_yaxis_transform(), "color": SOFT, "size": SMALL}
            label(axes, f"{level:.0%}", (1, limit), (3, 0), **beside)
        axes.set_xlabel(letter(profile.name))
        axes.set_ylabel("√ of the rise of the objective,\nstandard deviations")
        axes.set_title(f"{letter(profile.name)} = {profile.best:.4g}, 95%: {interval_in_words(low, high)}")
    return axes


def _limit(profile: Profile, level: float) -> float:
    """The square root of the statistic's quantile: that of Student's distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(profile.freedom, (1 + level) / 2))


def interval_in_words(low: float, high: float) -> str:
    """An interval of a positive parameter, either end of which may be open (0 or infinite)."""
    if low == 0 and math.isinf(high):
        return "no limit on either side"
    if low == 0:
        return f"at most {high:.4g}"
    return f"at least {low:.4g}" if math.isinf(high) else f"{low:.4g} to {high:.4g}"
