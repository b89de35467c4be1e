"""The stage ``arxiv``: LaTeX sources of papers as the text of their sections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.sources.latex import without_comments
from isoflop.corpus.sources.latex_macros import expanded
from isoflop.corpus.stage import Dropped, Stage, Verdict

_SECTION = re.compile(r"\\(?:part|chapter|section)\*?\s{0,9}[\[{]")
_BIBLIOGRAPHY = re.compile(
    r"\\begin\s{0,9}\{(?:thebibliography|references|REFERENCES|bibdiv)\}|\\(?:bibliography|printbibliography)\b(?!style)"
    r"|\\end\{document\}"
)
_BODY = "\\begin{document}"
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


@dataclass(frozen=True)
class Arxiv(Stage):
    """Keep what stands from the first section to the bibliography, without comments, macros written out.

    LLaMA-1 (arXiv 2302.13971, §2.1), which follows Lewkowycz et al. 2022 (Minerva): everything before the first section
    removed, the bibliography too, comments removed, definitions and macros expanded inline. Unlike RedPajama's code,
    macros with arguments are expanded (:mod:`isoflop.corpus.sources.latex_macros` says which are not).

    Attributes:
        need_section: Whether a document without any section goes; if not, it is kept from ``\\\\begin{document}`` on.
        expand_macros: Whether macros are written out.
    """

    name: ClassVar[str] = "arxiv"

    need_section: bool = False
    expand_macros: bool = True

    def judge_one(self, document: Document) -> Verdict:
        """The document's body, or a drop where nothing is left of it."""
        text = without_comments(document.text.replace("\r\n", "\n"))
        if self.expand_macros:
            text = expanded(text)
        section = _SECTION.search(text, max(0, text.find(_BODY)))
        if section is None and self.need_section:
            return Dropped(document, "no section")
        body = text.find(_BODY)
        start = section.start() if section else body + len(_BODY) if body >= 0 else 0
        end = _BIBLIOGRAPHY.search(text, start)
        text = _BLANK_LINES.sub("\n\n", text[start : end.start() if end else None]).strip()
        if not text:
            return Dropped(document, "nothing between first section and bibliography")
        return document._replace(text=text)
