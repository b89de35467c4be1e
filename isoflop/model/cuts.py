"""Which part of each of the model's tensors a tensor-parallel rank holds.

Query, key and value are split by heads, gate and up by columns of the FFN, each alone, so that the joined matrices of a
rank are joined matrices of a narrower block. What writes to the residual stream is split along its input, embedding and
head by rows of the vocabulary, as evenly as whole rows allow. Norms are whole everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isoflop.planning.shape import Shape


def part(size: int, rank: int, count: int) -> tuple[int, int]:
    """First and last (exclusive) of a rank's part of ``size`` things, as even as whole numbers allow."""
    return size * rank // count, size * (rank + 1) // count


@dataclass(frozen=True)
class Cut:
    """A tensor split along one dimension, in which ``parts`` lie one after another, each split alone."""

    dim: int
    parts: tuple[int, ...]

    def pieces(self, rank: int, count: int) -> list[tuple[int, int]]:
        """Where a rank's pieces lie in the whole, first and length."""
        found, start = [], 0
        for size in self.parts:
            first, last = part(size, rank, count)
            found.append((start + first, last - first))
            start += size
        return found

    def take(self, whole: Tensor, rank: int, count: int) -> Tensor:
        """A rank's part of the whole tensor, as a copy."""
        return torch.cat([whole.narrow(self.dim, *piece) for piece in self.pieces(rank, count)], self.dim)

    def put(self, whole: Tensor, local: Tensor, rank: int, count: int) -> None:
        """Write a rank's part where it belongs in the whole tensor."""
        pieces = self.pieces(rank, count)
        for (first, length), piece in zip(pieces, torch.split(local, [p[1] for p in pieces], self.dim), strict=True):
            whole.narrow(self.dim, first, length).copy_(piece)

    def whole(self, local: torch.Size) -> torch.Size:
        """The whole tensor's shape from that of a part."""
        return torch.Size([sum(self.parts) if i == self.dim else size for i, size in enumerate(local)])


def cuts(shape: Shape) -> dict[str, Cut]:
    """How each tensor is cut, by the last word of its name; those left out are whole everywhere."""
    vocabulary = Cut(0, (shape.vocab,))
    return {
        "embedding": vocabulary,
        "untied_head": vocabulary,
        "qkv": Cut(0, (shape.width, shape.kv_width, shape.kv_width)),
        "out": Cut(1, (shape.width,)),
        "gate_up": Cut(0, (shape.ffn, shape.ffn)),
        "down": Cut(1, (shape.ffn,)),
    }
