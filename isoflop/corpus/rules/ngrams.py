"""Repeated n-grams of a sequence of words, exactly and for all n at once.

An n-gram occurs twice only if both (n − 1)-grams in it do. So each n looks at the places that are left from n − 1
alone: two neighbours' group numbers are the key, equal keys are equal n-grams, and no hash can be mistaken. In pages
of books and documentation a quarter of the 2-grams, a tenth of the 3-grams and 4% of the 5-grams are left, so that
most of the cost is one sort of the 2-grams.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]
Counting = Literal["skip", "repeats", "all"]


class Repeated(NamedTuple):
    """The n-grams that occur more than once: where each begins, in order, and which of them are the same."""

    n: int
    places: Array
    groups: Array


def repeated(numbers: Array, longest: int) -> Iterator[Repeated]:
    """The repeated n-grams of ``numbers`` (not negative, below 2^31) for n = 2 … ``longest``."""
    places, groups = np.arange(len(numbers)), numbers
    for n in range(2, longest + 1):
        first = np.flatnonzero(places[1:] == places[:-1] + 1)
        keys = groups[first] << 32 | groups[first + 1]
        kept, groups = _regroup(keys)
        places = places[first[kept]]
        yield Repeated(n, places, groups)


def _regroup(keys: Array) -> tuple[Array, Array]:
    """The indices of keys that occur more than once, ascending, and a number below ``len(keys)`` for each such key."""
    order = np.argsort(keys)
    ordered = keys[order]
    same = np.zeros(len(keys) + 1, bool)
    np.equal(ordered[1:], ordered[:-1], out=same[1:-1])
    member = np.empty(len(keys), bool)
    member[order] = same[:-1] | same[1:]
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(~same[:-1]) - 1
    kept = np.flatnonzero(member)
    return kept, numbers[kept]


def top_characters(grams: Repeated, lengths: Array) -> int:
    """Characters in all occurrences of the most frequent n-gram, spaces between its words included; 0 if none repeats.

    Of several equally frequent ones it is the one that comes first.
    """
    if not len(grams.places):
        return 0
    counts = np.bincount(grams.groups)
    first = int(np.argmax(counts[grams.groups] == counts.max()))
    place = grams.places[first]
    return int(counts.max()) * (int(lengths[place : place + grams.n].sum()) + grams.n - 1)


def duplicate_characters(grams: Repeated, lengths: Array, counting: Counting) -> int:
    """Characters of words in duplicated n-grams.

    ``"skip"`` reads from left to right, counts an n-gram that was met before, and goes on behind it (datatrove).
    ``"repeats"`` counts every word inside an occurrence that is not the first, once (RedPajama 2).
    ``"all"`` counts the words of first occurrences too (Dolma; Gopher's own wording leaves both open).
    """
    if not len(grams.places):
        return 0
    if counting == "skip":
        return _skipping(grams, np.concatenate(([0], np.cumsum(lengths))))
    places = grams.places
    if counting == "repeats":
        _, firsts = np.unique(grams.groups, return_index=True)
        places = np.delete(places, firsts)
    return int(lengths[covered(places, grams.n, len(lengths))].sum())


def covered(places: Array, n: int, words: int) -> NDArray[np.bool_]:
    """Which of ``words`` words are inside the n-grams that begin at ``places``."""
    begin = np.bincount(places, minlength=words + 1)
    end = np.bincount(places + n, minlength=words + 1)
    return np.cumsum(begin - end)[:words] > 0


def _skipping(grams: Repeated, ends: Array) -> int:
    met: set[int] = set()
    characters = free = 0
    for place, group in zip(grams.places.tolist(), grams.groups.tolist(), strict=True):
        if place < free:
            continue
        if group in met:
            free = place + grams.n
            characters += int(ends[free] - ends[place])
        else:
            met.add(group)
    return characters
