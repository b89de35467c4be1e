"""Documents from a file or folder of text or JSON lines.

A ``.jsonl`` record is a document: its field ``text``. A ``.txt`` or ``.md`` file is a document up to 64 KiB;
a longer one is cut at blank lines into pieces of about that size, so that a single large text file can be
streamed and has something to hold out for validation.

Folders are read recursively in the sorted order of relative paths. Left out: names that start with a dot
(``.git`` and friends), linked folders, and linked files whose target lies outside the folder, so that a
folder from elsewhere cannot draw in files that it does not contain.

Costs one pass over the disk and the memory of the longest record; zstd JSON lines come out at about
150 MB/s of text a core.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from isoflop.corpus import streams
from isoflop.corpus.document import CorpusError, Document, Reading, RecordError
from isoflop.corpus.record import decoded, from_record, parse

SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.zst", ".jsonl.gz")

_PART = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")


def read(path: str | Path, reading: Reading | None = None) -> Iterator[Document]:
    """The documents of a file or folder, in the order of file names and records.

    Bad records (broken JSON, no string in ``text``, not UTF-8) go to ``reading``'s quarantine. Raises
    CorpusError at once if there is nothing to read at ``path``, and while iterating if a file is damaged
    or not text, or, at the end, if too many records were bad or none held text.
    """
    root = Path(path).expanduser()
    reading = reading or Reading()
    files = _files(root)
    reading.disk_bytes += sum(file.stat().st_size for file in files)
    return _documents(root, files, reading)


def _documents(root: Path, files: list[Path], reading: Reading) -> Iterator[Document]:
    for file in files:
        name = file.relative_to(root).as_posix() if file != root else file.name
        source = _collection(file, root)
        json_lines = not file.name.endswith((".txt", ".md"))
        raw = streams.blocks(file, reading)
        for number, record in enumerate(streams.lines(file, raw) if json_lines else streams.pieces(raw), 1):
            if not record.strip():
                continue
            reading.records += 1
            place = f"{name}:{number}"
            try:
                document = from_record(parse(record), place, source) if json_lines else _plain(record, place, source)
            except RecordError as error:
                reading.quarantine(place, str(error))
                continue
            if document.text:
                yield document
            else:
                reading.empty += 1
    reading.finish(root)


def _plain(data: bytes, place: str, source: str) -> Document:
    return Document(decoded(data), place, place, source)


def _collection(file: Path, root: Path) -> str:
    """What a file without the word of its records belongs to: the first folder below ``root``, else its own name.

    Numbers at the end of a name count its parts, and text files lying in ``root`` itself are one collection.
    """
    if file != root and len(parts := file.relative_to(root).parts) > 1:
        return parts[0]
    stem = file.name[: -len(next(suffix for suffix in SUFFIXES if file.name.endswith(suffix)))]
    stem = "" if file != root and file.name.endswith((".txt", ".md")) else _PART.sub("", stem)
    return stem or root.resolve().name


def _files(root: Path) -> list[Path]:
    """The files to read below ``root``, or ``root`` itself, in the order in which they are read."""
    known = ", ".join(SUFFIXES)
    if root.is_file():
        if not root.name.endswith(SUFFIXES):
            raise CorpusError(f"cannot tell what {root} is: its name should end in one of {known}.")
        return [root]
    if not root.is_dir():
        raise CorpusError(
            f"there is no file or folder {root}: give the path of a file or folder of {known}, "
            'or "python" for the default corpus.'
        )
    files = [Path(folder) / name for folder, name in _walk(root) if name.endswith(SUFFIXES)]
    files = [file for file in files if file.is_file() and _stays_inside(file, root)]
    if not files:
        raise CorpusError(f"no file to read in the folder {root}: its files should end in one of {known}.")
    return sorted(files, key=lambda file: file.relative_to(root).parts)


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from ((folder, name) for name in names if not name.startswith("."))


def _stays_inside(file: Path, root: Path) -> bool:
    return not file.is_symlink() or file.resolve().is_relative_to(root.resolve())
