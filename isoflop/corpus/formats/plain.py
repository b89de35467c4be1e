"""Plain text: a file is a document up to 64 KiB.

A longer one is cut at blank lines into pieces of about that size, so that a single large text file can be streamed
and has something to hold out for validation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isoflop.corpus import streams
from isoflop.corpus.document import FileError, Reading, RecordError
from isoflop.corpus.formats import Record
from isoflop.corpus.record import decoded


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """One record a piece; what is not text at all is one bad record."""
    try:
        for piece in streams.pieces(streams.blocks(file, reading)):
            yield _record(piece)
    except FileError as error:
        yield RecordError(error.reason)


def _record(piece: bytes) -> Record:
    try:
        return {"text": decoded(piece)} if piece.strip() else None
    except RecordError as error:
        return error
