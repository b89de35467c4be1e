"""Windows of a document as rows of hashed word n-grams: what the linear classifiers see.

A row stands for ``window`` consecutive words: their hashes and those of their pairs, each reduced to one of 2**bits
columns of a weight table (the hashing trick, arXiv 0902.2206; fastText does the same with buckets). Every full window
has the same number of entries, so a classifier trained on full windows alone cannot learn how long documents are.
That is the trap into which RedPajama's quality classifier fell: its positives had a minimum length and its negatives
none.

A document is seen through at most ``windows`` windows spread evenly over it, which bounds the cost of a book. One
shorter than a window gives a single row, filled up with the column ``2**bits`` whose weight is zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.models.words import words
from isoflop.keys import UInt64s, mix

Rows = NDArray[np.uint32]

PAIR = np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True)
class Features:
    """How text becomes rows: the size of the weight table, the words of a window, the windows of a document."""

    bits: int = 20
    window: int = 128
    windows: int = 4

    def __post_init__(self) -> None:
        if not 8 <= self.bits <= 30:
            raise ValueError(f"features.bits must lie between 8 and 30, not {self.bits}")
        if self.window < 2 or self.windows < 1:
            raise ValueError("features.window must be at least 2 words, and features.windows at least 1")

    @property
    def columns(self) -> int:
        """Columns of the weight table, without the empty one."""
        return 1 << self.bits

    @property
    def entries(self) -> int:
        """Entries of a full row."""
        return 2 * self.window - 1


def rows(text: str, features: Features) -> Rows:
    """The rows of a text, shape (windows, entries): none of them if it has no word."""
    hashes = words(text).hashes
    if not len(hashes):
        return np.empty((0, features.entries), np.uint32)
    if len(hashes) < features.window:
        row = np.full((1, features.entries), features.columns, np.uint32)
        row[0, : len(hashes)] = hashes & np.uint64(features.columns - 1)
        row[0, features.window : features.window + len(hashes) - 1] = pairs(hashes) & np.uint64(features.columns - 1)
        return row
    count = min(features.windows, len(hashes) // features.window)
    starts = (
        np.linspace(0, len(hashes) - features.window, count).astype(np.int64) if count > 1 else np.zeros(1, np.int64)
    )
    inside = hashes[starts[:, None] + np.arange(features.window)]
    both = np.concatenate([inside, pairs(inside)], axis=1)
    return (both & np.uint64(features.columns - 1)).astype(np.uint32)


def pairs(hashes: UInt64s) -> UInt64s:
    """Hashes of the pairs of neighbours along the last axis, one fewer than there are words."""
    return mix(hashes[..., :-1] * PAIR + hashes[..., 1:])


def full(table: Rows, features: Features) -> NDArray[np.bool_]:
    """Which rows are full windows, shape (rows,)."""
    return table[:, features.window - 1] < features.columns
