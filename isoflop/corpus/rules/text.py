"""A text as the rules see it: its words as numbers, counted once and shared by all rules.

The one pass in Python turns each word into a code that already holds what rules ask of a word (its length, whether it
has a letter), so that everything after it is arithmetic on arrays. Equal codes are equal words, exactly: codes are
handed out by a vocabulary that lives for many documents, since the words of the next document are mostly those of the
last. Codes depend on what was read before and must never leave the process; whatever is computed from them does not.

Memory: 8 bytes a word of the texts that ``view`` still remembers (32 million characters in all), and a vocabulary of
at most the larger of 16 million characters and one document.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.rules.words import has_letter, is_symbol, is_unspaced, words

Codes = NDArray[np.int64]

_VOCABULARY_CHARACTERS = 16 << 20
_REMEMBERED_CHARACTERS = 32 << 20
_LETTER, _SYMBOL, _UNSPACED = 1, 2, 4
_LENGTH_BITS = 28
_LONGEST = (1 << _LENGTH_BITS) - 1


class Vocabulary(dict[str, int]):
    """A code for every word: its number in the order of arrival, its length, and its kind, from high bits to low."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = 0

    def __missing__(self, word: str) -> int:
        self.characters += len(word) + 1
        kind = _LETTER * has_letter(word) | _SYMBOL * is_symbol(word) | _UNSPACED * is_unspaced(word)
        code = self[word] = len(self) << 32 | min(len(word), _LONGEST) << 4 | kind
        return code


class Text:
    """The words of one text."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        found = words(text)
        self.text = text
        self.vocabulary = vocabulary
        self.codes: Codes = np.fromiter(map(vocabulary.__getitem__, found), np.int64, len(found))

    def __len__(self) -> int:
        """How many words there are, symbols included."""
        return len(self.codes)

    @property
    def numbers(self) -> Codes:
        """One number a word, below 2^31; the same number is the same word."""
        return self.codes >> 32

    @property
    def lengths(self) -> Codes:
        """Characters of each word."""
        return self.codes >> 4 & _LONGEST

    @property
    def symbols(self) -> NDArray[np.bool_]:
        """Which words hold neither letter nor digit."""
        return (self.codes & _SYMBOL).astype(np.bool_)

    @property
    def with_letter(self) -> int:
        """How many words hold a letter."""
        return int(np.count_nonzero(self.codes & _LETTER))

    @property
    def unspaced(self) -> bool:
        """Whether most words are single letters of a script that is written without spaces."""
        return 2 * int(np.count_nonzero(self.codes & _UNSPACED)) > len(self.codes)

    def holds(self, word: str) -> bool:
        """Whether ``word`` is one of the words."""
        return word in self.vocabulary and bool((self.codes == self.vocabulary[word]).any())


def view(text: str) -> Text:
    """The words of ``text``, which are remembered for the stages that ask next."""
    if (known := _remembered.get(text)) is not None:
        return known
    global _vocabulary, _held
    if _vocabulary.characters > _VOCABULARY_CHARACTERS:
        _vocabulary = Vocabulary()
    made = _remembered[text] = Text(text, _vocabulary)
    _held += len(text)
    while _held > _REMEMBERED_CHARACTERS and len(_remembered) > 1:
        _held -= len(_remembered.popitem(last=False)[0])
    return made


def forget() -> None:
    """Remember no text any more, as in a new process; for measurements."""
    global _held
    _remembered.clear()
    _held = 0


_vocabulary = Vocabulary()
_remembered: OrderedDict[str, Text] = OrderedDict()
_held = 0
