"""Exact duplicates: documents whose texts are the same once normalised. Blank documents are never duplicates.

One 24-byte record a document; memory is one range of hashes. Left out: comparing the texts themselves, since a hash
of 64 bits is wrong about one document in a corpus of a billion with a chance of 3%.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.corpus.dedup import runs, verdicts
from isoflop.corpus.dedup.normalise import Normalisation, fingerprint
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Stage, Verdict

RECORD = np.dtype([("key", "u8"), ("label", "u8"), ("length", "u8")])


@dataclass(frozen=True)
class ExactDuplicates(Stage):
    """Of documents with the same text, one stays.

    Attributes:
        normalise: When texts are the same: ``none``, ``space``, ``case`` or ``ccnet``.
        keep: Which one stays: the ``first`` of the corpus, or the ``longest`` (of equally long ones the first).
        memory_mb: About how much memory comparing may take.
    """

    name: ClassVar[str] = "exact_duplicates"
    whole: ClassVar[bool] = True
    normalise: Normalisation = "space"
    keep: Literal["first", "longest"] = "first"
    memory_mb: int = 256

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Hash the documents of a shard."""
        full = [(i, document.text) for i, document in enumerate(documents) if document.text.strip()]
        records = np.empty(len(full), RECORD)
        records["key"] = np.array([fingerprint(text, self.normalise) for _, text in full], np.uint64)
        records["label"] = verdicts.labels(shard, np.array([i for i, _ in full], np.int64))
        records["length"] = [len(text) for _, text in full]
        runs.write(runs.run_path(folder, "hashes", shard), records)

    def combine(self, shards: int, folder: Path) -> None:
        """Find the hashes that occur twice."""
        verdicts.decide(folder, self._decisions(shards, folder))

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Drop all but one of each."""
        return verdicts.judge(documents, shard, folder, "exact duplicate")

    def _decisions(self, shards: int, folder: Path) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
        for records in runs.merged(runs.run_paths(folder, "hashes", shards), self.memory_mb << 20):
            if self.keep == "longest":
                records = records[np.lexsort((records["label"], ~records["length"], records["key"]))]
            first = runs.first_of_key(records)
            gone = first != np.arange(len(records))
            yield records["label"][gone], records["label"][first[gone]]
