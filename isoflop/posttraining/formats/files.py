"""Rows out of JSON, JSON lines and parquet files, each with its place, in bounded memory.

A file that begins with ``[`` is one list, any other a row a line; ``.gz`` and ``.zst`` are unpacked as a corpus' are
(``corpus.streams``), which believes no size. A row that is broken is yielded as its error; a list that is broken ends
the reading, because nothing says where its next row would begin. Costs the memory of the longest line, or of the whole
file where it is one list. Parquet needs pyarrow and reads 64 rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from isoflop.corpus import streams
from isoflop.corpus.document import CorpusError, FileError, Reading, RecordError
from isoflop.corpus.formats import missing
from isoflop.corpus.record import decoded

SUFFIXES = (*(f".{name}{pack}" for name in ("json", "jsonl") for pack in ("", ".gz", ".zst")), ".parquet")
LONGEST_LIST = 1 << 30
"""Bytes of one JSON list; longer ones should be JSON lines."""
ROWS = 64

Row = dict[str, Any]


class Found(NamedTuple):
    """A row, or why there is none, and where it begins, as file:line (of parquet: file:row)."""

    place: str
    row: Row | RecordError


def rows(paths: Sequence[Path]) -> Iterator[Found]:
    """The rows of files and of all files of the known kinds in folders, by name. Raises ValueError."""
    for file in chain.from_iterable(map(files, paths)):
        read = _parquet if file.suffix == ".parquet" else _json
        for line, row in read(file):
            usable = isinstance(row, dict | RecordError)
            yield Found(f"{file}:{line}", row if usable else RecordError(f"not an object but {_kind(row)}"))


def files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder; a ValueError where there are none that can be read."""
    known = ", ".join(SUFFIXES)
    if path.is_dir():
        inside = (file for file in sorted(path.rglob("*")) if file.name.endswith(SUFFIXES) and file.is_file())
        shown = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if not shown:
            raise ValueError(f"the folder {path} holds no file of {known}")
        return shown
    if not path.is_file():
        raise ValueError(f"there is no file or folder {path}")
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"cannot tell what {path} is: its name should end in one of {known}")
    return [path]


def _json(file: Path) -> Iterator[tuple[int, Any]]:
    """Lines and their values."""
    found = streams.blocks(file, Reading())
    start = b""
    for block in found:
        start += block
        if start.strip():
            break
    blocks = chain([start], found)
    return _list(file, blocks) if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" else _lines(file, blocks)


def _lines(file: Path, blocks: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(streams.lines(file, blocks), 1):
        if line.strip():
            try:
                yield number, json.loads(decoded(line))
            except (ValueError, RecursionError) as error:
                yield number, RecordError(f"broken JSON ({getattr(error, 'msg', error)})")
            except RecordError as error:
                yield number, error


def _list(file: Path, blocks: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    """The elements of a list, one at a time, so that each has the line on which it begins."""
    held = bytearray()
    for block in blocks:
        held += block
        if len(held) > LONGEST_LIST:
            raise FileError(
                file, f"is one list of more than {LONGEST_LIST >> 30} GiB: make it JSON lines, a row a line"
            )
    try:
        text = decoded(bytes(held))
    except RecordError as error:
        raise FileError(file, f"is not text: {error}") from None
    decoder, at, line = json.JSONDecoder(), text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while True:
        start = _skip(text, at)
        line += text.count("\n", at, start)
        if text[start : start + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise FileError(
                file, f"is broken JSON from line {line} on ({error}): repair it or write it again"
            ) from None
        yield line, value
        end = _skip(text, at)
        line += text.count("\n", start, end)
        if text[end : end + 1] not in (",", "]"):
            raise FileError(file, f"is broken JSON from line {line} on: a list goes on with a comma or ends with ]")
        at = end + (text[end] == ",")


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing(error, f"to read {file}") from error
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(ROWS, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{file} is damaged or no parquet file after row {number} ({error}): write it again"
        ) from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
