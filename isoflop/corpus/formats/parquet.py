"""Parquet files by pyarrow, a few rows of one row group at a time.

Read are the column ``text`` and every other that fits into a document's ``extra``: strings, numbers, truth values,
lists and structures of those. Times and decimals become strings. Binary columns and lists of fractions (embeddings) are
not even read from the disk. Strings stay dictionaries until their row comes, so that a small file which repeats a huge
value a million times costs the memory of one; a page is at most 2 GiB by the format itself. About 140 MB/s
of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isoflop.corpus.document import FileError, Reading, RecordError
from isoflop.corpus.formats import Record
from isoflop.corpus.streams import LONGEST_LINE

ROWS = 64
"""Rows decoded at a time."""
_BUFFER = 1 << 20


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """One record a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    before, size = reading.disk_bytes_read, file.stat().st_size
    try:
        with pq.ParquetFile(file) as start:
            columns = [field.name for field in start.schema_arrow if _fits(field.type)]
            strings = [name for name in columns if _is_string(start.schema_arrow.field(name).type)]
            rows = start.metadata.num_rows
        if "text" not in columns:
            raise FileError(file, 'has no column "text" of strings: rename the column that holds the documents.')
        done = 0
        with pq.ParquetFile(file, read_dictionary=strings, buffer_size=_BUFFER, pre_buffer=False) as table:
            for batch in table.iter_batches(ROWS, columns=columns, use_threads=False):
                for row in range(batch.num_rows):
                    yield _row(batch, row)
                done += batch.num_rows
                reading.disk_bytes_read = before + size * done // max(rows, done)
    except pa.ArrowException as error:
        raise FileError(file, f"is damaged or no parquet file ({error}): fetch or write it again.") from error
    reading.disk_bytes_read = before + size


def _row(batch: Any, row: int) -> Record:
    found: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            value = column[row].as_py()
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            return RecordError(f'"{name}" cannot be decoded ({error})')
        if isinstance(value, str) and len(value) > LONGEST_LINE:
            return RecordError(f'"{name}" is longer than {LONGEST_LINE >> 20} MiB')
        if value is not None or name == "text":
            found[name] = value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
    return found


def _is_string(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _fits(kind: Any) -> bool:
    """Whether values of an Arrow type are JSON, or strings that say the same."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _fits(kind.value_type)
    if types.is_struct(kind):
        return all(_plain(field.type) for field in kind)
    return _plain(kind) or types.is_temporal(kind) or types.is_decimal(kind)


def _plain(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _plain(kind.value_type) and not types.is_floating(kind.value_type)
    if types.is_struct(kind):
        return all(_plain(field.type) for field in kind)
    return bool(_is_string(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
