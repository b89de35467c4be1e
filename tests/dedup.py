"""Running a stage in the tests of deduplication: over any cut into shards, and invented prose with planted copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict


def run(stage: Stage, texts: Sequence[str], folder: Path, cuts: Sequence[int] = (), source: str = "") -> list[Verdict]:
    """The verdicts on the texts, cut into shards at ``cuts``, in the order of the texts."""
    bounds = [0, *cuts, len(texts)]
    documents = [Document(text, f"t:{i}", f"t:{i}", source) for i, text in enumerate(texts)]
    shards = [documents[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]
    folder.mkdir(exist_ok=True)
    stage.prepare(folder)
    if stage.whole:
        for number in reversed(range(len(shards))):
            stage.survey(shards[number], number, folder)
        stage.combine(len(shards), folder)
    judged = {number: stage.judge(shards[number], number, folder) for number in reversed(range(len(shards)))}
    return [verdict for number in range(len(shards)) for verdict in judged[number]]


def kept(verdicts: Sequence[Verdict]) -> list[int]:
    """The numbers of the documents that stay."""
    return [i for i, verdict in enumerate(verdicts) if not isinstance(verdict, Dropped)]


def texts_of(verdicts: Sequence[Verdict]) -> list[str | None]:
    """The texts that are left, None for documents that went."""
    return [None if isinstance(verdict, Dropped) else verdict.text for verdict in verdicts]


def prose(rng: np.random.Generator, words: int, vocabulary: int = 5000) -> list[str]:
    """Invented words in an order without sense, so that no two texts share a run of five by chance."""
    return [f"w{number}" for number in rng.integers(0, vocabulary, words)]
