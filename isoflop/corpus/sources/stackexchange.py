"""The stage ``stackexchange``: a question and its answers, the best first, as one text.

A document is one question. Its ``text`` is the question's HTML, and its ``extra`` has::

    title     the question's title (may be missing)
    answers   a list of objects: "text" or "body", HTML; "score" or "pm_score", a number (0 if missing)
    site      such as "math.stackexchange.com" (may be missing; then that of the document's url)

which is how the data dumps' posts come out joined by ParentId, and how the hub's sets of preferences have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from isoflop.corpus.document import Document
from isoflop.corpus.sources.markup import plain_text
from isoflop.corpus.stage import Dropped, Stage, Verdict

_LARGEST_SCORE = 1e15
"""What is larger, or no number at all, is no score."""


class Answer(NamedTuple):
    """One answer as plain text."""

    score: float
    text: str


@dataclass(frozen=True)
class StackExchange(Stage):
    """Write question and answers without HTML, the answers from the highest score to the lowest.

    LLaMA-1 (arXiv 2302.13971, §2.1), which kept the 28 largest sites; the marks "Q:" and "A:" are RedPajama's. Answers
    of equal score stay in their order.

    Attributes:
        sites: The sites that may stay, such as "stackoverflow.com"; none named: all.
        lowest_score: Answers with a lower score are left out; none said: none.
        most_answers: No more than these, the best; 0: all.
        need_answer: Whether a question without an answer goes.
    """

    name: ClassVar[str] = "stackexchange"

    sites: tuple[str, ...] = ()
    lowest_score: float | None = None
    most_answers: int = 0
    need_answer: bool = True

    def judge_one(self, document: Document) -> Verdict:
        """The question and its answers as one text; ``extra`` no longer has them."""
        if self.sites and (site := _site(document)) not in self.sites:
            return Dropped(document, "site", site or "none stated")
        lowest = -math.inf if self.lowest_score is None else self.lowest_score
        answers = [answer for answer in _answers(document.extra) if answer.score >= lowest]
        answers = sorted(answers, key=lambda answer: -answer.score)[: self.most_answers or None]
        if self.need_answer and not answers:
            return Dropped(document, "no answer")
        question = [_plain(document.extra.get("title")), plain_text(document.text)]
        if not any(question):
            return Dropped(document, "no question")
        parts = ["Q: " + "\n\n".join(filter(None, question)), *(f"A: {answer.text}" for answer in answers)]
        rest = {key: value for key, value in document.extra.items() if key != "answers"}
        return document._replace(text="\n\n".join(parts), extra=rest)


def _answers(extra: Mapping[str, Any]) -> list[Answer]:
    stated = extra.get("answers")
    found = []
    for answer in stated if isinstance(stated, list) else []:
        if isinstance(answer, Mapping):
            body = answer.get("text", answer.get("body"))
            score = answer.get("score", answer.get("pm_score", 0))
            known = isinstance(score, int | float) and abs(score) < _LARGEST_SCORE
            if text := _plain(body):
                found.append(Answer(float(score) if known else 0.0, text))
    return found


def _plain(markup: Any) -> str:
    """The text of what should be HTML; half surrogates, which a record's other fields may hold, become "?"."""
    return plain_text(markup.encode("utf-8", "replace").decode()) if isinstance(markup, str) else ""


def _site(document: Document) -> str:
    site = document.extra.get("site")
    if isinstance(site, str) and site:
        return site.lower()
    try:
        return (urlsplit(document.url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
