"""Word n-grams as 64-bit hashes, for a batch of texts at once.

A text of fewer than n words has one shingle, of all its words; a text without a word has none, and nothing can be said
to be near it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isoflop.corpus.dedup.codepoints import Batch, Hashes, Int64s, lowered, words
from isoflop.keys import UInt64s, mix

STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Words:
    """The words of a batch.

    Attributes:
        hashes: One hash a word, in lower case.
        starts: Where each word starts in the batch.
        ends: Where it ends.
        texts: The number of its text within the batch.
        bounds: Text i has the words ``bounds[i]`` … ``bounds[i + 1]`` − 1.
    """

    hashes: UInt64s
    starts: Int64s
    ends: Int64s
    texts: Int64s
    bounds: Int64s


def words_of(batch: Batch) -> Words:
    """Cut a batch into words and hash each."""
    starts, ends = words(batch.points)
    hashes = Hashes(lowered(batch.points)).spans(starts, ends)
    bounds = np.append(np.searchsorted(starts, batch.starts), len(starts))
    texts = np.repeat(np.arange(len(batch.starts)), np.diff(bounds))
    return Words(hashes, starts, ends, texts, bounds)


def grams(found: Words, n: int) -> tuple[UInt64s, Int64s]:
    """The hash of every run of n words within one text, and the number of the word with which it begins."""
    count = max(0, len(found.hashes) - n + 1)
    inside = np.flatnonzero(found.texts[:count] == found.texts[n - 1 :][:count])
    total = np.zeros(count, np.uint64)
    for i in range(n):
        total = total * STEP + found.hashes[i : i + count]
    return mix(total[inside]), inside


def shingles(batch: Batch, n: int) -> tuple[UInt64s, Int64s]:
    """The shingles of each text and the number of the text within the batch, text by text; repeats are kept."""
    found = words_of(batch)
    hashes, at = grams(found, n)
    length = np.diff(found.bounds)
    short = np.flatnonzero((length > 0) & (length < n))
    if not len(short):
        return hashes, found.texts[at]
    whole = np.array([_folded(found.hashes[found.bounds[i] : found.bounds[i + 1]]) for i in short], np.uint64)
    texts = np.concatenate([found.texts[at], short])
    order = np.argsort(texts, kind="stable")
    return np.concatenate([hashes, mix(whole)])[order], texts[order]


def _folded(hashes: UInt64s) -> int:
    """The polynomial of a short text's words, with their number, since that is what sets it apart."""
    total = len(hashes)
    for value in hashes.tolist():
        total = (total * int(STEP) + value) & (1 << 64) - 1
    return total
