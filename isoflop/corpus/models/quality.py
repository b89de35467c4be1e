"""Stage ``quality_classifier``: keeps documents that look more like a reference corpus than like this one.

LLaMA-1 drops CommonCrawl pages that a linear classifier does not take for a page that Wikipedia cites (arXiv
2302.13971, §2.1); RedPajama's reproduction keeps a score of 0.25 and above. Positives are documents of ``reference``;
negatives are a sample of the corpus being cleaned, which needs no label because most of it is not like the reference.
Trained on windows of one size, so the length of documents says nothing (``features.py``).

``classifier.json`` in the stage's folder says how well the two are told apart on documents held out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from isoflop import files
from isoflop.corpus import documents as read_documents
from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.classifier import Classifier, Training, train_on_samples
from isoflop.corpus.models.features import full
from isoflop.corpus.models.sampling import Sample, empty, merge, sample_of
from isoflop.corpus.stage import Dropped, Stage, Verdict


@dataclass(frozen=True)
class QualityClassifier(Stage):
    """Drops documents that score below ``threshold``, or all but the best ``keep``.

    Attributes:
        reference: Path of a corpus of the kind that is wanted; ``"python"`` is the default corpus.
        threshold: The least score that stays (RedPajama: 0.25).
        keep: If given, the share of documents that stays, instead of ``threshold``, as estimated on the sample.
        training: Features, sample sizes and penalty.
    """

    name: ClassVar[str] = "quality_classifier"
    whole: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("reference",)
    reference: str
    threshold: float = 0.25
    keep: float | None = None
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or (self.keep is not None and not 0 < self.keep <= 1):
            raise ValueError("quality_classifier: threshold must lie in [0, 1], and keep in (0, 1]")

    def prepare(self, folder: Path) -> None:
        """Sample the reference."""
        self._sample(read_documents(self.reference)).save(folder / "reference.safetensors")

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Sample one shard."""
        self._sample(documents).save(folder / f"survey-{shard:05d}.safetensors")

    def combine(self, shards: int, folder: Path) -> None:
        """Train, and settle the threshold."""
        negatives = empty(self.training.features)
        for shard in range(shards):
            shard_sample = Sample.load(folder / f"survey-{shard:05d}.safetensors")
            negatives = merge([negatives, shard_sample], self.training.documents)
        positives = Sample.load(folder / "reference.safetensors")
        classifier, figures = train_on_samples(positives, negatives, self.training)
        threshold = self.threshold
        scores = [classifier.score_rows(negatives.of(number)) for number in range(len(negatives.keys))]
        if self.keep is not None:
            threshold = float(np.quantile(scores, 1 - self.keep))
        classifier.save(folder / "classifier.safetensors")
        figures |= {
            "threshold": threshold,
            "share_of_sample_kept": float(np.mean(np.array(scores) >= threshold)),
            "full_windows_of_sample": float(full(negatives.rows, self.training.features).mean()),
        }
        files.write_json(folder / "classifier.json", figures)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Score and keep those that reach the threshold, with their score in ``extra``."""
        classifier = Classifier.load(folder / "classifier.safetensors")
        try:
            threshold = float(json.loads((folder / "classifier.json").read_text())["threshold"])
        except (OSError, ValueError, KeyError) as error:
            raise CorpusError(f"{folder} has no threshold of quality_classifier ({error}): run it again.") from None
        scores = classifier.score(document.text for document in documents)
        return [
            document._replace(extra={**document.extra, "quality": round(score, 4)})
            if score >= threshold
            else Dropped(document, "unlike the reference", f"{score:.3f}")
            for document, score in zip(documents, scores.tolist(), strict=True)
        ]

    def _sample(self, documents: Iterable[Document]) -> Sample:
        how = self.training
        return sample_of(documents, how.documents, how.features, how.seed)
