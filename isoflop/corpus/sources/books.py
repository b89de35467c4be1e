"""The stage ``books``: the book without what a digital library put around it."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict

_LINE = re.MULTILINE | re.IGNORECASE
_START = re.compile(
    r"^[ \t]*\*{3} ?START OF (?:THIS|THE) PROJECT GUTENBERG.*|^.{0,20}\*END ?\*? ?THE SMALL PRINT.*", _LINE
)
_END = re.compile(
    r"^[ \t]*\*{3} ?END OF (?:THIS|THE) PROJECT GUTENBERG.*|^[ \t]*End of (?:the |this )?Project Gutenberg\b.*"
    r"|^[ \t]*(?:START: FULL LICENSE|THE FULL PROJECT GUTENBERG LICENSE).*",
    _LINE,
)
_CREDITS = re.compile(
    r"\s*\[?(?:(?:e-?text |text file |this e-?text was )?(?:produced|prepared|transcribed|scanned) (?:by|from)\b"
    r"|transcriber['’]?s?['’]? notes?\b|credits:|html version by|online distributed proofreading"
    r"|this file was produced from images|https?://www\.(?:pgdp|gutenberg)\.|title:|author:|release date:|language:"
    r"|character set encoding:)",
    re.IGNORECASE,
)
_ILLUSTRATION = re.compile(r"^[ \t]*\[(?:Illustration|Blank Page|Frontispiece)[^\[\]]{0,300}\][ \t]*\n?", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n(?:[ \t\r]*\n)+")
_FRONT = 30
"""Paragraphs of the book before and among which notes of the library are looked for."""


@dataclass(frozen=True)
class Books(Stage):
    """Remove Project Gutenberg's header, footer and licence, transcribers' credits, and marks of illustrations.

    LLaMA-1 (arXiv 2302.13971, §2.1) took public-domain books of Project Gutenberg; that what the library wrote around
    them is removed follows PG-19 (Rae et al. 2019, arXiv 1911.05507, §4). Books that overlap by more than nine tenths
    are the business of the deduplicating stages.

    Attributes:
        shortest: Characters; what is left shorter goes.
        strip_illustrations: Whether lines such as "[Illustration: A ship]" go.
    """

    name: ClassVar[str] = "books"

    shortest: int = 1
    strip_illustrations: bool = True

    def judge_one(self, document: Document) -> Verdict:
        """The book itself; dropped if nothing is left."""
        text = _between_marks(document.text)
        if self.strip_illustrations:
            text = _ILLUSTRATION.sub("", text)
        text = _without_credits(text.strip("\r\n").rstrip())
        if len(text.strip()) < max(1, self.shortest):
            return Dropped(document, "nothing but the library's own text", f"{len(text)} characters")
        return document if text.strip() == document.text.strip() else document._replace(text=text)


def _between_marks(text: str) -> str:
    """The longest stretch behind a mark of a beginning, up to the next mark of any kind; without one, all to the end.

    Some books have the library's small print, and so a beginning, behind them.
    """
    starts = list(_START.finditer(text))
    marks = [*sorted(mark.start() for mark in (*starts, *_END.finditer(text))), len(text)]
    stretches = [text[mark.end() : marks[bisect_left(marks, mark.end())]] for mark in starts]
    return max(filter(str.strip, stretches), key=len, default=text[: marks[0]])


def _without_credits(text: str) -> str:
    """``text`` without those of its first paragraphs in which the library speaks."""
    parts: list[str] = []
    position = 0
    while position < len(text) and len(parts) < _FRONT:
        blank = _PARAGRAPH.search(text, position)
        end = blank.end() if blank else len(text)
        if not _CREDITS.match(text, position, end):
            parts.append(text[position:end])
        position = end
    return "".join([*parts, text[position:]]).rstrip()
