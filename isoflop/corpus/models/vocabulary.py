"""The words that a language model knows by number; every other word is spelled in characters, so no text is unknown.

Numbers 0, 1 and 2 are the beginning of a text, its end, and a character never seen. Then come the characters of the
training text that occur often enough, then its commonest words, ties by hash, so that the same text gives the same
vocabulary. Counting costs 16 bytes per distinct word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.models.ngram_counts import add_up
from isoflop.corpus.models.words import words
from isoflop.keys import UInt64s, keyed

BEGIN, END, UNKNOWN = 0, 1, 2
RESERVED = 3
MOST_CHARACTERS = 8192
SPELLED = 0x5EC7B1D2  # the key under which a character hashes, so that it is not the word of the same letter


@dataclass(frozen=True)
class Vocabulary:
    """Hashes of words and characters, ascending, and the number of each; both of shape (size − 3,)."""

    hashes: UInt64s
    numbers: NDArray[np.uint32]

    @property
    def size(self) -> int:
        """How many numbers there are, the reserved ones included."""
        return len(self.hashes) + RESERVED

    def encode(self, text: str) -> tuple[UInt64s, int]:
        """The numbers of a text with its end, and how many words it has, spelled ones counted once."""
        found = words(text)
        numbers, known = self._look_up(found.hashes)
        lengths = np.where(known, 1, found.ends - found.starts)
        starts = np.cumsum(lengths) - lengths
        out = np.full(int(lengths.sum()) + 1, END, np.uint64)
        out[starts[known]] = numbers[known]
        if not known.all():
            spelled = np.repeat(~known, lengths)
            within = np.arange(len(spelled)) - np.repeat(starts, lengths)
            at = (np.repeat(found.starts, lengths) + within)[spelled]
            letters, seen = self._look_up(keyed(found.values[at], SPELLED))
            out[:-1][spelled] = np.where(seen, letters, UNKNOWN)
        return out, len(found.hashes)

    def _look_up(self, hashes: UInt64s) -> tuple[UInt64s, NDArray[np.bool_]]:
        if not len(self.hashes):
            return np.zeros(len(hashes), np.uint64), np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return self.numbers[at].astype(np.uint64), self.hashes[at] == hashes


def build(texts: Iterable[str], size: int, fewest: int = 2) -> Vocabulary:
    """At most ``size`` numbers, for the characters and words of ``texts`` that occur ``fewest`` times or more."""
    totals = {kind: (np.empty(0, np.uint64), np.empty(0, np.int64)) for kind in ("characters", "words")}
    for block in _blocks(texts):
        for kind, hashes in block.items():
            new, counts = np.unique(hashes, return_counts=True)
            old = totals[kind]
            totals[kind] = add_up(np.concatenate([old[0], new]), np.concatenate([old[1], counts]))
    room = size - RESERVED
    characters = _commonest(*totals["characters"], min(room, MOST_CHARACTERS), fewest)
    chosen = np.concatenate([characters, _commonest(*totals["words"], room - len(characters), fewest)])
    order = np.argsort(chosen)
    return Vocabulary(chosen[order], (order + RESERVED).astype(np.uint32))


def _blocks(texts: Iterable[str], characters: int = 1 << 22) -> Iterable[dict[str, UInt64s]]:
    """Hashes of the characters in words, and of the words, of a few million characters at a time."""
    held: list[tuple[UInt64s, UInt64s]] = []
    length = 0

    def block() -> dict[str, UInt64s]:
        letters, hashes = (np.concatenate(arrays) for arrays in zip(*held, strict=True))
        return {"characters": keyed(letters, SPELLED), "words": hashes}

    for text in texts:
        found = words(text)
        inside = np.zeros(len(found.values) + 1, np.int8)
        np.add.at(inside, found.starts, 1)
        np.add.at(inside, found.ends, -1)
        held.append((found.values[np.cumsum(inside[:-1]) > 0], found.hashes))
        length += len(text)
        if length >= characters:
            yield block()
            held, length = [], 0
    if held:
        yield block()


def _commonest(hashes: UInt64s, counts: NDArray[np.int64], most: int, fewest: int) -> UInt64s:
    kept = np.flatnonzero(counts >= fewest)
    order = np.lexsort((hashes[kept], -counts[kept]))
    return hashes[kept[order[: max(most, 0)]]]
