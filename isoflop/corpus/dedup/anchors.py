"""Places in a text that its own characters pick: the same words pick the same places, whatever stands around them.

Winnowing (Schleimer, Wilkerson and Aiken 2003): of the hashes of all q-grams, those are anchors that are the least of
some w in a row, so every w q-grams hold one. Of equal least ones all are anchors here, which needs no tie-breaking and
makes the choice a morphological closing: a hash that equals the largest of the least ones around it.
"""

from __future__ import annotations

import numpy as np

from isoflop.corpus.dedup.codepoints import Batch, Hashes, Int64s


def anchors(batch: Batch, hashes: Hashes, q: int, window: int) -> Int64s:
    """The anchors of a batch, as places in it; the gaps behind its texts must be at least ``window`` + q long."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    values = (hashes.grams(q) >> np.uint64(32)).astype(np.float64)
    inside = np.zeros(len(values) + 1, np.int64)
    longer = batch.ends - batch.starts >= q
    np.add.at(inside, batch.starts[longer], 1)
    np.add.at(inside, batch.ends[longer] - q + 1, -1)
    real = np.cumsum(inside)[:-1] > 0
    values[~real] = np.inf
    # A filter's window of i is i … i + w − 1 for the least and i − w + 1 … i for the largest of them.
    least = minimum_filter1d(values, window, mode="constant", cval=np.inf, origin=-(window // 2))
    least[~real] = -1.0
    least[len(least) - window + 1 :] = -1.0
    least[: len(least) - window + 1][~real[window - 1 :]] = -1.0  # a window that is not all in one text does not count
    largest = maximum_filter1d(least, window, mode="constant", cval=-1.0, origin=(window - 1) // 2)
    return np.flatnonzero(real & (values == largest))
