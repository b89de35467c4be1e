"""The stage ``github``: source files with a permissive licence that people wrote and can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from isoflop.corpus.document import Document
from isoflop.corpus.sources.code_headers import is_generated, without_licence
from isoflop.corpus.stage import Dropped, Stage, Verdict

PERMISSIVE = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "mit",
    "mit-0",
    "0bsd",
    "unlicense",
    "zlib",
    "cc0-1.0",
)
_ENDS = (
    "asm bat c cc cmake cmd cpp cs css cu cuh cxx d dart dockerfile ex exs f f03 f77 f90 f95 for fpp go groovy h hh "
    "hpp hs html hxx java jl js jsx kt lua m makefile markdown md ml mli pas php pl pm proto ps1 py pyi pyx r rb rs "
    "rst s scala sh sol sql swift tcl tex toml ts tsx v vb vhd vue xml zig zsh"
)
EXTENSIONS = tuple(_ENDS.split())
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+|_+")


@dataclass(frozen=True)
class Github(Stage):
    """Keep readable, hand-written, permissively licensed source, without licences at its top.

    LLaMA-1 (arXiv 2302.13971, §2.1) kept projects under Apache, BSD and MIT licences, judged quality by line length and
    the share of alphanumeric characters, and removed headers by regular expressions; the figures are RedPajama's
    (Weber et al. 2024, arXiv 2411.12372), whose list of extensions this one extends. Exact duplicates of files are the
    business of the deduplicating stages.

    Attributes:
        longest_line: Characters; a file with a longer line goes.
        mean_line: Characters; a file whose lines are longer in the mean goes.
        alphanumeric: A file with a smaller share of such characters goes.
        letters_per_token: A file with fewer goes. RedPajama counts with a BPE tokenizer; here a token is a run
            of letters, of digits or of other marks, which are fewer, so that this is the more lenient rule.
        licenses: SPDX names, in lower case, that may stay; of documents that state one. None: any.
        need_license: Whether documents that state none go. LLaMA-1's rule; off, because most corpora say nothing.
        extensions: Those that may stay, by the end of ``extra["path"]`` or its whole name; of documents with a path.
            None: any.
        strip_headers: Whether comments on copyright and licence at the top are removed.
        drop_generated: Whether files go that say that a program wrote them.
    """

    name: ClassVar[str] = "github"

    longest_line: int = 1000
    mean_line: float = 100.0
    alphanumeric: float = 0.25
    letters_per_token: float = 1.5
    licenses: tuple[str, ...] = PERMISSIVE
    need_license: bool = False
    extensions: tuple[str, ...] = EXTENSIONS
    strip_headers: bool = True
    drop_generated: bool = True

    def judge_one(self, document: Document) -> Verdict:
        """The document without its header, or why it goes."""
        if reason := self._not_allowed(document):
            return Dropped(document, *reason)
        if self.drop_generated and is_generated(document.text):
            return Dropped(document, "generated")
        text = without_licence(document.text) if self.strip_headers else document.text
        if reason := self._unreadable(text):
            return Dropped(document, *reason)
        return document if text == document.text else document._replace(text=text)

    def _not_allowed(self, document: Document) -> tuple[str, str] | None:
        license_ = document.license.lower()
        if (license_ or self.need_license) and self.licenses and license_ not in self.licenses:
            return "licence", document.license or "none stated"
        path = document.extra.get("path")
        if isinstance(path, str) and self.extensions:
            name = PurePosixPath(path).name.lower()
            if (name.rpartition(".")[2]) not in self.extensions:
                return "extension", name[-40:]
        return None

    def _unreadable(self, text: str) -> tuple[str, str] | None:
        if not text.strip():
            return "empty", ""
        lines = text.splitlines()
        if (longest := max(map(len, lines))) > self.longest_line:
            return "long line", str(longest)
        if (mean := sum(map(len, lines)) / len(lines)) > self.mean_line:
            return "long lines in the mean", f"{mean:.1f}"
        tokens = _TOKEN.findall(text)
        letters = sum(len(token) for token in tokens if token[0].isalpha())
        digits = sum(len(token) for token in tokens if token[0].isdigit())
        if (share := (letters + digits) / len(text)) < self.alphanumeric:
            return "few alphanumeric characters", f"{share:.3f}"
        ratio = letters / max(1, len(tokens))
        return ("few letters per token", f"{ratio:.2f}") if ratio < self.letters_per_token else None
