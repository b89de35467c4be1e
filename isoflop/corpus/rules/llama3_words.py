"""Llama 3's counting of dirty words: adult pages that no list of domains knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.rules.text import view
from isoflop.corpus.rules.wordlist import word_list
from isoflop.corpus.stage import Dropped, Stage, Verdict


@dataclass(frozen=True)
class DirtyWords(Stage):
    """Grattafiori et al. 2024 (arXiv 2407.21783), section 3.1.1, which counts words of a list and gives no limit.

    ``words`` is a file of words and phrases, one a line. The limit is this project's own: three words and more than
    one in two hundred, so that a novel's single oath does not cost the novel, which is what C4's rule does
    (``c4.bad_words``).
    """

    name: ClassVar[str] = "llama3_words"
    inputs: ClassVar[tuple[str, ...]] = ("words",)

    words: str
    min_count: int = 3
    max_per_word: float = 0.005

    def prepare(self, folder: Path) -> None:
        """Find out whether the list can be used before hours of work."""
        word_list(self.words)

    def judge_one(self, document: Document) -> Verdict:
        """The document, or how many words of the list it holds."""
        found = list(word_list(self.words).matches(document.text))
        count = len(view(document.text))
        if len(found) < self.min_count or len(found) <= self.max_per_word * count:
            return document
        return Dropped(document, "dirty words", f"{len(found)} in {count} words, the first {found[0]!r}")
