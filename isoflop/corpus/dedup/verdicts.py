"""Which documents go because another one stays, decided in ``combine`` and looked up in ``judge``.

A document is known by its label: its shard in the upper 32 bits, its number in the shard below, so labels sort as
the corpus does. A decision is a pair of labels: one that goes, and one that stays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus.dedup import runs
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Verdict

SHARD_BITS = 32
DECISION = np.dtype([("key", "u8"), ("kept", "u8")])
FOLDER = "decided"


def labels(shard: int, numbers: NDArray[Any]) -> NDArray[np.uint64]:
    """The labels of a shard's documents of the given numbers."""
    return np.uint64(shard << SHARD_BITS) | numbers.astype(np.uint64)


def decide(folder: Path, batches: Iterable[tuple[NDArray[np.uint64], NDArray[np.uint64]]]) -> None:
    """Write down, batch by batch, the labels of documents that go and of those that stay for them."""

    def fill(temporary: Path) -> None:
        for number, (gone, kept) in enumerate(batches):
            decisions = np.empty(len(gone), DECISION)
            decisions["key"], decisions["kept"] = gone, kept
            runs.write(runs.run_path(temporary, "gone", number), decisions)

    files.write_folder(folder / FOLDER, fill)


def judge(documents: Sequence[Document], shard: int, folder: Path, reason: str) -> list[Verdict]:
    """Drop the documents that were decided to go; the detail names the one that stays by shard and number."""
    verdicts: list[Verdict] = list(documents)
    paths = sorted((folder / FOLDER).glob("gone-*.npy"))
    if not paths:
        return verdicts
    for label, kept in runs.between(paths, shard << SHARD_BITS, (shard + 1) << SHARD_BITS).tolist():
        number = label & (1 << SHARD_BITS) - 1
        detail = f"document {kept & (1 << SHARD_BITS) - 1} of shard {kept >> SHARD_BITS} stays"
        verdicts[number] = Dropped(documents[number], reason, detail)
    return verdicts
