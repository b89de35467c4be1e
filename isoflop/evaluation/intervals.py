"""How sure a figure is: 95% intervals of shares and means, and of the difference of two models on the same items.

Shares are Wilson's (1927); where items share a context their number is reduced to what it would be if they did not, by
the ratio of the clustered variance to the plain one (Korn & Graubard 1998; Miller 2024, arXiv 2411.00640, says why
it matters for evaluations). The difference of two shares on the same items is Newcombe's tenth method (1998, Statistics
in Medicine 17:2635), which has an interval where no item tells the two apart; its p-value is McNemar's exact one. Means
of anything else are resampled over clusters, keyed so that they are the same every time.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop import shares
from isoflop.keys import derive_key

Floats = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Figure:
    """A measured value, its 95% interval, and the items that it is of."""

    value: float
    low: float
    high: float
    count: int

    def scaled(self, factor: float) -> Figure:
        """In another unit."""
        return Figure(self.value * factor, self.low * factor, self.high * factor, self.count)


@dataclass(frozen=True)
class Difference:
    """The second model's figure less the first's, on the same items; ``p`` is McNemar's exact one, of shares alone."""

    figure: Figure
    p: float | None = None


def wilson(share: float, count: float) -> tuple[float, float]:
    """The interval of a share of ``count`` items, which need not be a whole number."""
    return shares.wilson(share * count, count)


def share(outcomes: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Figure:
    """The share of items that came out true (1, or in part); items of equal ``clusters`` are not independent."""
    hits = np.asarray(outcomes, dtype=np.float64)
    if not hits.size:
        return Figure(math.nan, 0.0, 1.0, 0)
    mean = float(hits.mean())
    return Figure(mean, *wilson(mean, effective(hits, clusters)), len(hits))


def effective(values: Floats, clusters: Sequence[Hashable] | None) -> float:
    """How many independent items would know a share as well as these, at most as many as there are."""
    if clusters is None:
        return float(len(values))
    numbers = numbered(clusters)
    deviations = np.bincount(numbers, values - values.mean())
    plain = len(values) * float(values.mean() * (1 - values.mean()))
    if plain == 0:
        return float(numbers.max() + 1)  # all alike: items of a cluster may well be one
    return min(1.0, plain / max(1e-300, float((deviations**2).sum()))) * len(values)


def mean(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Figure:
    """The mean, its interval from resampled clusters; of less than two clusters nothing is known of it."""
    return ratio(values, [1.0] * len(values), clusters)


def ratio(above: Sequence[float], below: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Figure:
    """Σ above / Σ below, such as nats over tokens of documents, its interval from resampled clusters."""
    if not len(above):
        return Figure(math.nan, -math.inf, math.inf, 0)
    numbers = numbered(range(len(above)) if clusters is None else clusters)
    tops, bottoms = np.bincount(numbers, np.asarray(above, float)), np.bincount(numbers, np.asarray(below, float))
    value = float(tops.sum() / bottoms.sum())
    if len(tops) < 2:
        return Figure(value, -math.inf, math.inf, len(above))
    generator = np.random.default_rng(derive_key(0, "resampled figures"))
    weights = generator.multinomial(len(tops), np.full(len(tops), 1 / len(tops)), DRAWS)
    low, high = np.quantile((weights @ tops) / np.maximum(weights @ bottoms, 1e-300), (0.025, 0.975))
    return Figure(value, float(low), float(high), len(above))


def difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Difference:
    """How much better or worse the second model did than the first, item by item.

    Raises ValueError where they were not asked the same number of items.
    """
    if len(first) != len(second):
        raise ValueError(f"models are compared on the same items, not on {len(first):,} and {len(second):,}")
    a, b = np.asarray(first, float), np.asarray(second, float)
    shares = set(np.unique(np.concatenate((a, b))).tolist()) <= {0.0, 1.0}
    p = mcnemar(int((a > b).sum()), int((b > a).sum())) if shares else None
    if not shares or clusters is not None:
        return Difference(mean((b - a).tolist(), clusters), p)
    return Difference(newcombe(a, b), p)


def mcnemar(lost: int, won: int) -> float:
    """The chance of so uneven a split of the items that only one of two models has right, if both were equally good."""
    from scipy.stats import binomtest

    return float(binomtest(won, lost + won).pvalue) if lost + won else 1.0


def newcombe(first: Floats, second: Floats) -> Figure:
    """The interval of the difference of two shares of the same items, from both shares' own and their correlation."""
    count = len(first)
    if not count:
        return Figure(math.nan, -1.0, 1.0, 0)
    p, q = float(second.mean()), float(first.mean())
    (low_p, high_p), (low_q, high_q) = wilson(p, count), wilson(q, count)
    both, neither = float((first * second).sum()), float(((1 - first) * (1 - second)).sum())
    product = both * neither - float(((1 - first) * second).sum()) * float((first * (1 - second)).sum())
    margins = math.sqrt(p * (1 - p) * q * (1 - q)) * count**2
    if product > 0:  # Newcombe's correction for continuity, of positive correlations alone
        product = max(0.0, product - count / 2)
    correlation = product / margins if margins else 0.0
    down = (p - low_p) ** 2 - 2 * correlation * (p - low_p) * (high_q - q) + (high_q - q) ** 2
    up = (high_p - p) ** 2 - 2 * correlation * (high_p - p) * (q - low_q) + (q - low_q) ** 2
    return Figure(p - q, p - q - math.sqrt(max(0.0, down)), p - q + math.sqrt(max(0.0, up)), count)


def numbered(clusters: Sequence[Hashable]) -> NDArray[np.int64]:
    """Clusters as numbers from 0, in order of appearance."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(cluster, len(known)) for cluster in clusters], dtype=np.int64)
