"""Lines and paragraphs that many documents share: cookie notices, menus, licence headers, quoted chains of mail.

Two stages of one kind, with different defaults. ``duplicate_lines`` is Llama 3's (Grattafiori et al. 2024, §3.1.1): a
line that more than 6 in 30 million documents hold goes wherever it stands; a smaller corpus counts as one of 30
million. A line counts once a document here, so that a refrain is not boilerplate; the paper does not say.
``duplicate_paragraphs`` is after CCNet's (Wenzek et al. 2019, §3.2): only the first occurrence in the corpus stays.
CCNet's own paragraphs are lines, and its code (``deduplicate_two_pass``) removes the first occurrence too: that is
``unit = "line"``, ``keep_first = false``, ``normalise = "ccnet"``.

**What is never compared**, so that code, verse and formulas survive: a unit with fewer than ``letters`` bytes of
letters in UTF-8 (20: three Chinese words, two or three English ones). That spares blank lines, ``}``, ``x = 1``,
``\\end{proof}``, ``import os``. It does not spare ``from collections.abc import Sequence``; name the sources of code
in ``spare``.

One 16- or 24-byte record per different unit and shard. The judge holds the table of repeated units, mapped from disk.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from isoflop import files
from isoflop.corpus.dedup import runs, verdicts
from isoflop.corpus.dedup.normalise import Normalisation, fingerprint
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict

RECORD = np.dtype([("key", "u8"), ("label", "u8"), ("count", "u4")])
SEPARATORS = {"line": re.compile(r"(\n)"), "paragraph": re.compile(r"(\n[^\S\n]*\n\s*)")}
NO_LETTER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True)
class DuplicateUnits(Stage):
    """Cut out the units of text that occur too often.

    Attributes:
        unit: A ``line``, or a ``paragraph`` between blank lines.
        times: How often a unit may occur.
        per_documents: In how many documents it may do so; 0 for the corpus, whatever its size.
        count: Whether ``occurrences`` are counted or ``documents``.
        keep_first: Whether the first occurrence of the corpus stays.
        normalise: When units are the same: ``none``, ``space``, ``case`` or ``ccnet``.
        letters: A unit with fewer bytes of letters is never compared.
        spare: Sources whose documents are neither counted nor cut.
        memory_mb: About how much memory comparing may take.
    """

    whole: ClassVar[bool] = True
    unit: Literal["line", "paragraph"] = "line"
    times: int = 1
    per_documents: int = 0
    count: Literal["documents", "occurrences"] = "occurrences"
    keep_first: bool = True
    normalise: Normalisation = "case"
    letters: int = 20
    spare: tuple[str, ...] = ()
    memory_mb: int = 256

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Count the units of a shard, and note where each is first."""
        counts: Counter[int] = Counter()
        first: dict[int, int] = {}
        for number, document in enumerate(documents):
            found = [key for key in self._keys(document, self._pieces(document)) if key is not None]
            counts.update(set(found) if self.count == "documents" else found)
            for key in found:
                first.setdefault(key, number)
        records = np.empty(len(first), RECORD)
        records["key"] = np.fromiter(first, np.uint64, len(first))
        records["label"] = verdicts.labels(shard, np.fromiter(first.values(), np.int64, len(first)))
        records["count"] = np.fromiter((counts[key] for key in first), np.uint32, len(first))
        runs.write(runs.run_path(folder, "units", shard), records)
        runs.save(runs.run_path(folder, "documents", shard), np.array([len(documents)]))

    def combine(self, shards: int, folder: Path) -> None:
        """Write the table of the units that occur too often: their hash, and the document in which each is first."""
        limit = float(self.times)
        if self.per_documents:
            documents = sum(int(np.load(path)[0]) for path in runs.run_paths(folder, "documents", shards))
            limit *= max(1.0, documents / self.per_documents)

        def fill(temporary: Path) -> None:
            merged = runs.merged(runs.run_paths(folder, "units", shards), self.memory_mb << 20)
            for number, records in enumerate(merged):
                heads = np.unique(runs.first_of_key(records))
                often = np.add.reduceat(records["count"], heads, dtype=np.int64) > limit
                runs.save(runs.run_path(temporary, "key", number), records["key"][heads[often]])
                runs.save(runs.run_path(temporary, "first", number), records["label"][heads[often]])

        files.write_folder(folder / "often", fill)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Cut the units of the table out of a shard's documents."""
        pieces = [self._pieces(document) for document in documents]
        keys = [self._keys(document, cut) for document, cut in zip(documents, pieces, strict=True)]
        first = self._lookup({key for found in keys for key in found if key is not None}, folder)
        verdicts: list[Verdict] = []
        for number, document in enumerate(documents):
            label = shard << 32 | number
            gone = list(self._gone(keys[number], label, first))
            verdicts.append(self._verdict(document, pieces[number], gone))
        return verdicts

    def _pieces(self, document: Document) -> list[str]:
        """Units and separators in turn, beginning and ending with a unit."""
        return SEPARATORS[self.unit].split(document.text)

    def _keys(self, document: Document, pieces: list[str]) -> list[int | None]:
        """The hash of each unit, or None where a unit is never compared."""
        if document.source in self.spare:
            return [None] * (len(pieces) // 2 + 1)
        least = self.letters
        return [fingerprint(unit, self.normalise) if _has_letters(unit, least) else None for unit in pieces[::2]]

    def _gone(self, keys: list[int | None], label: int, first: dict[int, int]) -> Iterator[bool]:
        """Whether each unit of a document goes; ``first`` says where each unit that is too frequent occurs first."""
        spent: set[int] = set()
        for key in keys:
            if key is None or key not in first:
                yield False
            elif self.keep_first and first[key] == label and key not in spent:
                spent.add(key)
                yield False
            else:
                yield True

    def _verdict(self, document: Document, pieces: list[str], gone: list[bool]) -> Verdict:
        if not any(gone):
            return document
        separators = [*pieces[1::2], ""]
        text = "".join(
            unit + separator for unit, separator, out in zip(pieces[::2], separators, gone, strict=True) if not out
        )
        if not text.strip():
            return Dropped(document, f"nothing but duplicate {self.unit}s", f"{sum(gone)} {self.unit}s")
        return document._replace(text=text)

    def _lookup(self, keys: set[int], folder: Path) -> dict[int, int]:
        """Those of the keys that are in the table, with the document in which each is first."""
        wanted = np.sort(np.fromiter(keys, np.uint64, len(keys)))
        found: dict[int, int] = {}
        for path in sorted((folder / "often").glob("key-*.npy")):
            table = np.load(path, mmap_mode="r")
            if not len(table):
                continue
            first = np.load(path.with_name(path.name.replace("key", "first")), mmap_mode="r")
            here = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
            hit = table[here] == wanted
            found.update(zip(wanted[hit].tolist(), first[here[hit]].tolist(), strict=True))
        return found


def _has_letters(unit: str, least: int) -> bool:
    """Whether the letters of a unit have at least so many bytes in UTF-8."""
    if len(unit) * 4 < least:
        return False
    if unit.isascii():
        return sum(map(str.isalpha, unit[: 2 * least])) >= least or len(NO_LETTER.sub("", unit)) >= least
    return len(NO_LETTER.sub("", unit).encode("utf-8", "surrogatepass")) >= least


@dataclass(frozen=True)
class DuplicateLines(DuplicateUnits):
    """Llama 3's rule: a line in more than 6 of 30 million documents goes everywhere."""

    name: ClassVar[str] = "duplicate_lines"
    unit: Literal["line", "paragraph"] = "line"
    times: int = 6
    per_documents: int = 30_000_000
    count: Literal["documents", "occurrences"] = "documents"
    keep_first: bool = False
    normalise: Normalisation = "space"


@dataclass(frozen=True)
class DuplicateParagraphs(DuplicateUnits):
    """After CCNet: of a paragraph, only the first occurrence stays."""

    name: ClassVar[str] = "duplicate_paragraphs"
    unit: Literal["line", "paragraph"] = "paragraph"
