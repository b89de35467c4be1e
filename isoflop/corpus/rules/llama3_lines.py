"""Llama 3's line rule: lines of repeated content, such as logs and error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.document import Document
from isoflop.corpus.rules.ngrams import covered, repeated
from isoflop.corpus.rules.text import Text, view
from isoflop.corpus.rules.words import words
from isoflop.corpus.stage import Dropped, Stage, Verdict

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class RepeatedLines(Stage):
    """Grattafiori et al. 2024 (arXiv 2407.21783), section 3.1.1: duplicated n-gram coverage, line by line.

    The paper gives neither n nor a limit; these are this project's own. A line goes if more than ``max_coverage`` of
    its characters are in words covered by n-grams that occur ``times`` times or more in the document; runs of digits
    count as the same number, since the lines of a log differ in little else. So a log's lines go although no two are
    equal, which no deduplication of lines can do; all of them do, the first too. Lines of fewer than ``min_words``
    words stay. A document of which nothing else is left goes.
    """

    name: ClassVar[str] = "llama3_lines"

    n: int = 5
    times: int = 4
    max_coverage: float = 0.8
    min_words: int = 8

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"llama3_lines.n must be at least 2, not {self.n}")

    def judge_one(self, document: Document) -> Verdict:
        """The document without such lines, or why nothing of it is left."""
        text = view(_DIGITS.sub("0", document.text))
        *_, grams = repeated(text.numbers, self.n)
        places = grams.places[np.bincount(grams.groups)[grams.groups] >= self.times]
        if not len(places):
            return document
        inside = covered(places, self.n, len(text))
        lines = document.text.split("\n")
        repeats = self._repeats(text, inside)
        kept = [line for line, repeat in zip(lines, repeats, strict=True) if not repeat]
        if len(kept) == len(lines):
            return document
        left = "\n".join(kept)
        if left.strip():
            return document._replace(text=left)
        return Dropped(document, "nothing but repeated lines", f"{len(lines)} lines")

    def _repeats(self, text: Text, inside: NDArray[np.bool_]) -> list[bool]:
        """Of each line, whether it goes; the words of a text are those of its lines."""
        counts = [len(words(line)) for line in text.text.split("\n")]
        ends = np.cumsum(counts)
        all_characters, characters = (
            np.diff(np.concatenate(([0], np.cumsum(lengths)))[ends], prepend=0)
            for lengths in (text.lengths, text.lengths * inside)
        )
        goes = (characters > self.max_coverage * all_characters) & (np.array(counts) >= self.min_words)
        return [bool(one) for one in goes]
