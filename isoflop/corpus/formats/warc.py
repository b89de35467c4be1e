"""Web archives by fastwarc: WARC, its HTML pages extracted, and WET, its texts as they are.

Of a WARC, the documents are the responses that are HTML with status 200; of a WET, the conversions. The id is the
record's own, ``url`` its target; its date stays in ``extra``, and so does the language that Common Crawl's WET states.
Content that a server compressed is decompressed, never more than a page's worth.

WET comes out at about 90 MB/s of text. Extracting pages costs about ten milliseconds each, more for large ones;
``Reading(extract_html=False)`` leaves that to the stage ``html``, which runs on every processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from isoflop.corpus import streams
from isoflop.corpus.document import CorpusError, FileError, Reading, RecordError
from isoflop.corpus.formats import Record
from isoflop.corpus.formats.html import LONGEST_PAGE, page
from isoflop.corpus.record import decoded

LONGEST_HEADER = 1 << 20
_HTML = ("text/html", "application/xhtml+xml")


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """One record for each of the archive's, None for requests, metadata and whatever is not HTML."""
    from fastwarc.warc import ArchiveIterator

    stream = _Stream(streams.blocks(file, reading, text=False))
    settings: dict[str, Any] = {"auto_decode": "all", "max_header_len": LONGEST_HEADER, "stream_detect": False}
    entries = ArchiveIterator(cast("BinaryIO", stream), parse_http=True, fsspec_args=False, **settings)
    found = 0
    try:
        for entry in entries:
            found += 1
            yield _record(entry, reading)
    except OSError as error:
        if stream.failure:
            raise stream.failure from error
        raise FileError(file, f"is no web archive after record {found} ({error}): fetch it again.") from error
    if stream.position and not found:
        raise FileError(file, "is no web archive: leave it out, or name it for what it is.")
    if not stream.end.endswith(b"\n\r\n"):
        raise FileError(file, f"is cut short in record {found}: fetch it again.")


def _record(entry: Any, reading: Reading) -> Record:
    from fastwarc.warc import WarcRecordType

    try:
        if entry.record_type == WarcRecordType.conversion:
            content: dict[str, Any] = {"text": decoded(_body(entry))}
        elif entry.record_type == WarcRecordType.response and _is_page(entry):
            found = page(_body(entry), charset=entry.http_charset or "", extract=reading.extract_html)
            if not isinstance(found, dict):
                return found
            content = found
        else:
            return None
    except RecordError as error:
        return error
    except (ValueError, OSError) as error:
        return RecordError(f"cannot be decoded ({error})")
    headers = {
        "id": (entry.record_id or "").strip("<>").removeprefix("urn:uuid:"),
        "url": entry.headers.get("WARC-Target-URI"),
        "date": entry.headers.get("WARC-Date"),
        "identified_language": entry.headers.get("WARC-Identified-Content-Language"),
    }
    return content | {name: value for name, value in headers.items() if value}


def _is_page(entry: Any) -> bool:
    return (
        bool(entry.is_http)
        and entry.http_headers is not None
        and entry.http_headers.status_code == 200
        and (entry.http_content_type or "").lower() in _HTML
    )


def _body(entry: Any) -> bytes:
    data: bytes = entry.reader.read(LONGEST_PAGE + 1)
    if len(data) > LONGEST_PAGE:
        while entry.reader.read(1 << 20):  # the next entry is found only after the whole of this one
            pass
        raise RecordError(f"a page of more than {LONGEST_PAGE >> 20} MiB")
    return data


class _Stream:
    """Blocks of bytes as the file that fastwarc wants; what goes wrong below it is kept, because it rewords it."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = memoryview(b"")
        self.position = 0
        self.end = b""
        self.failure: CorpusError | None = None

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes of the block at hand, none only at the end."""
        try:
            while not self._held and (block := next(self._blocks, None)) is not None:
                self._held = memoryview(block)
        except CorpusError as error:
            self.failure = error
            raise OSError(str(error)) from error
        taken = bytes(self._held[: size if size >= 0 else None])
        self._held = self._held[len(taken) :]
        self.position += len(taken)
        self.end = (self.end + taken)[-4:]
        return taken

    def tell(self) -> int:
        """The position among the decompressed bytes."""
        return self.position
