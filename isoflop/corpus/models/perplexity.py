"""Stage ``perplexity``: sorts documents by how much they surprise a language model of a reference corpus.

CCNet (arXiv 1911.00359, §3.3) trains a 5-gram Kneser–Ney model on Wikipedia and cuts each language at the 30th and
60th percentile of perplexity into head, middle and tail. Here the order is 4 by default and the unit is the word
(``ngram.py``); percentiles are exact and taken over the corpus being cleaned, language by language. The bucket and
the perplexity go to a document's ``extra``; low perplexity is near the reference, which is not always good: lists and
forms are in the head too.

Combining holds 8 bytes per document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus import documents as read_documents
from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.ngram import LanguageModel, NgramConfig, train_language_model
from isoflop.corpus.stage import Dropped, Stage, Verdict

BUCKETS = ("head", "middle", "tail")
MOST = 700.0  # nats per word, whose exponential is still a number


@dataclass(frozen=True)
class Perplexity(Stage):
    """Puts documents into head, middle and tail, and drops the buckets that are not kept.

    Attributes:
        reference: Path of the corpus to train the model on, or the folder of one by ``train_language_model``.
        percentiles: Where the head and the middle end (CCNet: 30 and 60).
        keep: The buckets that stay.
        by_language: Percentiles for each language of the documents, and not over all of them.
        model: Order, vocabulary and smoothing of a model trained here.
    """

    name: ClassVar[str] = "perplexity"
    whole: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("reference",)
    reference: str
    percentiles: tuple[float, float] = (30.0, 60.0)
    keep: tuple[str, ...] = ("head", "middle")
    by_language: bool = True
    model: NgramConfig = field(default_factory=NgramConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.percentiles[0] <= self.percentiles[1] <= 100:
            raise ValueError(f"perplexity.percentiles must rise within [0, 100], not {self.percentiles}")
        if unknown := set(self.keep) - set(BUCKETS):
            raise ValueError(f"perplexity.keep knows {', '.join(BUCKETS)}, not {', '.join(sorted(unknown))}")

    def prepare(self, folder: Path) -> None:
        """Train the model, unless the reference is one."""
        if self._given() is None:
            train_language_model(
                lambda: (document.text for document in read_documents(self.reference)), folder / "model", self.model
            )

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Write the nats per word of every document."""
        from safetensors.numpy import save

        model = LanguageModel.load(self._given() or folder / "model")
        nats = np.array([s.per_word for s in model.surprise([d.text for d in documents])], np.float64)
        languages = sorted({self._group(document) for document in documents})
        groups = np.array([languages.index(self._group(document)) for document in documents], np.int32)
        data = save({"nats": nats, "group": groups}, metadata={"languages": json.dumps(languages)})
        files.write_bytes(folder / f"survey-{shard:05d}.safetensors", data)

    def combine(self, shards: int, folder: Path) -> None:
        """Settle the percentiles of each language."""
        nats: dict[str, list[NDArray[np.float64]]] = {}
        for shard in range(shards):
            values, groups, languages = _read(folder, shard)
            for number, language in enumerate(languages):
                nats.setdefault(language, []).append(values[groups == number])
        cuts = {name: np.percentile(np.concatenate(parts), self.percentiles).tolist() for name, parts in nats.items()}
        files.write_json(folder / "perplexity.json", dict(sorted(cuts.items())))

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Documents of the buckets that are kept, with ``perplexity`` and ``bucket`` in ``extra``."""
        nats, _, _ = _read(folder, shard)
        if len(nats) != len(documents):
            raise CorpusError(f"shard {shard} has {len(documents)} documents, and {len(nats)} when it was surveyed")
        cuts = json.loads((folder / "perplexity.json").read_text())
        return [self._verdict(d, float(n), cuts[self._group(d)]) for d, n in zip(documents, nats, strict=True)]

    def _verdict(self, document: Document, nats: float, cuts: list[float]) -> Verdict:
        bucket = BUCKETS[sum(nats > cut for cut in cuts)]
        perplexity = float(f"{math.exp(min(nats, MOST)):.5g}")
        if bucket not in self.keep:
            return Dropped(document, f"perplexity {bucket}", f"{perplexity:.4g}")
        return document._replace(extra={**document.extra, "perplexity": perplexity, "bucket": bucket})

    def _group(self, document: Document) -> str:
        return document.language if self.by_language else ""

    def _given(self) -> Path | None:
        """The folder of a ready model, if the reference is one."""
        path = Path(self.reference).expanduser()
        return path if (path / "model.json").is_file() and (path / "vocabulary.npy").is_file() else None


def _read(folder: Path, shard: int) -> tuple[NDArray[np.float64], NDArray[np.int32], list[str]]:
    from safetensors import safe_open

    with safe_open(folder / f"survey-{shard:05d}.safetensors", framework="numpy") as file:
        return file.get_tensor("nats"), file.get_tensor("group"), json.loads(file.metadata()["languages"])
