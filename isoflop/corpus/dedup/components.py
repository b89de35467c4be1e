"""Connected components of documents, from batches of edges: union-find, many edges at a time.

A parent is always a lower number than its child, so the root of a component is its first document, whatever the
order of the edges. What grows with the corpus is one array of 8 bytes a document, in a file mapped from disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.dedup.codepoints import Int64s

CHUNK = 1 << 20


def mapped(path: Path, size: int) -> Int64s:
    """An array of the numbers 0 … size − 1 in a new file."""
    array: NDArray[np.int64] = np.lib.format.open_memmap(path, mode="w+", dtype=np.int64, shape=(size,))
    for start in range(0, size, CHUNK):
        array[start : start + CHUNK] = np.arange(start, min(size, start + CHUNK))
    return array


class Components:
    """A partition of 0 … size − 1, at first into single numbers."""

    def __init__(self, path: Path, size: int) -> None:
        self._parents = mapped(path, size)

    def find(self, numbers: Int64s) -> Int64s:
        """The first member of each number's component; paths are shortened on the way."""
        roots = self._parents[numbers]
        while True:
            above = self._parents[roots]
            if np.array_equal(above, roots):
                break
            self._parents[roots] = self._parents[above]  # half as long for whoever comes next: chains cost no squares
            roots = above
        self._parents[numbers] = roots
        return np.asarray(roots)

    def union(self, left: Int64s, right: Int64s) -> None:
        """Put the two ends of every edge into one component."""
        while len(left):
            left, right = self.find(left), self.find(right)
            apart = left != right
            left, right = left[apart], right[apart]
            low, high = np.minimum(left, right), np.maximum(left, right)
            np.minimum.at(self._parents, high, low)
