"""C4's rules: lines that are sentences stay, the rest of a page goes, and some pages go whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.rules.languages import applies
from isoflop.corpus.rules.limits import Limit, within
from isoflop.corpus.rules.wordlist import word_list
from isoflop.corpus.rules.words import sentences
from isoflop.corpus.stage import Dropped, Stage, Verdict

_CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
_POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


@dataclass(frozen=True)
class C4(Stage):
    """Raffel et al. 2020 (arXiv 1910.10683), section 2.2, as the code that made C4 does it (``c4_utils`` of TFDS).

    Lines end in a mark of ``end_marks`` and not in an ellipsis, have ``min_words`` words between white space, none of
    more than ``max_word_length`` characters, and mention neither JavaScript nor a policy; citation marks such as
    ``[3]`` are cut out. A page with "lorem ipsum" or a curly bracket in such a line goes, and so does one of too few
    sentences. The code's minima, 3 sentences and lines of 5 words, are the default, since C4 was made with them; the
    paper's first version has 5 and 3, and so has FineWeb, which sets ``end_marks = ""``: lines may end as they like.
    ``bad_words`` is a file of words and phrases, one a line; a page that holds one goes.

    Given the same count of sentences, datatrove 0.10 keeps the same lines with its own ``end_marks`` (an apostrophe
    too) but where a line's words are fewer once its citations are cut: it counts them before.

    The rules are for English; documents in no language of ``languages`` pass (see ``languages.applies``).
    """

    name: ClassVar[str] = "c4"
    inputs: ClassVar[tuple[str, ...]] = ("bad_words",)

    min_sentences: int = 3
    min_words: int = 5
    max_word_length: int = 1000
    end_marks: str = '.?!"'
    bad_words: str = ""
    languages: tuple[str, ...] = ("en", "")

    def prepare(self, folder: Path) -> None:
        """Find out whether the list of bad words can be used before hours of work."""
        if self.bad_words:
            word_list(self.bad_words)

    def judge_one(self, document: Document) -> Verdict:
        """The document with the lines that stay, or why the whole page goes."""
        if not applies(self.languages, document):
            return document
        if self.bad_words and (word := next(word_list(self.bad_words).matches(document.text), None)):
            return Dropped(document, "bad word", word)
        lines = list(self._sentence_lines(document.text))
        lowered = "\n".join(lines).lower()
        if "lorem ipsum" in lowered:
            return Dropped(document, "lorem ipsum")
        if "javascript" in lowered:
            lines = [line for line in lines if "javascript" not in line.lower()]
        if any("{" in line for line in lines):
            return Dropped(document, "curly bracket")
        if policies := [phrase for phrase in _POLICIES if phrase in lowered]:
            lines = [line for line in lines if not any(phrase in line.lower() for phrase in policies)]
        if len(lines) < self.min_sentences:  # a line is a sentence at least: the others need not be counted
            limit = Limit("sentences", sum(map(sentences, lines)), low=self.min_sentences)
            if isinstance(dropped := within(document, [limit]), Dropped):
                return dropped
        return document._replace(text="\n".join(lines).strip())

    def _sentence_lines(self, text: str) -> Iterator[str]:
        marks = tuple(self.end_marks)
        for raw in text.splitlines():
            line = raw.strip()
            if len(line) > self.max_word_length and max(map(len, line.split())) > self.max_word_length:
                continue
            if "[" in line:
                line = _CITATION.sub("", line)
            if marks and (not line.endswith(marks) or line.endswith("...")):
                continue
            # Splitting stops when there are enough words: what follows them does not matter.
            if line and len(line.split(None, self.min_words - 1)) >= self.min_words:
                yield line
