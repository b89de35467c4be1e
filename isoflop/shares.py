"""How sure a share is: Wilson's interval, for whatever counts hits among trials."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""Standard deviations on either side of 95%."""


def wilson(hits: float, trials: float, z: float = Z) -> tuple[float, float]:
    """Wilson's interval (1927) of a share, 95% by default; neither number need be whole. Nothing is known of none."""
    if trials <= 0:
        return 0.0, 1.0
    share, spread = hits / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / trials / 4)
    return (middle - half if hits > 0 else 0.0), (middle + half if hits < trials else 1.0)  # exact at the ends
