"""A linear classifier over hashed word n-grams: "is this text like those?", trained in seconds and kept as data.

Labelled windows come from a bounded sample of documents of either side, chosen by a key and not by their order. Only
full windows are trained on, so that length cannot tell the sides apart (``features.py``); a tenth of the documents is
held out to say how well it works. Files are safetensors and JSON.

Memory: per sampled document up to ``windows`` rows of 8 · ``window`` bytes, three times that while training (about
250 MB for twice 10,000 documents), plus the weight table. Left out: n-grams beyond pairs, and other models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isoflop import files
from isoflop.config import from_dict
from isoflop.corpus.document import CorpusError, Document
from isoflop.corpus.models.features import Features, Rows, full, rows
from isoflop.corpus.models.logistic import area_under_curve, fit_logistic
from isoflop.corpus.models.sampling import Sample, sample_of

Floats = NDArray[np.float64]

HELD_OUT = 10
FEWEST = 20


@dataclass(frozen=True)
class Training:
    """How a classifier is trained: features, documents per side, strength of the penalty, iterations, seed."""

    features: Features = field(default_factory=Features)
    documents: int = 10_000
    l2: float = 1e-4
    iterations: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Classifier:
    """Weights of shape (columns,) and a bias: the log odds that a window is positive are linear in its n-grams."""

    features: Features
    weights: NDArray[np.float32]
    bias: float

    def score(self, texts: Iterable[str]) -> Floats:
        """The probability that each text is like the positives, shape (texts,); 0 for one without a word."""
        return np.array([self.score_rows(rows(text, self.features)) for text in texts], np.float64)

    def score_rows(self, table: Rows) -> float:
        """The same of one text's rows: the mean of the log odds of its windows, as a probability."""
        if not len(table):
            return 0.0
        return float(1 / (1 + np.exp(-self.margins(table).mean())))

    def margins(self, table: Rows) -> Floats:
        """The log odds of every row."""
        entries = (table < self.features.columns).sum(axis=1)
        margins: Floats = self._padded[table].sum(axis=1, dtype=np.float64) / np.sqrt(entries) + self.bias
        return margins

    @cached_property
    def _padded(self) -> NDArray[np.float32]:
        """The weights and a zero for the empty column."""
        return np.append(self.weights, np.float32(0))

    def save(self, path: Path) -> None:
        """Write a safetensors file whose header has the features."""
        from safetensors.numpy import save

        header = {"features": json.dumps(asdict(self.features)), "bias": repr(self.bias)}
        files.write_bytes(path, save({"weights": self.weights}, metadata=header))

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what ``save`` wrote. Raises CorpusError if the file is something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                header, weights = file.metadata() or {}, file.get_tensor("weights")
            features = from_dict(Features, json.loads(header["features"]), "features")
            bias = float(header["bias"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise CorpusError(f"{path} is not a classifier ({error}): train it again.") from None
        if weights.shape != (features.columns,):
            raise CorpusError(f"{path} has {weights.shape} weights for {features.columns} columns: train it again.")
        return cls(features, weights, bias)


def train_classifier(
    positives: Iterable[str], negatives: Iterable[str], training: Training | None = None
) -> tuple[Classifier, dict[str, float]]:
    """Train on two streams of texts. Returns the classifier and figures of how it does on texts held out.

    The texts are told apart by their numbers in their stream. Raises CorpusError if a side has too few full windows.
    """
    training = training or Training()
    positive, negative = (
        sample_of(
            (Document(text, str(number)) for number, text in enumerate(texts)),
            training.documents,
            training.features,
            training.seed,
        )
        for texts in (positives, negatives)
    )
    return train_on_samples(positive, negative, training)


def train_on_samples(positives: Sample, negatives: Sample, training: Training) -> tuple[Classifier, dict[str, float]]:
    """Train on sampled documents of both sides; every tenth document of either is held out for the figures."""
    table = np.concatenate([positives.rows, negatives.rows])
    positive = np.arange(len(table)) < len(positives.rows)
    held = np.concatenate([side.keys[side.owner] % np.uint64(HELD_OUT) == 0 for side in (positives, negatives)])
    usable = full(table, training.features)
    for name, side in (("positive", positive), ("negative", ~positive)):
        if (usable & side & ~held).sum() < FEWEST or not (usable & side & held).any():
            raise CorpusError(
                f"too few {name} texts of at least {training.features.window} words to train a classifier on: "
                "give more of them, or make features.window smaller."
            )
    learn, check = usable & ~held, usable & held
    weights, bias = fit_logistic(table[learn], positive[learn], training.features, training.l2, training.iterations)
    classifier = Classifier(training.features, weights.astype(np.float32), bias)
    margins = classifier.margins(table[check])
    hits = (margins > 0) == positive[check]
    figures = {
        "windows_trained_on": float(learn.sum()),
        "windows_held_out": float(check.sum()),
        "held_out_auc": area_under_curve(margins, positive[check]),
        "held_out_accuracy": float(0.5 * (hits[positive[check]].mean() + hits[~positive[check]].mean())),
    }
    return classifier, figures
