"""Which tokens come next: arithmetic on the number of the sample, with no state to save.

The stream of a split is cut into sequences of ``context`` tokens, each with the token after it as the last
target; documents run on across the cuts. Sample i is sequence ``permutation(i % n)`` of epoch ``i // n``, the
permutation keyed by the tokens' fingerprint, the seed, the split and the epoch. A run therefore resumes from
one integer, in the middle of an epoch and with another batch size or number of processes: each takes its
slice of the same numbers.

Costs nothing at the start, whatever the size of the corpus, and no memory. Every token is a target once an
epoch, but for the first token and up to ``context`` of the last. The price of cutting is that about one
sequence in two starts in the middle of a document; ``document_ids`` lets a model mask across documents.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.keys import derive_key
from isoflop.tokens.order import Permutation


@dataclass(frozen=True)
class FixedSamples:
    """Samples in a fixed order: ``tokens`` int64 (count, context + 1), and the bytes of text they predict.

    ``text_bytes`` counts the targets ``tokens[:, 1:]``, exactly. With a loss of S nats in total over them,
    bits per byte are S / ln 2 / text_bytes: where documents begin and end costs nats and stands for no byte.
    """

    tokens: NDArray[np.int64]
    text_bytes: int


class Loader:
    """Sequences of a split in the order of training. Immutable; safe to share between threads."""

    def __init__(self, dataset: TokenDataset, split: str = "train", context: int = 256, seed: int = 0) -> None:
        if context < 1:
            raise ValueError(f"context is {context}: it must be at least 1.")
        self._tokens = dataset.tokens(split)
        self._bos = dataset.tokenizer.bos
        self._byte_lengths = dataset.tokenizer.byte_lengths
        self._names = (dataset.manifest.fingerprint, split)
        self.split = split
        self.context = context
        self.seed = seed
        self.samples_per_epoch = (len(self._tokens) - 1) // context
        if self.samples_per_epoch < 1:
            raise ValueError(
                f"the {split} split has {len(self._tokens)} tokens, too few for one sequence of {context} "
                "and its last target: give more text or a shorter context."
            )

    def batch(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Samples first_sample … first_sample + count − 1, int64 of shape (count, context + 1).

        The inputs are ``batch[:, :-1]`` and the targets ``batch[:, 1:]``. Any first_sample ≥ 0 will do: after
        an epoch comes the next, in another order.
        """
        if first_sample < 0 or count < 1:
            raise ValueError(f"samples {first_sample} to {first_sample + count}: there are none.")
        return self._at(self.positions(first_sample, count))

    def positions(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Which sequences of the split those samples are, shape (count,), from 0 to samples_per_epoch − 1."""
        samples = np.arange(first_sample, first_sample + count)
        epochs, indices = np.divmod(samples, self.samples_per_epoch)
        positions = np.empty_like(indices)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            key = derive_key(self.seed, "order", *self._names, epoch)
            inside = epochs == epoch
            positions[inside] = Permutation(self.samples_per_epoch, key)(indices[inside])
        return positions

    def sequential(self, count: int) -> FixedSamples:
        """``count`` sequences spread evenly over the split, in its order; all of them if it has fewer.

        They do not depend on the seed, so that every run is measured on the same text.
        """
        if count < 1:
            raise ValueError(f"{count} samples: ask for at least one.")
        count = min(count, self.samples_per_epoch)
        tokens = self._at(np.arange(count) * self.samples_per_epoch // count)
        return FixedSamples(tokens, int(self._byte_lengths[tokens[:, 1:]].sum()))

    def document_ids(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which document of its row each token belongs to, counted from 0; the shape of ``batch``."""
        starts = batch == self._bos
        starts[:, 0] = False
        return np.cumsum(starts, axis=1)

    def _at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._tokens.windows(positions * self.context, self.context + 1)
