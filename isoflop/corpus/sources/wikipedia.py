"""The stage ``wikipedia``: articles in wikitext as prose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.sources.wikitext import plain_wikitext
from isoflop.corpus.stage import Dropped, Stage, Verdict

_TWENTY = "bg ca cs da de en es fr hr hu it nl pl pt ro ru sl sr sv uk"
LLAMA_LANGUAGES = tuple(_TWENTY.split())
"""The twenty that LLaMA-1 took."""
APPARATUS = (
    "references",
    "external links",
    "see also",
    "notes",
    "further reading",
    "bibliography",
    "citations",
    "sources",
)

_REDIRECT = re.compile(
    r"\s{0,20}#\s{0,5}(?:redirect|weiterleitung|redirection|redirección|перенаправление)\b", re.IGNORECASE
)
_HEADING = re.compile(r"^[ \t]{0,9}(={1,6})([^=\n][^\n]{0,500}?)={1,6}[ \t]{0,99}$", re.MULTILINE)
_ENDS_OF_LINES = re.compile(r"(?<![ \t])[ \t]++$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Wikipedia(Stage):
    """Strip hyperlinks, comments, templates, tables, references and other formatting.

    LLaMA-1 (arXiv 2302.13971, §2.1): twenty languages, "hyperlinks, comments and other formatting boilerplate" removed.

    Attributes:
        languages: Codes of those that may stay, of documents that state one; none named: all.
        apparatus: Sections by these headings, in lower case, go with all they hold: lists of links and literature.
        shortest: Characters of prose; a shorter page goes.
    """

    name: ClassVar[str] = "wikipedia"

    languages: tuple[str, ...] = LLAMA_LANGUAGES
    apparatus: tuple[str, ...] = APPARATUS
    shortest: int = 1

    def judge_one(self, document: Document) -> Verdict:
        """The article's prose, or why the page goes."""
        if self.languages and document.language and document.language.lower().split("-")[0] not in self.languages:
            return Dropped(document, "language", document.language)
        if _REDIRECT.match(document.text):
            return Dropped(document, "redirect")
        text = self._sections(plain_wikitext(document.text))
        text = _BLANK_LINES.sub("\n\n", _ENDS_OF_LINES.sub("", text)).strip()
        if len(text) < max(1, self.shortest):
            return Dropped(document, "no prose", f"{len(text)} characters")
        return document if text == document.text else document._replace(text=text)

    def _sections(self, text: str) -> str:
        """``text`` without the apparatus, its headings as plain lines."""
        parts, position, gone = [], 0, 0
        for heading in _HEADING.finditer(text):
            if not gone:
                parts.append(text[position : heading.start()])
            level, words, position = len(heading[1]), heading[2].strip(), heading.end()
            if gone and level > gone:
                continue
            gone = level if words.lower() in self.apparatus else 0
            if not gone:
                parts.append(words)
        return "".join(parts if gone else [*parts, text[position:]])
