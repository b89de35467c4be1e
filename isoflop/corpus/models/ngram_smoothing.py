"""From counts of n-grams to a probability for each, and a weight for each context that hands the rest to shorter ones.

Interpolated Kneser–Ney (Kneser and Ney 1995), modified as by Chen and Goodman (1999, TR-10-98, §3): the highest order
counts how often, the lower orders in how many contexts; one, two and more occurrences have discounts of their own,
estimated from how many n-grams occur once to four times. Stupid backoff (Brants et al. 2007, §4) takes plain ratios
at every order and hands over with a constant. Either way a level is: sorted keys with a value each, sorted contexts
with a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.models.ngram_counts import Counts, add_up, add_up_sorted
from isoflop.keys import UInt64s

Smoothing = Literal["modified_kneser_ney", "kneser_ney", "stupid_backoff"]
Discounts = tuple[float, float, float]

BACKOFF = 0.4
USUAL: Discounts = (0.5, 1.0, 1.5)  # what KenLM falls back on where too little was counted to estimate them


@dataclass(frozen=True)
class Level:
    """N-grams of one length, valued (count − discount) / count of context, and what each context hands on."""

    keys: UInt64s
    values: NDArray[np.float32]
    contexts: UInt64s
    weights: NDArray[np.float32]


def levels(
    keys: UInt64s, counts: Counts, order: int, bits: int, smoothing: Smoothing, given: list[Discounts] | None = None
) -> list[Level]:
    """Levels 1 to ``order`` from the counts of n-grams of the full order, keys ascending.

    ``given`` fixes the discounts of each level instead of estimating them.
    """
    found = []
    for length in range(order, 0, -1):
        if smoothing == "stupid_backoff":
            discounts: Discounts = (0.0, 0.0, 0.0)
        else:
            discounts = given[length - 1] if given else estimated(counts, smoothing)
        found.append(_level(keys, counts, bits, discounts, smoothing == "stupid_backoff"))
        mask = np.uint64((1 << (bits * (length - 1))) - 1)
        passed_on = counts if smoothing == "stupid_backoff" else np.ones_like(counts)
        keys, counts = add_up(keys & mask, passed_on)
    return found[::-1]


def estimated(counts: Counts, smoothing: Smoothing) -> Discounts:
    """Discounts of n-grams that occur once, twice, and more often."""
    n1, n2, n3, n4 = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if not n1 or not n2:
        return USUAL if smoothing == "modified_kneser_ney" else (0.5, 0.5, 0.5)
    base = n1 / (n1 + 2 * n2)
    if smoothing == "kneser_ney":
        return (base, base, base)
    if not n3:
        return USUAL
    found = (1 - 2 * base * n2 / n1, 2 - 3 * base * n3 / n2, 3 - 4 * base * n4 / n3)
    return found if all(0 < d <= i for i, d in enumerate(found, 1)) else USUAL


def _level(keys: UInt64s, counts: Counts, bits: int, discounts: Discounts, backoff: bool) -> Level:
    contexts, totals = add_up_sorted(keys >> np.uint64(bits), counts)
    taken = np.array((0.0, *discounts))[np.minimum(counts, 3)]
    sizes = np.diff(np.append(np.searchsorted(keys >> np.uint64(bits), contexts), len(keys)))
    values = (counts - taken) / np.repeat(totals, sizes)
    weights = np.full(len(contexts), BACKOFF)
    if not backoff and len(keys):
        weights = np.add.reduceat(taken, np.cumsum(sizes) - sizes) / totals
    return Level(keys, values.astype(np.float32), contexts, weights.astype(np.float32))
