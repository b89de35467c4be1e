"""Gopher's quality rules: is this running text at all?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.rules.languages import applies
from isoflop.corpus.rules.limits import Limit, within
from isoflop.corpus.rules.text import view
from isoflop.corpus.stage import Stage, Verdict


@dataclass(frozen=True)
class GopherQuality(Stage):
    """Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, with datatrove 0.10's reading of what the paper leaves open.

    Words that are counted and measured are those with a letter or digit; the other ratios are per word of any kind.
    Lines include blank ones. Given the same words the verdict is datatrove's, but for two things: there, symbols are
    those of a fixed list, which lacks ``§``, ``©`` and ``•``; and a text without any word is an error.

    The mean length says nothing of a script without spaces, where a word is a letter: it is not asked there. Stop words
    are English, in small letters, and asked only of documents in ``stop_word_languages`` (see ``languages.applies``).
    """

    name: ClassVar[str] = "gopher_quality"

    min_words: int = 50
    max_words: int = 100_000
    min_mean_length: float = 3
    max_mean_length: float = 10
    max_hashes: float = 0.1
    max_ellipses: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_with_letter: float = 0.8
    min_stop_words: int = 2
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    stop_word_languages: tuple[str, ...] = ("en", "")

    def judge_one(self, document: Document) -> Verdict:
        """The document, or the first rule that it breaks."""
        return within(document, self._limits(document))

    def _limits(self, document: Document) -> Iterator[Limit]:
        text = view(document.text)
        measured = text.lengths[~text.symbols]
        yield Limit("words", len(measured), self.min_words, self.max_words)
        if len(measured) and not text.unspaced:
            yield Limit("mean word length", float(measured.mean()), self.min_mean_length, self.max_mean_length)
        words = max(len(text), 1)
        ellipses = text.text.count("...") + text.text.count("…")
        yield Limit("hashes per word", text.text.count("#") / words, high=self.max_hashes)
        yield Limit("ellipses per word", ellipses / words, high=self.max_ellipses)
        lines = text.text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        yield Limit("lines with bullets", bullets / max(len(lines), 1), high=self.max_bullet_lines)
        # A line cannot end in an ellipsis where there is none; most documents are spared this pass.
        trailing = sum(line.rstrip().endswith(("...", "…")) for line in lines) if ellipses else 0
        yield Limit("lines that end in an ellipsis", trailing / max(len(lines), 1), high=self.max_ellipsis_lines)
        yield Limit("words with a letter", text.with_letter / words, low=self.min_with_letter)
        if applies(self.stop_word_languages, document):
            yield Limit("stop words", sum(map(text.holds, self.stop_words)), low=self.min_stop_words)
