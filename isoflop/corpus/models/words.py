"""Text as an array of word hashes: the one tokenization that all small models here share.

A word is a run of letters, digits and marks; every symbol is a word of its own, and so is every character of a script
that is written without spaces (Han, kana, Thai, Lao, Khmer, Burmese). Case is folded character by character and all
digits are 0, as CCNet does before its language model (arXiv 1911.00359, §3.3), so that numbers do not fill a
vocabulary. White space and control characters separate and vanish.

Everything is array arithmetic over code points; ``benchmarks/text_models.py`` measures it. Left out: Unicode
normalization and stemming. This is no tokenizer for rules that count words: those pin their own.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop.keys import UInt64s, mix

SPACE, LETTER, ALONE = 0, 1, 2
TABLE = 1 << 16
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han for compatibility
)
# A word's hash is the sum of its characters' values times powers of an odd number, so that differences of one running
# sum give all words at once, as in Rabin and Karp's search. Longer texts are cut at white space, so that the table
# ends.
LONGEST = 1 << 20
POWER = 0x9E3779B97F4A7C15
INVERSE = pow(POWER, -1, 1 << 64)


class Words(NamedTuple):
    """The words of a text: 64-bit hashes, and where each stands, in characters; all of shape (words,).

    ``values`` has a hash of each folded character of the text, shape (characters,).
    """

    hashes: UInt64s
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    values: UInt64s


@lru_cache(maxsize=1)
def tables() -> tuple[NDArray[np.uint8], UInt64s]:
    """For every code point of the basic plane its kind, and a hash of the character that it is folded to."""
    kinds = np.empty(TABLE, np.uint8)
    folded = np.arange(TABLE, dtype=np.uint64)
    for code in range(TABLE):
        character = chr(code)
        category = unicodedata.category(character)
        kinds[code] = SPACE if category[0] in "ZC" else LETTER if category[0] in "LNM" else ALONE
        lower = character.lower()
        folded[code] = ord("0") if category == "Nd" else ord(lower) if len(lower) == 1 else code
    for first, last in UNSPACED:
        block = kinds[first : last + 1]
        block[block == LETTER] = ALONE
    kinds[-1] = ALONE  # no character is U+FFFF: it stands for everything above the basic plane
    return kinds, mix(folded)


@lru_cache(maxsize=4)
def powers(base: int, count: int) -> UInt64s:
    """1, base, base², … modulo 2**64."""
    table = np.full(count, base, np.uint64)
    table[0] = 1
    return np.cumprod(table)


def words(text: str) -> Words:
    """The words of ``text``. Equal words have equal hashes in every process and on every platform."""
    if len(text) <= LONGEST:
        return _words(text)
    parts, start = [], 0
    while start < len(text):
        end = min(start + LONGEST, len(text))
        if end < len(text):
            end = max(text.rfind(" ", start, end), text.rfind("\n", start, end)) + 1 or end
        part = _words(text[start:end])
        parts.append(part._replace(starts=part.starts + start, ends=part.ends + start))
        start = end
    return Words(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _words(text: str) -> Words:
    kind_of, value_of = tables()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    far = codes >= TABLE
    near = np.minimum(codes, TABLE - 1)
    kinds, values = kind_of[near], value_of[near]
    if far.any():
        values[far] = mix(codes[far].astype(np.uint64))
    letter, alone = kinds == LETTER, kinds == ALONE
    begins, finishes = letter.copy(), letter.copy()
    begins[1:] &= ~letter[:-1]
    finishes[:-1] &= ~letter[1:]
    starts, ends = np.flatnonzero(begins | alone), np.flatnonzero(finishes | alone) + 1
    running = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(values * powers(POWER, LONGEST)[: len(codes)], out=running[1:])
    hashes = (running[ends] - running[starts]) * powers(INVERSE, LONGEST)[starts]
    return Words(mix(hashes), starts, ends, values)
