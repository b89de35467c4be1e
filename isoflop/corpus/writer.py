"""Documents into a ``.jsonl.zst`` file and out of it again, nothing lost: what passes between cleaning stages.

The file is there whole or not at all, its bytes depend on the documents alone, and every reader of JSON lines
can read it, isoflop's own with each document's original place and id. A core writes about 40 MB/s of text and reads 80.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from isoflop.corpus import streams
from isoflop.corpus.document import CorpusError, Document, Reading, RecordError
from isoflop.corpus.record import from_record, parse, to_json
from isoflop.files import commit, disk_errors, sync, temporary_for

LEVEL = 3


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as JSON lines under zstd, streaming; ``path`` should end in ``.jsonl.zst``.

    Raises CorpusError at a document too long to be read again, DiskFullError where there is no space.
    """
    temporary = temporary_for(path)
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with disk_errors(path):
        try:
            with temporary.open("wb") as file, compressor.stream_writer(file, closefd=False) as packed:
                for document in documents:
                    packed.write(_line(document))
            sync(temporary)
            commit(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that ``write_documents`` wrote, exactly, place and id included. Raises CorpusError."""
    return list(stream_documents(path))


def stream_documents(path: Path) -> Iterator[Document]:
    """``read_documents``, one at a time."""
    for number, line in enumerate(streams.lines(path, streams.blocks(path, Reading())), 1):
        try:
            yield from_record(parse(line), f"{path.name}:{number}")
        except RecordError as error:
            raise CorpusError(
                f"{path}:{number} is not a document that isoflop wrote: {error}; delete the file."
            ) from error


def _line(document: Document) -> bytes:
    line = to_json(document)
    if len(line) > streams.LONGEST_LINE:
        raise CorpusError(f"{document.place} is longer than {streams.LONGEST_LINE >> 20} MiB: cut it into documents.")
    return line + b"\n"
