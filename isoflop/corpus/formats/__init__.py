"""The file formats that a corpus may come in: the end of a file's name says which.

A format turns a file into records, one after another and never a whole file at once. Of a record that cannot be used it
yields the RecordError and goes on; of one that is no document, such as a blank line, it yields None, so that the
number of a record is its position in the file. A file that is damaged is a FileError, raised where the damage begins;
one that cannot be opened, or needs a package that is not installed, a CorpusError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from isoflop.corpus.document import CorpusError, Reading, RecordError

Record = Mapping[str, Any] | RecordError | None
"""Fields with the document's text in ``text``, or why there are none, or nothing to count."""

_FORMATS = {
    "lines": (".jsonl", ".jsonl.zst", ".jsonl.gz", ".json.gz"),
    "plain": (".txt", ".md"),
    "parquet": (".parquet",),
    "warc": (".warc", ".warc.gz", ".warc.zst", ".wet", ".wet.gz", ".wet.zst"),
    "html": (".html", ".htm"),
}
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
ONE_DOCUMENT = (*_FORMATS["plain"], *_FORMATS["html"])
"""Ends of the names of files that are one document, or a few pieces of one."""


def suffix_of(file: Path) -> str:
    """The known suffix that a file's name ends in, or nothing."""
    return max((suffix for suffix in SUFFIXES if file.name.endswith(suffix)), key=len, default="")


def records(file: Path, reading: Reading) -> Iterator[Record]:
    """The records of a file of a known suffix, in their order. Raises CorpusError."""
    suffix = suffix_of(file)
    module = next(name for name, suffixes in _FORMATS.items() if suffix in suffixes)
    try:
        reader: Callable[[Path, Reading], Iterator[Record]] = import_module(f"{__name__}.{module}").records
        yield from reader(file, reading)
    except ImportError as error:
        raise missing(error, f"to read {file}") from error
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror or error}; check its permissions.") from error


def missing(error: ImportError, purpose: str) -> CorpusError:
    """The sentence for an optional package that is not installed."""
    return CorpusError(f'the package {error.name} is needed {purpose}: pip install "isoflop[corpus]".')
