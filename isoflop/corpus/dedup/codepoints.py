"""Texts as arrays of code points, many at a time, so that numpy may cut and hash them.

Words are runs of letters, digits, marks and underscores, compared in lower case; in scripts that put no blank between
words (Chinese, Japanese, Thai and their kind) every character is a word, since otherwise a sentence would be one.
Lower case is taken character by character, so places in the array are places in the text. Left out: folding accents.

Hashes are polynomials of the code points modulo 2**64, from running sums: a span's hash costs two look-ups, whatever
its length, and a text has the same wherever it stands. A batch takes about 60 bytes a character while it is hashed, so
the longest text of a corpus sets the memory that is needed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isoflop.keys import UInt64s, mix

UInt32s = NDArray[np.uint32]
Int64s = NDArray[np.int64]

BASE = 0xD1342543DE82EF95
INVERSE = pow(BASE, -1, 1 << 64)
TABLE = 0x20000
"""Code points from here on are ideographs, nearly all; the tables treat them as one."""
UNSPACED = (
    *((0x0E00, 0x0F00), (0x0F00, 0x10A0), (0x1780, 0x1800), (0x3040, 0x3100), (0x3400, 0xA000), (0xF900, 0xFB00)),
    (TABLE - 1, TABLE),
)
"""Thai and Lao, Tibetan and Burmese, Khmer, kana, ideographs."""
APART, IN_WORD, WORD = 0, 1, 2


@dataclass(frozen=True)
class Batch:
    """Several texts one after the other.

    Attributes:
        first: The number of the first text.
        points: All code points, with zeros between the texts, and behind the last.
        starts: Where each text starts.
        ends: Where each text ends.
    """

    first: int
    points: UInt32s
    starts: Int64s
    ends: Int64s


def batches(
    texts: Sequence[str], characters: int = 1 << 19, texts_at_most: int = 4096, gap: int = 1
) -> Iterator[Batch]:
    """The texts in batches of about so many characters, ``gap`` zeros behind each text; a longer text is alone."""
    first = 0
    while first < len(texts):
        last, size = first, 0
        while last < len(texts) and last - first < texts_at_most and (size < characters or last == first):
            size += len(texts[last]) + gap
            last += 1
        chosen = texts[first:last]
        joined = ("\0" * gap).join([*chosen, ""])
        lengths = np.array([len(text) for text in chosen], np.int64)
        ends = np.cumsum(lengths + gap) - gap
        yield Batch(first, np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4"), ends - lengths, ends)
        first = last


def lowered(points: UInt32s) -> UInt32s:
    """Code points in lower case, one for one."""
    lower = _tables()[1]
    if points.max(initial=0) < TABLE:
        return lower[points]
    return np.where(points < TABLE, lower[np.minimum(points, TABLE - 1)], points)


def words(points: UInt32s) -> tuple[Int64s, Int64s]:
    """Where each word starts and ends; the last code point must not be in a word, as that of a batch is not."""
    kind = _tables()[0][np.minimum(points, TABLE - 1)]
    turns = np.ones(len(kind), bool)
    np.not_equal(kind[1:], kind[:-1], out=turns[1:])
    turns |= kind == WORD
    turns[1:] |= kind[:-1] == WORD
    filled = kind != APART
    return np.flatnonzero(turns & filled), np.flatnonzero(turns[1:] & filled[:-1]) + 1


class Hashes:
    """The hash of any span of an array of code points."""

    def __init__(self, points: UInt32s) -> None:
        powers, self._inverses = _powers(1 << max(20, int(len(points)).bit_length()))
        self._sums = np.zeros(len(points) + 1, np.uint64)
        np.cumsum(points * powers[: len(points)], out=self._sums[1:])

    def spans(self, starts: Int64s, ends: Int64s) -> UInt64s:
        """The hashes of the spans, equal for equal spans and unrelated for others."""
        return mix((self._sums[ends] - self._sums[starts]) * self._inverses[starts])

    def grams(self, length: int) -> UInt64s:
        """The hashes of all spans of one length."""
        if len(self._sums) <= length:
            return np.zeros(0, np.uint64)
        sums = self._sums[length:] - self._sums[:-length]
        return mix(sums * self._inverses[: len(sums)])


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[UInt64s, UInt64s]:
    """Powers 0 … size − 1 of the base and of its inverse, modulo 2**64."""
    powers = np.repeat(np.array([[BASE], [INVERSE]], np.uint64), size, axis=1)
    powers[:, 0] = 1
    np.multiply.accumulate(powers, axis=1, out=powers)
    return powers[0], powers[1]


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.uint8], UInt32s]:
    """What each code point is to a word, and its lower case."""
    kind = np.zeros(TABLE, np.uint8)
    lower = np.arange(TABLE, dtype=np.uint32)
    for point in range(TABLE):
        character = chr(point)
        if character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M":
            kind[point] = IN_WORD
        if len(small := character.lower()) == 1:
            lower[point] = ord(small)
    for low, high in UNSPACED:
        kind[low:high] *= WORD
    kind[TABLE - 1] = WORD
    return kind, lower
