"""Documents by where they were published: block lists of domains, addresses and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from isoflop.corpus.document import Document
from isoflop.corpus.rules.wordlist import entries
from isoflop.corpus.stage import Dropped, Stage, Verdict

_PARTS = re.compile(r"[^\W_]+")
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//")


@dataclass(frozen=True)
class Url(Stage):
    """Penedo et al. 2023 (RefinedWeb, arXiv 2306.01116), appendix G.1; also the first stage of FineWeb and Llama 3.

    Files of one entry a line, each optional. A document goes if its host or a parent of it is in ``domains``
    (``example.org`` covers ``www.example.org``), its address without scheme, query and last slash is in
    ``addresses``, one word of its URL is in ``words``, or ``soft_limit`` different ones are in ``soft_words``. Words
    of a URL are its runs of letters and digits. Documents without a URL pass. Left out: RefinedWeb's match inside
    words, which also hits ``Scunthorpe``.
    """

    name: ClassVar[str] = "url"
    inputs: ClassVar[tuple[str, ...]] = ("domains", "addresses", "words", "soft_words")

    domains: str = ""
    addresses: str = ""
    words: str = ""
    soft_words: str = ""
    soft_limit: int = 2

    def prepare(self, folder: Path) -> None:
        """Find out whether the lists can be used before hours of work."""
        for path in filter(None, (self.domains, self.addresses, self.words, self.soft_words)):
            entries(path)

    def judge_one(self, document: Document) -> Verdict:
        """The document, or the entry that its URL matched."""
        for reason, found in self._matches(document.url.lower()) if document.url else ():
            if found:
                return Dropped(document, reason, found)
        return document

    def _matches(self, url: str) -> Iterator[tuple[str, str]]:
        """Each rule that has a list, with the entry that it found or an empty string."""
        host, path = _host_and_path(url)
        if self.domains:
            labels = host.split(".")
            parents = (".".join(labels[start:]) for start in range(len(labels)))
            yield "domain", next(filter(entries(self.domains).__contains__, parents), "")
        if self.addresses:
            address = (host + path).rstrip("/")
            yield "address", address if address in entries(self.addresses) else ""
        parts = set(_PARTS.findall(url))
        if self.words:
            yield "word in the URL", min(parts & entries(self.words), default="")
        if self.soft_words:
            soft = sorted(parts & entries(self.soft_words))
            yield "soft words in the URL", ", ".join(soft) if len(soft) >= self.soft_limit else ""


def _host_and_path(url: str) -> tuple[str, str]:
    """Host and path, of URLs with and without a scheme; what cannot be parsed is all host."""
    try:
        parsed = urlsplit(url if _SCHEME.match(url) else f"//{url}")
        return (parsed.hostname or "").rstrip("."), parsed.path
    except ValueError:
        return url, ""
