"""Near-duplicates by MinHash and locality-sensitive hashing, out of core.

The survey sketches every document (``sketch.py``), cuts the sketch into bands, and leaves one sorted run of band hashes
a shard. Documents that share a band are candidates: two of Jaccard similarity s are with a probability of
1 − (1 − s^rows)^bands. All bands are read together, a range of hashes at a time; each document of a band is joined to
the band's first, and of every connected component one document stays. No document depends on how the corpus was cut.

Named settings: ``FINEWEB`` (Penedo et al. 2024, arXiv 2406.17557: 14 bands of 8, words in fives; the default) reaches
one half at a similarity of 0.68, ``REFINEDWEB`` (Penedo et al. 2023, arXiv 2306.01116: 20 bands of 450) at 0.993.

A document without a word is nobody's duplicate; one of fewer than n words is only that of a text with the same words.
Disk: 16 bytes a document and band, and 4 a place of the sketch where ``similarity`` is set. Memory: one range, and 8
bytes a document mapped from disk while components are found (24 with ``keep = "longest"``).
Left out: exact Jaccard of candidates, which would need the texts again; ``similarity`` asks the sketches instead.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from isoflop import files
from isoflop.corpus.dedup import runs, verdicts
from isoflop.corpus.dedup.codepoints import Int64s, UInt32s, batches
from isoflop.corpus.dedup.components import CHUNK, Components, mapped
from isoflop.corpus.dedup.shingles import STEP, shingles
from isoflop.corpus.dedup.sketch import sketches
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Stage, Verdict
from isoflop.keys import UInt64s, mix

RECORD = np.dtype([("key", "u8"), ("label", "u8")])
PLACES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class NearDuplicates(Stage):
    """Of documents that are nearly the same, one stays.

    Attributes:
        n: Words a shingle.
        bands: How many bands; one in common makes two documents candidates.
        rows: Places of the sketch in a band.
        similarity: Least share of places in which a candidate's sketch agrees with that of the band's first
            document; 0 believes every candidate, as FineWeb does.
        keep: Which document of a component stays: the ``first`` of the corpus, or the ``longest``.
        seed: Picks the hash functions.
        memory_mb: About how much memory comparing may take.
    """

    name: ClassVar[str] = "near_duplicates"
    whole: ClassVar[bool] = True
    n: int = 5
    bands: int = 14
    rows: int = 8
    similarity: float = 0.0
    keep: Literal["first", "longest"] = "first"
    seed: int = 0
    memory_mb: int = 256

    def __post_init__(self) -> None:
        if min(self.n, self.bands, self.rows) < 1 or not 0 <= self.similarity <= 1:
            raise ValueError(f"near_duplicates needs n, bands and rows of 1 or more and similarity in 0 … 1: {self}")

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Sketch a shard's documents and hash the bands."""
        size = self.bands * self.rows
        texts = [document.text for document in documents]
        records, kept = [], []
        for batch in batches(texts, texts_at_most=max(16, PLACES_AT_ONCE // size)):
            count = len(batch.starts)
            hashes, sets = shingles(batch, self.n)
            table = sketches(hashes, sets, count, size, self.seed)
            numbers = np.flatnonzero(np.bincount(sets, minlength=count))
            bands = np.empty((len(numbers), self.bands), RECORD)
            bands["key"] = self._band_hashes(table[numbers])
            bands["label"] = verdicts.labels(shard, batch.first + numbers)[:, None]
            records.append(bands.ravel())
            kept.append(table)
        if self.similarity:
            runs.save(runs.run_path(folder, "sketches", shard), np.concatenate([np.empty((0, size), np.uint32), *kept]))
        runs.write(runs.run_path(folder, "bands", shard), np.concatenate([np.empty(0, RECORD), *records]))
        runs.save(runs.run_path(folder, "lengths", shard), np.array([len(text) for text in texts], np.int64))

    def combine(self, shards: int, folder: Path) -> None:
        """Join candidates into components and decide which document of each stays."""
        scratch = files.temporary_for(folder / "components")
        scratch.mkdir()
        try:
            lengths = [len(np.load(path, mmap_mode="r")) for path in runs.run_paths(folder, "lengths", shards)]
            offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
            components = Components(scratch / "parents.npy", int(offsets[-1]))
            for left, right in self._candidates(shards, folder):
                components.union(_numbers(left, offsets), _numbers(right, offsets))
            kept = self._longest(components, shards, folder, offsets, scratch) if self.keep == "longest" else None
            verdicts.decide(folder, _decisions(components, kept, offsets))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Drop all but one document of each component."""
        return verdicts.judge(documents, shard, folder, "near duplicate")

    def _band_hashes(self, table: UInt32s) -> UInt64s:
        """One hash a document and band (documents, bands), different bands unrelated."""
        rows = table.reshape(len(table), self.bands, self.rows)
        hashes = np.broadcast_to(np.arange(self.bands, dtype=np.uint64), rows.shape[:2])
        for row in range(self.rows):
            hashes = mix(hashes * STEP + rows[:, :, row])
        return hashes

    def _candidates(self, shards: int, folder: Path) -> Iterator[tuple[UInt64s, UInt64s]]:
        """Labels of documents that share a band with an earlier one, and those of the first that has it."""
        for records in runs.merged(runs.run_paths(folder, "bands", shards), self.memory_mb << 20):
            first = runs.first_of_key(records)
            later = np.flatnonzero(first != np.arange(len(records)))
            left, right = _distinct(records["label"][later], records["label"][first[later]])
            if self.similarity and len(left):
                near = self._agreement(left, right, folder) >= self.similarity
                left, right = left[near], right[near]
            yield left, right

    def _agreement(self, left: UInt64s, right: UInt64s, folder: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The share of places in which two documents' sketches agree, an estimate of their Jaccard similarity."""
        size = self.bands * self.rows
        shares = np.empty(len(left))
        step = max(1, (self.memory_mb << 20) // (32 * size))
        for start in range(0, len(left), step):
            here = slice(start, start + step)
            same = _rows(left[here], folder, size) == _rows(right[here], folder, size)
            shares[here] = same.mean(axis=1)
        return shares

    def _longest(self, components: Components, shards: int, folder: Path, offsets: Int64s, scratch: Path) -> Int64s:
        """For the root of every component, the number of its longest document, of several the first."""
        longest = mapped(scratch / "longest.npy", int(offsets[-1]))
        length = np.lib.format.open_memmap(scratch / "length.npy", mode="w+", dtype=np.int64, shape=longest.shape)
        for path, low, high in zip(runs.run_paths(folder, "lengths", shards), offsets, offsets[1:], strict=False):
            numbers, own = np.arange(low, high), np.load(path)
            np.maximum.at(length, components.find(numbers), own)
        for path, low, high in zip(runs.run_paths(folder, "lengths", shards), offsets, offsets[1:], strict=False):
            numbers, own = np.arange(low, high), np.load(path)
            roots = components.find(numbers)
            best = np.flatnonzero(own == length[roots])
            found, earliest = np.unique(roots[best], return_index=True)
            longest[found] = numbers[best[earliest]]
            length[found] = -1  # found: no later document of the component is as long as that
        return longest


FINEWEB = NearDuplicates()
REFINEDWEB = NearDuplicates(bands=20, rows=450)


def _distinct(left: UInt64s, right: UInt64s) -> tuple[UInt64s, UInt64s]:
    """Every pair once: two documents may share many bands."""
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    new = np.ones(len(left), bool)
    new[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return left[new], right[new]


def _numbers(labels: UInt64s, offsets: Int64s) -> Int64s:
    """Where the labelled documents stand in the corpus."""
    low = labels & np.uint64((1 << verdicts.SHARD_BITS) - 1)
    return offsets[(labels >> np.uint64(verdicts.SHARD_BITS)).astype(np.int64)] + low.astype(np.int64)


def _labels(numbers: Int64s, offsets: Int64s) -> UInt64s:
    shards = np.searchsorted(offsets, numbers, side="right") - 1
    return shards.astype(np.uint64) << np.uint64(verdicts.SHARD_BITS) | (numbers - offsets[shards]).astype(np.uint64)


def _rows(labels: UInt64s, folder: Path, size: int) -> UInt32s:
    """The sketches of the labelled documents (documents, size)."""
    rows = np.empty((len(labels), size), np.uint32)
    shards = labels >> np.uint64(verdicts.SHARD_BITS)
    for shard in np.unique(shards).tolist():
        here = np.flatnonzero(shards == shard)
        numbers = labels[here] & np.uint64((1 << verdicts.SHARD_BITS) - 1)
        rows[here] = np.load(runs.run_path(folder, "sketches", shard), mmap_mode="r")[numbers.astype(np.int64)]
    return rows


def _decisions(components: Components, kept: Int64s | None, offsets: Int64s) -> Iterator[tuple[UInt64s, UInt64s]]:
    """Every document that goes with the one that stays for it, a few at a time."""
    for start, stop in itertools.pairwise([*range(0, int(offsets[-1]), CHUNK), int(offsets[-1])]):
        numbers = np.arange(start, stop)
        stays = components.find(numbers)
        stays = stays if kept is None else kept[stays]
        gone = stays != numbers
        yield _labels(numbers[gone], offsets), _labels(stays[gone], offsets)
