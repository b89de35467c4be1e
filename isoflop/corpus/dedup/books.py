"""Books that are mostly contained in another book: LLaMA-1 drops those with more than 90% overlap.

Touvron et al. 2023 (arXiv 2302.13971, §2.1) do not say how overlap is measured. Here it is containment: the share of a
book's word n-grams that another book has, estimated from a sketch that keeps every n-gram whose hash falls in a fixed
fraction of all (FracMinHash; Irber et al. 2022, doi 10.1101/2022.01.11.475838). Unlike MinHash this sees a novel
inside collected works, whose Jaccard similarity is small. Of two that overlap, the one with fewer n-grams goes, unless
the other one went before; of equals, the later.

A share is off by about sqrt(p(1 − p) / (n-grams / scale)): half a point at 90% for 100,000 words at the default
scale, so books with fewer than ``least`` hashes kept are never judged. An n-gram in more than ``common`` books (a
licence, a publisher's notice) says nothing about two of them and is not counted, neither as shared nor in the share.
16 bytes a hash kept, compared out of core; one number a book, and the pairs that overlap, are held in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus.dedup import runs, verdicts
from isoflop.corpus.dedup.codepoints import batches
from isoflop.corpus.dedup.shingles import shingles
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Stage, Verdict
from isoflop.keys import UInt64s

RECORD = np.dtype([("key", "u8"), ("label", "u8")])
PAIR = np.dtype([("key", "u8"), ("other", "u8"), ("count", "u4")])
"""Two labels, the lower first, and how many hashes they share; a book with itself counts its own hashes."""


@dataclass(frozen=True)
class BookOverlap(Stage):
    """Drop books that are mostly in another one.

    Attributes:
        overlap: Largest share of a book that may be in another.
        n: Words an n-gram.
        scale: One n-gram in so many is kept in the sketch.
        least: A book with fewer hashes kept is not judged.
        common: An n-gram of more books than this is not counted.
        memory_mb: About how much memory comparing may take.
    """

    name: ClassVar[str] = "book_overlap"
    whole: ClassVar[bool] = True
    overlap: float = 0.9
    n: int = 5
    scale: int = 32
    least: int = 50
    common: int = 50
    memory_mb: int = 256

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Sketch a shard's books."""
        limit = np.uint64((1 << 64) // self.scale - 1)
        records = [np.empty(0, RECORD)]
        for batch in batches([document.text for document in documents]):
            hashes, texts = shingles(batch, self.n)
            sketch = np.empty(int((hashes <= limit).sum()), RECORD)
            sketch["key"] = hashes[hashes <= limit]
            sketch["label"] = verdicts.labels(shard, batch.first + texts[hashes <= limit])
            records.append(np.unique(sketch))
        runs.write(runs.run_path(folder, "hashes", shard), np.concatenate(records))

    def combine(self, shards: int, folder: Path) -> None:
        """Count what every two books share, and decide."""

        def fill(temporary: Path) -> None:
            merged = runs.merged(runs.run_paths(folder, "hashes", shards), self.memory_mb << 20)
            counted = itertools.chain.from_iterable(map(self._pairs, merged))
            for number, pairs in enumerate(counted):
                runs.write(runs.run_path(temporary, "pairs", number), pairs)

        files.write_folder(folder / "shared", fill)
        verdicts.decide(folder, [self._decisions(sorted((folder / "shared").glob("pairs-*.npy")))])

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Drop the books decided upon."""
        return verdicts.judge(documents, shard, folder, "overlaps with another book")

    def _pairs(self, records: runs.Records) -> Iterator[runs.Records]:
        """Every two books of each hash, and each book with itself, counted, a few at a time."""
        first = runs.first_of_key(records)
        rare = np.bincount(first, minlength=len(records))[first] <= self.common
        labels, first = records["label"][rare], first[rare]
        step = max(1, (self.memory_mb << 20) // (8 * PAIR.itemsize * self.common))
        for start in range(0, len(labels), step):
            here = np.arange(start, min(len(labels), start + step))
            left, right = [], []
            for distance in range(self.common):
                here = here[here >= distance]
                here = here[first[here] == first[here - distance]]
                left.append(labels[here - distance])
                right.append(labels[here])
            lower = np.concatenate(left)
            yield _counted(lower, np.concatenate(right), np.ones(len(lower), np.uint32))

    def _decisions(self, paths: Sequence[Path]) -> tuple[UInt64s, UInt64s]:
        """From the largest book to the smallest: it goes if too much of it is in one that stays."""
        sizes: dict[int, int] = {}
        for pairs in runs.merged(paths, self.memory_mb << 20):
            own = _counted(*(pairs[name][pairs["key"] == pairs["other"]] for name in PAIR.names or ()))
            sizes.update(zip(own["key"].tolist(), own["count"].tolist(), strict=True))
        larger: dict[int, list[int]] = {}
        for pairs in runs.merged(paths, self.memory_mb << 20):
            for a, b, shared in _counted(*(pairs[name] for name in PAIR.names or ())).tolist():
                small, large = sorted((a, b), key=lambda label: (sizes[label], -label))
                if a != b and sizes[small] >= self.least and shared > self.overlap * sizes[small]:
                    larger.setdefault(small, []).append(large)
        gone: dict[int, int] = {}
        for book in sorted(larger, key=lambda label: (-sizes[label], label)):
            stays = [other for other in larger[book] if other not in gone]
            if stays:
                gone[book] = min(stays)
        return np.fromiter(gone, np.uint64, len(gone)), np.fromiter(gone.values(), np.uint64, len(gone))


def _counted(lower: UInt64s, higher: UInt64s, counts: NDArray[np.uint32]) -> runs.Records:
    """Each different pair once, with the sum of its counts."""
    order = np.lexsort((higher, lower))
    pairs = np.empty(len(order), PAIR)
    pairs["key"], pairs["other"], pairs["count"] = lower[order], higher[order], counts[order]
    new = np.ones(len(pairs), bool)
    new[1:] = (pairs["key"][1:] != pairs["key"][:-1]) | (pairs["other"][1:] != pairs["other"][:-1])
    heads = np.flatnonzero(new)
    sums = np.add.reduceat(pairs["count"], heads) if len(heads) else np.zeros(0, np.uint32)
    pairs = pairs[heads]
    pairs["count"] = sums
    return pairs
