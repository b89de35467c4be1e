"""A bounded sample of documents, as rows of features: the same whatever their order and however they are cut in shards.

Every document has a key, a hash of its id under a seed; the sample is the documents with the smallest keys, so samples
of shards merge into the sample of the whole. Memory: the rows of twice the sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus.document import Document
from isoflop.corpus.models.features import Features, Rows, rows
from isoflop.keys import UInt64s, derive_key


class Sample(NamedTuple):
    """Documents' keys, shape (documents,), ascending; all their rows; and the number of the document of each row."""

    keys: UInt64s
    rows: Rows
    owner: NDArray[np.int64]

    def of(self, number: int) -> Rows:
        """The rows of one document."""
        return self.rows[np.searchsorted(self.owner, number) : np.searchsorted(self.owner, number, "right")]

    def save(self, path: Path) -> None:
        """Write as safetensors, atomically."""
        from safetensors.numpy import save

        files.write_bytes(path, save(self._asdict()))

    @classmethod
    def load(cls, path: Path) -> Sample:
        """Read what ``save`` wrote."""
        from safetensors.numpy import load_file

        return cls(**load_file(path))


def identity(document: Document) -> str:
    """What chance about a document is keyed by: its id, and without one where it stands."""
    return document.id or document.place


def chance(name: str, seed: int, document: Document) -> float:
    """A number in [0, 1) that belongs to a document, for decisions called ``name``."""
    return derive_key(seed, name, identity(document)) / 2.0**64


def sample_of(stream: Iterable[Document], documents: int, features: Features, seed: int) -> Sample:
    """The sample of a stream: at most ``documents`` of those that hold a word."""
    kept, keys, tables = empty(features), [], []
    highest = 2**64
    for document in stream:
        key = derive_key(seed, "sample", identity(document))
        if key > highest:
            continue
        table = rows(document.text, features)
        if len(table):
            keys.append(key)
            tables.append(table)
        if len(keys) >= max(documents, 1):
            kept = merge([kept, _pack(keys, tables, features)], documents)
            keys, tables = [], []
            highest = int(kept.keys[-1]) if len(kept.keys) == documents else highest
    return merge([kept, _pack(keys, tables, features)], documents)


def merge(samples: Sequence[Sample], documents: int) -> Sample:
    """The sample of everything that ``samples`` are samples of."""
    keys = np.concatenate([sample.keys for sample in samples])
    offsets = np.cumsum([0] + [len(sample.keys) for sample in samples[:-1]])
    owner = np.concatenate([sample.owner + offset for sample, offset in zip(samples, offsets, strict=True)])
    table = np.concatenate([sample.rows for sample in samples])
    chosen = np.argsort(keys, kind="stable")[:documents]
    rank = np.full(len(keys), -1)
    rank[chosen] = np.arange(len(chosen))
    order = np.argsort(rank[owner], kind="stable")
    order = order[rank[owner[order]] >= 0]
    return Sample(keys[chosen], table[order], rank[owner[order]])


def empty(features: Features) -> Sample:
    """The sample of nothing."""
    return Sample(np.empty(0, np.uint64), np.empty((0, features.entries), np.uint32), np.empty(0, np.int64))


def _pack(keys: list[int], tables: list[Rows], features: Features) -> Sample:
    if not keys:
        return empty(features)
    owner = np.repeat(np.arange(len(keys)), [len(table) for table in tables])
    return Sample(np.array(keys, np.uint64), np.concatenate(tables), owner)
