"""JSON lines: every line is an object, its document's text in the field ``text``.

Costs the memory of the longest line; zstd comes out at about 120 MB/s of text a core
(benchmarks/corpus_reading.py, as all figures of reading and cleaning).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from isoflop.corpus import streams
from isoflop.corpus.document import Reading, RecordError
from isoflop.corpus.formats import Record
from isoflop.corpus.record import parse


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """One record a line; blank lines are no records."""
    for line in streams.lines(file, streams.blocks(file, reading)):
        try:
            yield parse(line) if line.strip() else None
        except RecordError as error:
            yield error
