"""Which tokens come next: arithmetic on the number of the sample, with no state to save.

The stream of a split is cut into sequences of ``context`` tokens, each with the token after it as the last
target; documents run on across the cuts. Sample i is a sequence by ``tokens.order``: permutations keyed by the
tokens' fingerprint, the seed, the split and the epoch. A run therefore resumes from one integer, in the middle of
an epoch and with another batch size or number of processes: each takes its slice of the same numbers.

A run whose context grows has a loader for each stage. All cut the stream into the same blocks, as long as the
longest context, and a stage with a shorter one cuts its blocks further. Samples are numbered through the run: sample
i at a context of c tokens stands for the run's tokens i·c to (i + 1)·c.

Costs nothing at the start, whatever the size of the corpus, and no memory. Every token is a target once an
epoch, but for the first token and up to a block of the last. The price of cutting is that about one
sequence in two starts in the middle of a document; ``packing`` plans sequences that do not, at the price of a little
padding and of one context for the whole run. ``document_ids`` lets a model mask across documents.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isoflop.keys import derive_key
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.order import Order, Permutation
from isoflop.tokens.packing import PADDING, Plan

Packing = Literal["cut", "fit"]


@dataclass(frozen=True)
class FixedSamples:
    """Samples in a fixed order: ``tokens`` int64 (count, context + 1), and the bytes of text they predict.

    ``text_bytes`` counts the targets ``tokens[:, 1:]``, exactly. With a loss of S nats in total over them,
    bits per byte are S / ln 2 / text_bytes: where documents begin and end costs nats and stands for no byte.
    """

    tokens: NDArray[np.int64]
    text_bytes: int


class Loader:
    """Sequences of a split in the order of training. Immutable; safe to share between threads.

    ``block`` is the longest context of the run, by default ``context``; ``start`` and ``end`` are the tokens of the run
    between which it trains at this one, whole blocks. With a ``limit`` of tokens only so many are read: whole blocks,
    one at least, drawn by the seed. ``packing`` is "cut" for the stream as it is, "fit" for a plan of ``packing``.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        split: str = "train",
        context: int = 256,
        seed: int = 0,
        *,
        block: int | None = None,
        start: int = 0,
        end: float = math.inf,
        limit: int | None = None,
        packing: Packing = "cut",
    ) -> None:
        if context < 1:
            raise ValueError(f"context is {context}: it must be at least 1.")
        block = block or context
        if block % context or start % block or (end < math.inf and end % block):
            raise ValueError(
                f"the context of {context} and the stage from {start} to {end} tokens do not fit blocks of {block}: "
                "the context must divide a block, and the stage be whole ones."
            )
        self._tokens = dataset.tokens(split)
        self._bos = dataset.tokenizer.bos
        self._byte_lengths = dataset.tokenizer.byte_lengths
        if packing == "fit" and block != context:
            raise ValueError(f"documents are packed for one context, not for {context} tokens and then {block}")
        self._plan = Plan.of(dataset, split, context) if packing == "fit" else None
        blocks = (len(self._tokens) - 1) // block if self._plan is None else len(self._plan)
        if blocks < 1:
            raise ValueError(
                f"the {split} split has {len(self._tokens)} tokens, too few for one sequence of {block} "
                "and its last target: give more text or a shorter context."
            )
        names, pieces = (dataset.manifest.fingerprint, split), block // context
        self._drawn = None
        if limit is not None and limit // block < blocks:
            self._drawn = Permutation(blocks, derive_key(seed, "limit", *names))
            blocks = max(1, limit // block)
        self._pieces = pieces
        self._order = Order(blocks, seed, names, pieces, start // block, end / block)
        self.split = split
        self.context = context
        self.seed = seed
        self.samples_per_epoch = blocks * pieces

    def batch(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Samples first_sample … first_sample + count − 1, int64 of shape (count, context + 1).

        The inputs are ``batch[:, :-1]`` and the targets ``batch[:, 1:]``. Any first_sample ≥ 0 will do: after
        an epoch comes the next, in another order.
        """
        if first_sample < 0 or count < 1:
            raise ValueError(f"samples {first_sample} to {first_sample + count}: there are none.")
        return self.at(self.positions(first_sample, count))

    def positions(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Which sequences of the split those samples are, shape (count,), from 0 to samples_per_epoch − 1."""
        positions = self._order(np.arange(first_sample, first_sample + count))
        if self._drawn is None:
            return positions
        blocks, pieces = np.divmod(positions, self._pieces)
        return self._drawn(blocks) * self._pieces + pieces

    def sequential(self, count: int) -> FixedSamples:
        """``count`` sequences spread evenly over the split, in its order; all of them if it has fewer.

        They do not depend on the seed, so that every run is measured on the same text.
        """
        if count < 1:
            raise ValueError(f"{count} samples: ask for at least one.")
        count = min(count, self.samples_per_epoch)
        tokens = self.at(np.arange(count) * self.samples_per_epoch // count)
        return FixedSamples(tokens, int(self._byte_lengths[tokens[:, 1:]].sum()))

    def document_ids(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which document of its row each token belongs to, counted from 0, −1 for padding; the shape of ``batch``."""
        return document_ids(batch, self._bos)

    def targets(self, first_sample: int, count: int) -> int:
        """How many targets those samples have that are no padding."""
        if self._plan is None:
            return count * self.context
        return self._plan.targets(self.positions(first_sample, count))

    def at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequences at these positions of the split, int64 (len(positions), context + 1)."""
        if self._plan is not None:
            return self._plan.rows(self._tokens, positions)
        return self._tokens.windows(positions * self.context, self.context + 1)


def document_ids(batch: NDArray[np.int64], bos: int) -> NDArray[np.int64]:
    """Which document of its row each token of ``batch`` belongs to, counted from 0; −1 for padding."""
    starts = batch == bos
    starts[:, 0] = False
    return np.where(batch == PADDING, -1, np.cumsum(starts, axis=1))
