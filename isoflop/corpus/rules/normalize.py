"""One spelling for what looks the same, before anything counts or compares."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict

_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls other than tab and newline, byte order marks, the replacement character's neighbours, soft hyphens, and
# directions and widths that do not show. Joiners stay: Persian, Indian languages and emoji are written with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufff9-\ufffb]"
)
_TRAILING = re.compile(r"(?<![^\S\n])[^\S\n]++$", re.MULTILINE)  # from the first blank on: linear


@dataclass(frozen=True)
class Normalize(Stage):
    """Unicode NFC, newlines as ``\\n``, no invisible characters, no white space at the ends of lines.

    A text that is blank goes. Left out: the repair of text that was decoded wrongly, which guesses, and NFKC, which
    turns 2⁵ into 25.
    """

    name: ClassVar[str] = "normalize"

    def judge_one(self, document: Document) -> Verdict:
        """The document with its text in normal form."""
        text = unicodedata.normalize("NFC", document.text)
        text = _TRAILING.sub("", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text)))
        if not text.strip():
            return Dropped(document, "blank")
        return document if text == document.text else document._replace(text=text)
