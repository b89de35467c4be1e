"""MinHash sketches of sets, in one pass over a set instead of one for each hash function.

A sketch has ``size`` places, and two sets agree in a place with a probability of their Jaccard similarity, places
nearly independently: what ``size`` random permutations would give (Broder 1997) for the price of about
max(n, size·ln size) hashes for n shingles instead of n·size. This is fast similarity sketching (Dahlgaard, Knudsen and
Thorup 2017, arXiv 1704.04370): in round after round every shingle is thrown at a random place, and each place keeps
the least value of the earliest round that reached it; places that no round reached are filled by an ordinary MinHash
of their own. Unlike one-permutation hashing it copies no place from another, so bands of small sets stay independent.
"""

from __future__ import annotations

import numpy as np

from isoflop.corpus.dedup.codepoints import Int64s, UInt32s
from isoflop.keys import UInt64s, derive_key, mix

EMPTY = np.uint64(2**64 - 1)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def rounds(size: int) -> int:
    """How many rounds there are, which is part of what a sketch means, so it depends on nothing else."""
    return 2 + size // 16


def sketches(shingles: UInt64s, sets: Int64s, count: int, size: int, seed: int = 0) -> UInt32s:
    """The sketches (count, size) of ``count`` sets.

    ``shingles`` holds 64-bit hashes and ``sets`` the number of the set of each, ascending; repeats in a set do not
    matter. The row of a set without shingles is all ones and means nothing.
    """
    values = np.full(count * size, EMPTY, np.uint64)
    hashes, base = shingles, sets * size
    wanted = np.bincount(sets, minlength=count) > 0
    for turn in range(rounds(size)):
        hashed = mix(hashes ^ np.uint64(derive_key(seed, "round", turn)))
        place = base + ((hashed >> HALF) * np.uint64(size) >> HALF).astype(np.int64)
        np.minimum.at(values, place, np.uint64(turn << 32) | hashed & LOW)
        unfilled = wanted & (values.reshape(count, size) == EMPTY).any(axis=1)
        stays = unfilled[base // size]
        hashes, base = hashes[stays], base[stays]
        if not len(hashes):
            break
    bounds = np.searchsorted(base, np.arange(count + 1) * size)
    table = values.reshape(count, size)
    for row in np.unique(base // size):
        _fill(table[row], hashes[bounds[row] : bounds[row + 1]], seed)
    return (table & LOW).astype(np.uint32)


def _fill(places: UInt64s, shingles: UInt64s, seed: int) -> None:
    """Fill the places that are still empty with a MinHash each, a few at a time."""
    empty = np.flatnonzero(places == EMPTY)
    at_once = max(1, (1 << 18) // len(shingles))
    for start in range(0, len(empty), at_once):
        some = empty[start : start + at_once]
        keys = mix(some.astype(np.uint64) ^ np.uint64(derive_key(seed, "place")))
        places[some] = (mix(shingles[None, :] ^ keys[:, None]) & LOW).min(axis=1)
