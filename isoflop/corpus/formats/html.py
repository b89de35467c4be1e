"""The text of HTML pages, by trafilatura: the article without menus, footers and comments.

``favor_precision`` and no comments are what FineWeb took (Penedo et al. 2024, arXiv 2406.17557, §3.2). Its removal of
segments met before is left out, because a page's text would depend on the pages that the same process saw earlier.

Bytes become characters as in browsers (WHATWG HTML, "determining the character encoding"): UTF-8 if they are that,
else the server's charset, else the page's own <meta>, else windows-1252. Guessing by frequency is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoflop.corpus.document import Reading, RecordError
from isoflop.corpus.formats import Record

LONGEST_PAGE = 16 << 20
"""Bytes. A longer page is a bad record: it is data, or an attack on the parser's memory."""
MOST_TAGS = 200_000
"""A page with more is a bad record; the extraction's time grows faster than their number."""

_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*(?!utf-?16)([\w.:-]{2,40})", re.IGNORECASE)
"""A page whose <meta> can be read byte by byte is not UTF-16, whatever it says."""
_KNOWN = re.compile(
    r"utf-?8|utf-?16(-?[bl]e)?|(windows|cp)-?(125[0-8]|874|932|949)|iso-?8859-?\d{1,2}|latin-?\d|koi8-?[ru]|macintosh|"
    r"gb-?(k|2312|18030)|big5(-hkscs)?|shift[-_]?jis|euc-?(jp|kr)|iso-2022-jp"
)
"""Character sets of the web. Python knows more, and some of those take quadratic time."""
_BROADER = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "iso8859-1": "cp1252", "latin1": "cp1252"}


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """One record, the page."""
    size = file.stat().st_size
    if size > LONGEST_PAGE:
        yield RecordError(f"a page of more than {LONGEST_PAGE >> 20} MiB")
    else:
        data = file.read_bytes()
        yield page(data, extract=reading.extract_html) if data.strip() else None
    reading.disk_bytes_read += size


def page(data: bytes, *, charset: str = "", url: str = "", extract: bool = True) -> Record:
    """The record of one page: its text, or its markup with the ``format`` "html" for the stage ``html`` to extract."""
    fields = {"url": url} if url else {}
    markup = characters(data, charset)
    if not extract:
        return {"text": markup, "format": "html", **fields}
    try:
        return {"text": text_of(markup), **fields}
    except RecordError as error:
        return error


def characters(data: bytes, charset: str = "") -> str:
    """The characters of a page; never fails, what cannot be decoded becomes U+FFFD and NUL is left out."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace").replace("\0", "")
    meta = _META.search(data, 0, 4096)
    for name in ("utf-8", charset, meta[1].decode("ascii") if meta else "", "cp1252"):
        name = name.strip().lower()
        if _KNOWN.fullmatch(name):
            try:
                return data.decode(_BROADER.get(name, name)).replace("\0", "")
            except (UnicodeDecodeError, LookupError):
                continue
    return data.decode("cp1252", "replace").replace("\0", "")


def text_of(markup: str, **options: Any) -> str:
    """The main text of a page, "" if it has none; ``options`` are trafilatura's. Raises RecordError, ImportError."""
    import trafilatura

    tags = markup.count("<")
    if len(markup) > LONGEST_PAGE or tags > MOST_TAGS:
        raise RecordError(f"a page of {len(markup):,} characters and {tags:,} tags, more than is extracted")
    settings = {"favor_precision": True, "include_comments": False, "deduplicate": False} | options
    try:
        return trafilatura.extract(markup, **settings) or ""
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise RecordError(f"no text can be extracted ({type(error).__name__}: {error})") from error
