"""The stage ``html``: pages of markup become their text.

It is the readers' extraction (:mod:`isoflop.corpus.formats.html`) as a stage, so that it runs on every processor: read
the corpus with ``Reading(extract_html=False)``. A simple page takes
about 10 ms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document, RecordError
from isoflop.corpus.formats import missing
from isoflop.corpus.formats.html import text_of
from isoflop.corpus.stage import Dropped, Stage, Verdict

_PAGE = re.compile(r"\s{0,100}(?:<\?xml[^<>]{0,200}>\s{0,100})?<(?:!doctype\s+html|html)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Html(Stage):
    """Extract the main text of every document that is a page of HTML; others pass.

    A page says ``format`` "html" in ``extra``, or begins as pages do. The defaults are FineWeb's (Penedo et al. 2024,
    arXiv 2406.17557, §3.2).

    Attributes:
        favor_precision: Rather lose some of the article than keep some of what is around it.
        include_tables: Whether cells of tables are text.
        include_comments: Whether readers' comments below an article are text.
    """

    name: ClassVar[str] = "html"

    favor_precision: bool = True
    include_tables: bool = True
    include_comments: bool = False

    def judge_one(self, document: Document) -> Verdict:
        """The document with its page's text; dropped if there is none."""
        if document.extra.get("format") != "html" and not _PAGE.match(document.text):
            return document
        try:
            text = text_of(
                document.text,
                favor_precision=self.favor_precision,
                include_tables=self.include_tables,
                include_comments=self.include_comments,
            )
        except ImportError as error:
            raise missing(error, "to extract text from HTML") from error
        except RecordError as error:
            return Dropped(document, "cannot be extracted", str(error))
        if not text.strip():
            return Dropped(document, "no text in the page")
        return document._replace(text=text, extra={k: v for k, v in document.extra.items() if k != "format"})
