"""Llama 3's outliers: documents whose words are distributed unlike the corpus's."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus.document import Document
from isoflop.corpus.rules.words import words
from isoflop.corpus.stage import Dropped, Stage, Verdict

_LIMITS = "limits.json"
_LONGEST_NAME = 100  # of a group: an array of names takes as much for each as for the longest
_BINS, _BIN = 4000, 0.01  # of divergences in nats; one that is above 40 is as outlying as can be


class Survey(NamedTuple):
    """The words of a shard: buckets and how often each occurs, document after document, and each document's group."""

    buckets: NDArray[np.uint32]
    counts: NDArray[np.uint32]
    ends: NDArray[np.int64]
    groups: NDArray[np.str_]

    def documents(self) -> Iterator[tuple[str, NDArray[np.uint32], NDArray[np.uint32]]]:
        """Each document's group, buckets and counts."""
        for group, (start, end) in zip(self.groups.tolist(), pairwise(self.ends.tolist()), strict=True):
            yield group, self.buckets[start:end], self.counts[start:end]

    def save(self, path: Path) -> None:
        """Write it atomically."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self._asdict())
        with files.disk_errors(path):
            files.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Survey:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


@dataclass(frozen=True)
class TokenOutliers(Stage):
    """Grattafiori et al. 2024 (arXiv 2407.21783), section 3.1.1: Kullback-Leibler divergence from the corpus.

    The divergence of a document's words from those of its group (all documents of its language, or source, or the
    whole corpus) is compared with documents of about its length, since a short one can only hold few words and
    diverges for that alone: lengths are classed by powers of two. It goes if it is above the median of its class by
    more than ``deviations`` times the class's median absolute deviation (scaled to a normal's standard deviation).
    Classes of fewer than ``min_class`` documents are left alone. The paper gives no figure; these are this project's
    own.

    Words are hashed into 2^``bits`` buckets, so that memory is 2^``bits`` counts a group whatever the corpus. The
    surveys on disk take at most 8 bytes for each different word of each document.
    """

    name: ClassVar[str] = "llama3_tokens"
    whole: ClassVar[bool] = True

    deviations: float = 6
    by: Literal["language", "source", "corpus"] = "language"
    min_class: int = 100
    bits: int = 18

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Count the words of each document."""
        counted = [self._count(document.text) for document in documents]
        empty = np.zeros(0, np.uint32)
        survey = Survey(
            np.concatenate([empty, *(buckets for buckets, _ in counted)]),
            np.concatenate([empty, *(counts for _, counts in counted)]),
            np.cumsum([0, *(len(buckets) for buckets, _ in counted)], dtype=np.int64),
            np.array([self._group(document) for document in documents], np.str_),
        )
        survey.save(folder / _survey(shard))

    def combine(self, shards: int, folder: Path) -> None:
        """Add up the groups, measure every document against its own, and find each class's limit."""
        paths = [folder / _survey(shard) for shard in range(shards)]
        logarithms = _log_frequencies(map(Survey.load, paths), 1 << self.bits)
        histograms: dict[str, NDArray[np.int64]] = {}
        for shard, survey in enumerate(map(Survey.load, paths)):
            measured = [
                _divergence(counts, logarithms[group][buckets]) for group, buckets, counts in survey.documents()
            ]
            classes = [_class(group, counts) for group, _, counts in survey.documents()]
            for name, divergence in zip(classes, measured, strict=True):
                histogram = histograms.setdefault(name, np.zeros(_BINS, np.int64))
                histogram[min(int(divergence / _BIN), _BINS - 1)] += 1
            files.write_json(folder / _measured(shard), list(zip(classes, measured, strict=True)))
        limits = {name: self._limit(histogram) for name, histogram in sorted(histograms.items())}
        files.write_json(folder / _LIMITS, limits)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Each document, or by how much it diverges."""
        limits = json.loads((folder / _LIMITS).read_text(encoding="utf-8"))
        measured = json.loads((folder / _measured(shard)).read_text(encoding="utf-8"))
        return [
            document
            if limits[name] is None or divergence <= limits[name]
            else Dropped(document, "outlying words", f"{divergence:.2f} nats > {limits[name]:.2f}")
            for document, (name, divergence) in zip(documents, measured, strict=True)
        ]

    def _count(self, text: str) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """The buckets of a text's words, ascending, and how many of its words are in each."""
        counter = Counter(words(text))
        hashed = np.fromiter((xxhash.xxh32_intdigest(word.encode()) for word in counter), np.uint32, len(counter))
        buckets, place = np.unique(hashed % (1 << self.bits), return_inverse=True)
        many = np.bincount(place, np.fromiter(counter.values(), np.int64, len(counter)), len(buckets))
        return buckets.astype(np.uint32), many.astype(np.uint32)

    def _group(self, document: Document) -> str:
        name = "" if self.by == "corpus" else document.language if self.by == "language" else document.source
        return name[:_LONGEST_NAME]

    def _limit(self, histogram: NDArray[np.int64]) -> float | None:
        """The largest divergence that stays, None where a class is too small to know."""
        if histogram.sum() < self.min_class:
            return None
        middles = np.linspace(0.5, _BINS - 0.5, _BINS) * _BIN
        median = _median(middles, histogram)
        deviation = 1.4826 * _median(np.abs(middles - median), histogram)
        return median + self.deviations * max(deviation, _BIN)


def _log_frequencies(surveys: Iterable[Survey], buckets: int) -> dict[str, NDArray[np.float64]]:
    """The logarithm of each bucket's share in each group; the buckets without words are never asked for."""
    totals: dict[str, NDArray[np.float64]] = {}
    for survey in surveys:
        for group, at, counts in survey.documents():
            totals.setdefault(group, np.zeros(buckets))[at] += counts
    return {group: np.log(np.maximum(total, 1) / max(total.sum(), 1)) for group, total in totals.items()}


def _divergence(counts: NDArray[np.uint32], logarithms: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence, in nats, of a document's words from a distribution; 0 if it has none."""
    shares = counts / max(counts.sum(), 1)
    return max(float(shares @ (np.log(shares) - logarithms)), 0.0)


def _class(group: str, counts: NDArray[np.uint32]) -> str:
    """The documents with which one is compared: its group's of 2^k to 2^(k + 1) − 1 words."""
    return f"{group}:{int(counts.sum()).bit_length() - 1}"


def _median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    order = np.argsort(values, kind="stable")
    heavy = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heavy, heavy[-1] / 2)])


def _survey(shard: int) -> str:
    return f"words-{shard:06}.npz"


def _measured(shard: int) -> str:
    return f"divergences-{shard:06}.json"
