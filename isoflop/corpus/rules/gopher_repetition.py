"""Gopher's repetition rules: does the text say the same thing again and again?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.rules.limits import Limit, within
from isoflop.corpus.rules.ngrams import Array, Counting, Repeated, duplicate_characters, repeated, top_characters
from isoflop.corpus.rules.text import view
from isoflop.corpus.stage import Stage, Verdict


@dataclass(frozen=True)
class GopherRepetition(Stage):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1 and table A1.

    ``top_ngrams`` are for n = 2, 3, 4 and ``duplicate_ngrams`` for n = 5 … 10, both shares of characters. Which
    characters a duplicate n-gram has, the paper leaves open, and public code counts in three ways: see
    ``duplicate_characters`` for the settings of ``counting``. The default is datatrove's, with which FineWeb was
    made; shares are of all characters of the text with it, and of those in words with the other two.

    Given the same words the verdict is datatrove's (with ``counting = "skip"``), but for three things: an n-gram that
    occurs once is no repetition here, while there the first one of a text of a few words is its own top n-gram; there,
    duplicates are compared with their words glued together, so that ``a bc`` repeats ``ab c``; and there the empty
    string before or behind a newline at an end of the text is a line.

    In scripts without spaces a word is a letter, and ten letters are fewer than ten words: there the n-grams are of 2n
    letters.
    """

    name: ClassVar[str] = "gopher_repetition"

    max_duplicate_paragraphs: float = 0.3
    max_duplicate_paragraph_characters: float = 0.2
    max_duplicate_lines: float = 0.3
    max_duplicate_line_characters: float = 0.2
    top_ngrams: tuple[float, float, float] = (0.2, 0.18, 0.16)
    duplicate_ngrams: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)
    counting: Counting = "skip"

    def judge_one(self, document: Document) -> Verdict:
        """The document, or the first rule that it breaks."""
        return within(document, self._limits(document.text))

    def _limits(self, text: str) -> Iterator[Limit]:
        yield Limit("characters", len(text.strip()), low=1)
        paragraphs = [paragraph.lstrip("\n") for paragraph in text.strip().split("\n\n") if paragraph]
        duplicates, inside = duplicate_pieces(paragraphs)
        yield Limit("duplicate paragraphs", duplicates / len(paragraphs), high=self.max_duplicate_paragraphs)
        share = inside / len(text)
        yield Limit("characters in duplicate paragraphs", share, high=self.max_duplicate_paragraph_characters)
        lines = [line for line in text.split("\n") if line]
        duplicates, inside = duplicate_pieces(lines)
        yield Limit("duplicate lines", duplicates / len(lines), high=self.max_duplicate_lines)
        share = inside / len(text)
        yield Limit("characters in duplicate lines", share, high=self.max_duplicate_line_characters)
        yield from self._ngram_limits(text)

    def _ngram_limits(self, text: str) -> Iterator[Limit]:
        seen = view(text)
        lengths = seen.lengths
        step = 2 if seen.unspaced else 1
        all_characters = max(len(text) if self.counting == "skip" else int(lengths.sum()), 1)
        most = dict(enumerate(self.top_ngrams + self.duplicate_ngrams, 2))
        for grams in repeated(seen.numbers, step * max(most)):
            n, rest = divmod(grams.n, step)
            if rest or n not in most:
                continue
            if not len(grams.places) or (n == 5 and self._rare(grams, lengths)):
                return
            if n <= 4:
                share = top_characters(grams, lengths) / len(text)
                yield Limit(f"characters in the top {n}-gram", share, high=most[n])
            else:
                share = duplicate_characters(grams, lengths, self.counting) / all_characters
                yield Limit(f"characters in duplicate {n}-grams", share, high=most[n])

    def _rare(self, fives: Repeated, lengths: Array) -> bool:
        """Whether the words in repeated 5-grams, among which are those of longer ones, are too few for any limit."""
        return duplicate_characters(fives, lengths, "all") <= min(self.duplicate_ngrams) * int(lengths.sum())


def duplicate_pieces(pieces: list[str]) -> tuple[int, int]:
    """How many pieces are the same as an earlier one, and how many characters they have."""
    distinct = set(pieces)
    if len(distinct) == len(pieces):
        return 0, 0
    # A piece is as long as those it equals, so that what is left of the sum is the duplicates'.
    return len(pieces) - len(distinct), sum(map(len, pieces)) - sum(map(len, distinct))
