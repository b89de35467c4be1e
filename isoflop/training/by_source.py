"""The training loss of every source of a mixture, from the losses that the step computes anyway.

A sample's source is arithmetic (``tokens.blended``), and the chunked loss leaves each target's nats in a buffer, so a
step only adds them up: two sums over the micro-batch and one message's few numbers more, no forward pass. A source
that had no sample in a batch is not in that step's line. Costs nothing where there is one source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from isoflop.tokens.blended import BlendedLoader

PREFIX = "loss/"


class LossBySource:
    """Sums over the step at hand: ``sums`` (2, sources) is nats and targets of each source, of this rank's samples."""

    def __init__(self, names: Sequence[str], loaders: Mapping[int, BlendedLoader], device: torch.device) -> None:
        self._names, self._loaders = tuple(names), loaders
        self.sums = torch.zeros(2, len(names), device=device)

    def begin(self) -> None:
        """Forget the step before."""
        self.sums.zero_()

    def add(self, first: int, context: int, targets: Tensor, nats: Tensor) -> None:
        """Count samples of ``context`` from number ``first`` on: ``targets`` and their ``nats``, both (rows, time).

        ``time`` is the context, or this rank's part of it.
        """
        sources = torch.from_numpy(self._loaders[context].sources(first, len(targets))).to(nats.device)
        both = torch.stack([nats.sum(1), (targets >= 0).sum(1).float()])
        self.sums.index_add_(1, sources, both)

    def figures(self) -> dict[str, float]:
        """Nats per token of each source that the batch had, as ``loss/SOURCE``, once the ranks' sums are added."""
        nats, targets = self.sums.tolist()
        return {
            PREFIX + name: total / count
            for name, total, count in zip(self._names, nats, targets, strict=True)
            if count > 0
        }
