"""What a document is about: topics learned from labelled examples, or found as clusters and named by their words.

Labelled topics are the quality classifier's model, one against the rest; a document of which none is likelier than
not is ``other``. Clusters are spherical k-means (Dhillon and Modha 2001) over tf-idf of the words of a sample: log(1
+ count) times log(documents / documents with the word), normed, with k-means++ starts from the seed. A cluster's name
is its heaviest words. Words
shorter than three letters, of fewer than three documents or of all of them say nothing and are left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.classifier import Classifier, Training, train_on_samples
from isoflop.corpus.models.features import rows
from isoflop.corpus.models.sampling import Sample, chance, merge
from isoflop.corpus.models.words import words
from isoflop.keys import UInt64s

OTHER = "other"
CHARACTERS = 20_000
MOST_WORDS = 1 << 15
ROUNDS = 30


class Topics(Protocol):
    """Topics with names, and the number of the topic of each text, shape (texts,); −1 is none of them."""

    @property
    def names(self) -> list[str]:
        """What the topics are called."""

    def assign(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The topic of each text."""


@dataclass(frozen=True)
class LabelledTopics:
    """One classifier per topic."""

    names: list[str]
    classifiers: list[Classifier]

    def assign(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The likeliest topic, if it is likelier than not."""
        found = np.full(len(texts), -1, np.int32)
        for number, text in enumerate(texts):
            table = rows(text, self.classifiers[0].features)
            scores = [classifier.score_rows(table) for classifier in self.classifiers]
            if max(scores) >= 0.5:
                found[number] = int(np.argmax(scores))
        return found

    @classmethod
    def train(
        cls, examples: dict[str, Sample], training: Training
    ) -> tuple[LabelledTopics, dict[str, dict[str, float]]]:
        """Each topic's examples against all others'; with figures of each on documents held out."""
        classifiers, figures = [], {}
        for name, sample in examples.items():
            rest = merge([other for topic, other in examples.items() if topic != name], training.documents)
            classifier, figures[name] = train_on_samples(sample, rest, training)
            classifiers.append(classifier)
        return cls(list(examples), classifiers), figures


@dataclass(frozen=True)
class ClusterTopics:
    """Words by ascending hash with their idf, shape (words,), and centroids of unit length, shape (topics, words)."""

    names: list[str]
    hashes: UInt64s
    idf: NDArray[np.float32]
    centroids: NDArray[np.float32]

    def assign(self, texts: Sequence[str]) -> NDArray[np.int32]:
        """The nearest centroid; none for a text without a known word."""
        matrix = tf_idf([words(text[:CHARACTERS]).hashes for text in texts], self.hashes, self.idf)
        nearest = np.asarray(matrix @ self.centroids.T).argmax(axis=1).astype(np.int32)
        return np.where(np.diff(matrix.indptr) > 0, nearest, np.int32(-1))

    def save(self, path: Path) -> None:
        """Write as safetensors; names are kept beside it by the stage."""
        from safetensors.numpy import save

        files.write_bytes(path, save({"hashes": self.hashes, "idf": self.idf, "centroids": self.centroids}))

    @classmethod
    def load(cls, path: Path, names: list[str]) -> ClusterTopics:
        """Read what ``save`` wrote."""
        from safetensors.numpy import load_file

        return cls(names, **load_file(path))


def sample_texts(documents: Iterable[Document], most: int, seed: int) -> list[str]:
    """The beginnings of the ``most`` documents with the smallest keys, in the order of their keys."""
    stream = ((chance("topics", seed, document), document.text[:CHARACTERS]) for document in documents)
    return [text for _, text in heapq.nsmallest(most, stream)]


def find_clusters(texts: list[str], clusters: int, seed: int) -> ClusterTopics:
    """Cluster a sample of texts. Raises CorpusError if it is too small for so many clusters."""
    found = [words(text) for text in texts]
    hashes, documents_with = np.unique(
        np.concatenate([np.unique(w.hashes[w.ends - w.starts >= 3]) for w in found] or [np.empty(0, np.uint64)]),
        return_counts=True,
    )
    telling = np.flatnonzero((documents_with >= 3) & (documents_with < len(texts)))
    telling = np.sort(telling[np.lexsort((hashes[telling], -documents_with[telling]))[:MOST_WORDS]])
    if len(texts) < 2 * clusters or len(telling) < clusters:
        raise CorpusError(
            f"{len(texts)} documents are too few to find {clusters} topics in: give more, or ask for fewer"
        )
    hashes, idf = hashes[telling], np.log(len(texts) / documents_with[telling]).astype(np.float32)
    centroids = k_means(tf_idf([w.hashes for w in found], hashes, idf), clusters, seed)
    spelling: dict[int, str] = {}
    heaviest = np.argsort(-centroids, axis=1, kind="stable")[:, :5]
    wanted = set(hashes[heaviest.ravel()].tolist())
    for text, w in zip(texts, found, strict=True):
        for at in np.flatnonzero(np.isin(w.hashes, list(wanted - spelling.keys()))).tolist():
            spelling.setdefault(int(w.hashes[at]), text[w.starts[at] : w.ends[at]].lower())
    names = [" ".join(spelling[hash_] for hash_ in hashes[row].tolist()) for row in heaviest]
    return ClusterTopics(names, hashes, idf, centroids)


def tf_idf(documents: list[UInt64s], hashes: UInt64s, idf: NDArray[np.float32]) -> Any:
    """A sparse matrix of shape (documents, words) whose rows have unit length or are empty."""
    from scipy.sparse import csr_matrix

    values, columns, ends = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [0]
    for document in documents:
        found, counts = np.unique(document, return_counts=True)
        at = np.minimum(np.searchsorted(hashes, found), len(hashes) - 1)
        known = hashes[at] == found
        weights = np.log1p(counts[known]) * idf[at[known]]
        values.append((weights / max(float(np.linalg.norm(weights)), 1e-12)).astype(np.float32))
        columns.append(at[known])
        ends.append(ends[-1] + len(columns[-1]))
    return csr_matrix((np.concatenate(values), np.concatenate(columns), ends), shape=(len(documents), len(hashes)))


def k_means(matrix: Any, clusters: int, seed: int) -> NDArray[np.float32]:
    """Centroids of unit length, by cosine; the same from the same matrix and seed."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(matrix.shape[0]))]
    nearest = np.full(matrix.shape[0], -1.0)
    for _ in range(clusters - 1):
        nearest = np.maximum(nearest, (matrix @ matrix[chosen[-1]].T).toarray().ravel())
        distance = np.maximum(1 - nearest, 0) + 1e-9
        chosen.append(int(rng.choice(matrix.shape[0], p=distance / distance.sum())))
    centroids = matrix[chosen].toarray()
    owner = np.full(matrix.shape[0], -1)
    for _ in range(ROUNDS):
        closest = np.asarray(matrix @ centroids.T).argmax(axis=1)
        if (closest == owner).all():
            break
        owner = closest
        member = csr_matrix((np.ones(len(owner)), (owner, np.arange(len(owner)))), shape=(clusters, len(owner)))
        sums = (member @ matrix).toarray()
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centroids)
    return np.asarray(centroids, np.float32)
