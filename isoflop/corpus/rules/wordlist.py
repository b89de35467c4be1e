"""Lists that the user brings, one entry a line: of words and phrases, or of domains and addresses.

UTF-8; blank lines and those that begin with ``#`` are comments. Each process reads a list once. None is shipped: they
are other people's, they age, and what counts as a bad word is the user's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from isoflop.corpus.document import CorpusError
from isoflop.corpus.rules.words import is_symbol, words


@lru_cache(maxsize=16)
def entries(path: str) -> frozenset[str]:
    """The entries of a list, in small letters. Raises CorpusError if it cannot be read or holds none."""
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read the list {path} ({error}): give a UTF-8 file of one entry a line.") from error
    found = frozenset(line.strip().lower() for line in lines if line.strip() and not line.startswith("#"))
    if not found:
        raise CorpusError(f"the list {path} holds no entry: write one word, phrase or domain a line.")
    return found


class WordList:
    """Words and phrases that are looked for as whole words, whatever their case.

    An entry is what the word tokenizer makes of it, so that a phrase matches across line ends, and an entry in a script
    without spaces matches wherever its letters stand. One with symbols that are in no word (``s&m``, ``a$$``) is looked
    for as it is spelled: its words alone would be other words.
    """

    def __init__(self, found: frozenset[str]) -> None:
        odd = [entry for entry in sorted(found) if _has_symbols(entry)]
        self._odd = re.compile("|".join(map(_pattern, odd))) if odd else None
        tokenized = [words(entry) for entry in sorted(found.difference(odd))]
        self._words = {entry[0] for entry in tokenized if len(entry) == 1}
        self._phrases = [(entry[0], " ".join(entry), _fenced(entry)) for entry in tokenized if len(entry) > 1]

    def matches(self, text: str) -> Iterator[str]:
        """Every occurrence of an entry: words in the order of the text, then phrases, then those with symbols."""
        lowered = text.lower()
        tokens = words(lowered)
        yield from filter(self._words.__contains__, tokens)
        present = set(tokens)
        phrases = [(phrase, fenced) for first, phrase, fenced in self._phrases if first in present]
        if phrases:
            text = _fenced(tokens)
            for phrase, fenced in phrases:
                yield from [phrase] * text.count(fenced)
        if self._odd:
            yield from self._odd.findall(lowered)


def _has_symbols(entry: str) -> bool:
    tokens = words(entry)
    return "".join(tokens) != "".join(entry.split()) or any(map(is_symbol, tokens))


def _pattern(entry: str) -> str:
    """The entry as it is spelled; a letter or digit at its ends is the end of a word."""
    before = r"(?<!\w)" if entry[0].isalnum() else ""
    after = r"(?!\w)" if entry[-1].isalnum() else ""
    return before + re.escape(entry) + after


def _fenced(tokens: list[str]) -> str:
    """Words between spaces of their own, so that a phrase is found at the ends of words only."""
    return "".join(f" {token} " for token in tokens)


@lru_cache(maxsize=16)
def word_list(path: str) -> WordList:
    """The word list in a file; as ``entries`` in what it raises."""
    return WordList(entries(path))
