"""Documents from a file or folder, in any of the formats of :mod:`isoflop.corpus.formats`.

Folders are read recursively in the sorted order of relative paths. Left out: names that start with a dot
(``.git`` and friends), linked folders, and linked files whose target lies outside the folder, so that a
folder from elsewhere cannot draw in files that it does not contain; ``Reading.links`` counts them.

Costs one pass over the disk and the memory of the longest record.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isoflop.corpus.document import CorpusError, Document, FileError, Reading, RecordError
from isoflop.corpus.formats import ONE_DOCUMENT, SUFFIXES, Record, records, suffix_of
from isoflop.corpus.record import from_record

_PART = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")


def read(path: str | Path, reading: Reading | None = None) -> Iterator[Document]:
    """The documents of a file or folder, in the order of file names and records.

    Bad records (broken JSON, no string in ``text``, not UTF-8, a page that is a bomb) and the rest of files that are
    damaged or not text go to ``reading``'s quarantine. Raises CorpusError at once if there is nothing to read at
    ``path``, and while iterating if damaged files are too much of the corpus, or, at the end, if too many records were
    bad or none held text.
    """
    root = Path(path).expanduser()
    reading = reading or Reading()
    files = _files(root, reading)
    reading.disk_bytes += sum(file.stat().st_size for file in files)
    return _documents(root, files, reading)


def _documents(root: Path, files: list[Path], reading: Reading) -> Iterator[Document]:
    for file in files:
        end = reading.disk_bytes_read + file.stat().st_size
        name = file.relative_to(root).as_posix() if file != root else file.name
        yield from taken(records(file, reading), _spelled(name), _spelled(_collection(file, root)), reading)
        reading.disk_bytes_read = end
    reading.finish(root)


def taken(found: Iterable[Record], name: str, source: str, reading: Reading) -> Iterator[Document]:
    """The documents of the records of one file, the bad put in quarantine and the empty counted and left out."""
    for number, record in enumerate(_undamaged(found, name, reading), 1):
        if record is None:
            continue
        reading.records += 1
        place = f"{name}:{number}"
        try:
            if isinstance(record, RecordError):
                raise record
            document = from_record(record, place, source)
        except RecordError as error:
            reading.quarantine(place, str(error))
            continue
        if document.text:
            yield document
        else:
            reading.empty += 1


def _undamaged(found: Iterable[Record], name: str, reading: Reading) -> Iterator[Record]:
    """The records of a file up to where it is damaged."""
    read = 0
    try:
        for record in found:
            read += 1
            yield record
    except FileError as error:
        reading.give_up(f"{name}:{read + 1}", error)


def _spelled(name: str) -> str:
    """A name of the disk, whose bytes may be anything, as text that UTF-8 can spell."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _collection(file: Path, root: Path) -> str:
    """What a file without the word of its records belongs to: the first folder below ``root``, else its own name.

    Numbers at the end of a name count its parts, and text files lying in ``root`` itself are one collection.
    """
    if file != root and len(parts := file.relative_to(root).parts) > 1:
        return parts[0]
    stem = _PART.sub("", file.name.removesuffix(suffix_of(file)))
    if file != root and file.name.endswith(ONE_DOCUMENT):
        stem = ""
    return stem or root.resolve().name


def _files(root: Path, reading: Reading) -> list[Path]:
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
    found = [file for file in _walk(root, reading) if file.name.endswith(SUFFIXES) and file.is_file()]
    files = [file for file in found if _stays_inside(file, root)]
    reading.links += len(found) - len(files)
    if not files:
        raise CorpusError(f"no file to read in the folder {root}: its files should end in one of {known}.")
    return sorted(files, key=lambda file: file.relative_to(root).parts)


def _walk(root: Path, reading: Reading) -> Iterator[Path]:
    """Files below ``root`` whose names do not begin with a dot; linked folders that lead out of it are counted."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        reading.links += sum(not _stays_inside(Path(folder) / name, root) for name in folders)
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _stays_inside(file: Path, root: Path) -> bool:
    return not file.is_symlink() or file.resolve().is_relative_to(root.resolve())
