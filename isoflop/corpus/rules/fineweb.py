"""FineWeb's own rules: does the text come in sentences and paragraphs, or in scraps?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from isoflop.corpus.document import Document
from isoflop.corpus.rules.gopher_repetition import duplicate_pieces
from isoflop.corpus.rules.languages import applies
from isoflop.corpus.rules.limits import Limit, within
from isoflop.corpus.rules.text import view
from isoflop.corpus.rules.words import SENTENCE_ENDS
from isoflop.corpus.stage import Stage, Verdict

_DUPLICATE_CHARACTERS = {"code": 0.01, "paper": 0.1}


@dataclass(frozen=True)
class FineWeb(Stage):
    """Penedo et al. 2024 (arXiv 2406.17557), section 3.6; the last rule from the code (datatrove 0.10) alone.

    ``duplicates`` says whose limit on characters in duplicate lines: the paper's 0.1 or the code's 0.01. Lines are
    those that are not blank. Given the same words the verdict is datatrove's, except that a text without any word is
    an error there, and that its list of marks that end a sentence goes beyond Unicode's basic plane.

    The limits were found on English; documents in no language of ``languages`` pass (see ``languages.applies``).
    """

    name: ClassVar[str] = "fineweb"

    min_punctuated_lines: float = 0.12
    short_line: int = 30
    max_short_lines: float = 0.67
    duplicates: Literal["code", "paper"] = "code"
    max_newlines_per_word: float = 0.3
    languages: tuple[str, ...] = ("en", "")

    def judge_one(self, document: Document) -> Verdict:
        """The document, or the first rule that it breaks."""
        return within(document, self._limits(document.text)) if applies(self.languages, document) else document

    def _limits(self, text: str) -> Iterator[Limit]:
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        yield Limit("lines", len(lines), low=1)
        punctuated = sum(line[-1] in SENTENCE_ENDS for line in lines)
        yield Limit("lines that end a sentence", punctuated / len(lines), low=self.min_punctuated_lines)
        short = sum(length <= self.short_line for length in map(len, lines))
        yield Limit("short lines", short / len(lines), high=self.max_short_lines)
        newlines = text.count("\n")
        inside = duplicate_pieces(lines)[1] / (len(text) - newlines)
        yield Limit("characters in duplicate lines", inside, high=_DUPLICATE_CHARACTERS[self.duplicates])
        yield Limit("newlines per word", newlines / len(view(text)), high=self.max_newlines_per_word)
