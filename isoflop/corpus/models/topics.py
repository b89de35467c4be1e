"""Stage ``topics``: thins out what the corpus has too much of.

Llama 3 classifies web pages by the knowledge they hold and down-samples kinds that are over-represented on the web,
such as arts and entertainment (arXiv 2407.21783, §3.1.2). Topics come from labelled examples or from clusters
(``topic_models.py``). A topic with more than ``cap`` of the bytes that remain loses documents until it has that
share, each by a draw that belongs to its id: independent of shards, and the documents kept at a lower cap are among
those kept at a higher.

``topics.json`` in the stage's folder has each topic's bytes and the rate at which it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus import documents as read_documents
from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.classifier import Classifier, Training
from isoflop.corpus.models.features import Features
from isoflop.corpus.models.sampling import chance, sample_of
from isoflop.corpus.models.topic_models import OTHER, ClusterTopics, LabelledTopics, Topics, find_clusters, sample_texts
from isoflop.corpus.stage import Dropped, Stage, Verdict


@dataclass(frozen=True)
class TopicSampling(Stage):
    """Names each document's topic in ``extra``, and holds every topic to a share of the bytes.

    Attributes:
        examples: Paths of corpora, each the examples of the topic that its last name says; two at least.
        corpus: Or the path of a corpus in which to find ``clusters`` topics, such as the one being cleaned.
        clusters: How many topics to find.
        cap: The largest share of the remaining bytes that a topic may have. ``other`` is not capped.
        documents: How many documents of ``corpus``, or of each of ``examples``, are learned from.
        training: How labelled topics are trained.
        seed: What the draws and the starts of clusters are keyed by.
    """

    name: ClassVar[str] = "topics"
    whole: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("examples", "corpus")
    examples: tuple[str, ...] = ()
    corpus: str = ""
    clusters: int = 16
    cap: float = 0.25
    training: Training = field(default_factory=lambda: Training(features=Features(bits=18), documents=3000))
    documents: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        names = [Path(path).name for path in self.examples]
        if bool(self.examples) == bool(self.corpus) or len(self.examples) == 1 or len(set(names)) < len(names):
            raise ValueError("topics: give two or more examples with different last names, or else a corpus to cluster")
        if not 0 < self.cap <= 1 or self.clusters < 2:
            raise ValueError("topics: cap must lie in (0, 1], and clusters be at least 2")

    def prepare(self, folder: Path) -> None:
        """Learn the topics."""
        if self.corpus:
            texts = sample_texts(read_documents(self.corpus), self.documents, self.seed)
            found = find_clusters(texts, self.clusters, self.seed)
            found.save(folder / "clusters.safetensors")
            files.write_json(folder / "names.json", found.names)
            return
        how = self.training
        samples = {
            Path(path).name: sample_of(read_documents(path), how.documents, how.features, how.seed)
            for path in self.examples
        }
        model, figures = LabelledTopics.train(samples, how)
        for number, classifier in enumerate(model.classifiers):
            classifier.save(folder / f"topic-{number}.safetensors")
        files.write_json(folder / "classifiers.json", figures)
        files.write_json(folder / "names.json", model.names)

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Write the topic and the bytes of every document."""
        from safetensors.numpy import save

        topic = self._model(folder).assign([document.text for document in documents])
        size = np.array([len(document.text.encode("utf-8", "replace")) for document in documents], np.int64)
        files.write_bytes(_survey(folder, shard), save({"topic": topic, "bytes": size}))

    def combine(self, shards: int, folder: Path) -> None:
        """Settle the rate of every topic."""
        names = json.loads((folder / "names.json").read_text())
        totals = np.zeros(len(names) + 1, np.int64)  # the last is of those with no topic
        for shard in range(shards):
            topic, size = _read(folder, shard)
            np.add.at(totals, topic, size)
        kept = rates(totals[:-1], int(totals[-1]), self.cap)
        table = [
            {"topic": name, "bytes": int(total), "kept": float(rate)}
            for name, total, rate in zip([*names, OTHER], totals, [*kept, 1.0], strict=True)
        ]
        files.write_json(folder / "topics.json", table)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Documents with their ``topic`` in ``extra``, or dropped by their draw."""
        table = json.loads((folder / "topics.json").read_text())
        topic, _ = _read(folder, shard)
        if len(topic) != len(documents):
            raise CorpusError(f"shard {shard} has {len(documents)} documents, and {len(topic)} when it was surveyed")
        return [self._verdict(document, table[number]) for document, number in zip(documents, topic, strict=True)]

    def _verdict(self, document: Document, topic: dict[str, float | str]) -> Verdict:
        if chance("topics", self.seed, document) >= float(topic["kept"]):
            return Dropped(document, "topic over its share", str(topic["topic"]))
        return document._replace(extra={**document.extra, "topic": topic["topic"]})

    def _model(self, folder: Path) -> Topics:
        names = json.loads((folder / "names.json").read_text())
        if self.corpus:
            return ClusterTopics.load(folder / "clusters.safetensors", names)
        return LabelledTopics(names, [Classifier.load(folder / f"topic-{n}.safetensors") for n in range(len(names))])


def rates(sizes: NDArray[np.int64], other: int, cap: float) -> NDArray[np.float64]:
    """The share of each topic to keep, so that none has more than ``cap`` of what remains and nothing else is lost.

    Raises CorpusError if so many topics cannot each have so little.
    """
    largest_first = np.sort(sizes)[::-1]
    for capped in range(len(sizes) + 1):
        room = 1 - capped * cap
        rest = int(largest_first[capped:].sum()) + other
        if room <= 0 or not rest:
            if not sizes.sum():
                break
            raise CorpusError(
                f"topics cannot be held to {cap:.1%} each: too few of them are in the corpus; raise topics.cap"
            )
        level = cap * rest / room
        if capped == len(sizes) or largest_first[capped] <= level:
            return np.minimum(1.0, level / np.maximum(sizes, 1)) if capped else np.ones(len(sizes))
    return np.ones(len(sizes))


def _survey(folder: Path, shard: int) -> Path:
    return folder / f"survey-{shard:05d}.safetensors"


def _read(folder: Path, shard: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    from safetensors.numpy import load_file

    found = load_file(_survey(folder, shard))
    return found["topic"], found["bytes"]
