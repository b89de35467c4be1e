"""The default corpus of a machine with no data: the Python source that every installation carries.

First the standard library, then the packages installed beside isoflop, each in the sorted order of paths.
The corpus is as large as the installation (tens of MB with isoflop alone, hundreds with its extras) and
differs from one installation to the next; the fingerprint in a prepared corpus tells two of them apart.

Left out, each for a reason:

- folders named ``test`` or ``tests``: long tables of cases, and in the standard library deliberately broken
  text, much of it generated from one template;
- files of more than 1 MB: tables and generated parsers, a few of which would outweigh whole packages;
- files that say at their top that they are generated: one template repeated, which a model learns by heart;
- files that are not UTF-8: a handful with an encoding declaration, hardly text that anyone wants.

Exact duplicates (vendored packages) are left to the tokens stage, which drops them for every corpus.
"""

import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from isoflop.corpus.document import Document, Reading

LARGEST_FILE = 1_000_000
LEFT_OUT_FOLDERS = frozenset({"test", "tests", "__pycache__", "site-packages", "dist-packages"})

_GENERATED = re.compile(rb"(?i)(auto-?|automatically |file is |code is |was )generated|do not edit")
_TOP = 500


def installed_sources(reading: Reading | None = None) -> Iterator[Document]:
    """One document a source file, named ``stdlib/json/decoder.py`` or ``numpy/_core/numeric.py``."""
    reading = reading or Reading()
    installed = sysconfig.get_paths()
    roots = [(Path(installed["stdlib"]), "stdlib/")]
    roots += [(Path(folder), "") for folder in sorted({installed["purelib"], installed["platlib"]})]
    return sources_below(roots, reading)


def sources_below(roots: list[tuple[Path, str]], reading: Reading) -> Iterator[Document]:
    """The Python sources below each root, their relative paths prefixed with the root's name."""
    files = [(file, prefix + file.relative_to(root).as_posix()) for root, prefix in roots for file in _files(root)]
    reading.disk_bytes += sum(file.stat().st_size for file, _ in files)
    for file, name in files:
        data = file.read_bytes()
        reading.disk_bytes_read += len(data)
        if _GENERATED.search(data[:_TOP]):
            continue
        reading.records += 1
        try:
            text = data.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            reading.quarantine(name, f"not UTF-8 at byte {error.start}")
            continue
        if text.strip():
            yield Document(text, name, name, "python", extra={"path": name})
        else:
            reading.empty += 1
    reading.finish("the Python installation")


def _files(root: Path) -> list[Path]:
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT_FOLDERS and not name.startswith(".")]
        files += [Path(folder) / name for name in names if name.endswith(".py")]
    files = [file for file in files if file.is_file() and file.stat().st_size <= LARGEST_FILE]
    return sorted(files, key=lambda file: file.relative_to(root).parts)
