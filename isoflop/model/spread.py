"""The network over several processes: what a process computes of it, and what they tell each other on the way.

A block stays the pure function that it is; a :class:`Spread` stands at its four seams and does nothing where there is
one process. Tensor-parallel ranks hold narrower matrices and, between them, each a stretch of the sequence: entering a
half of a block gathers the sequence, leaving it adds up and scatters (Korthikanti et al. 2022, arXiv 2205.05198).
Context-parallel ranks hold the chunks r and 2·ranks − 1 − r of every sequence, so that causal work is even, and gather
keys and values before attention (Llama 3, arXiv 2407.21783, section 3.3.2); gradients of those are added up in fp32.
Left out: overlapping messages with
products, ring attention; a document mask under context parallelism is dense, (queries of the rank × keys).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.model.attention import Mask, causal_attention
from isoflop.model.collectives import Axis, Gather, Scatter, reduced
from isoflop.model.cuts import part
from isoflop.model.sight import within

ALONE = Axis()


@dataclass(frozen=True)
class Spread:
    """A process's place in the network: among tensor- and context-parallel ranks and pipeline stages.

    ``vocab`` is the whole vocabulary, of which tensor-parallel ranks hold parts.
    """

    tensor: Axis = ALONE
    context: Axis = ALONE
    stages: Axis = ALONE
    vocab: int = 0

    @property
    def first(self) -> bool:
        """Whether this process holds the embedding."""
        return self.stages.rank == 0

    @property
    def last(self) -> bool:
        """Whether this process holds the last block, and so has a loss."""
        return self.stages.rank == self.stages.count - 1

    def enter(self, x: Tensor) -> Tensor:
        """From a stretch of the sequence (batch, time / ranks, width) to all of it, before matrices that are split."""
        if self.tensor.count == 1:
            return x
        return Gather.apply(x, 1, self.tensor, x.dtype)  # type: ignore[no-any-return,no-untyped-call]

    def leave(self, x: Tensor) -> Tensor:
        """The sum over ranks of what their matrices made, and of that this rank's stretch of the sequence."""
        if self.tensor.count == 1:
            return x
        return Scatter.apply(x, 1, self.tensor)  # type: ignore[no-any-return,no-untyped-call]

    def embed(self, tokens: Tensor, embedding: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows (batch, time / ranks, width) of the embedding, of which a rank holds those of its part of the ids."""
        if self.tensor.count == 1:
            return F.embedding(tokens, embedding).to(dtype)
        first, last = self.ids
        mine = (tokens >= first) & (tokens < last)
        rows = F.embedding((tokens - first).where(mine, 0), embedding)
        return self.leave(torch.where(mine[..., None], rows, 0.0).to(dtype))

    def chunks(self, time: int) -> tuple[int, int, int]:
        """Which two chunks of a sequence of ``time`` tokens this rank holds, and how long they are."""
        return self.context.rank, 2 * self.context.count - 1 - self.context.rank, time // (2 * self.context.count)

    def local(self, x: Tensor, dim: int = 1) -> Tensor:
        """This rank's part of a whole sequence: of tokens, targets or angles along ``dim``."""
        if self.context.count == 1:
            return x
        early, late, size = self.chunks(x.shape[dim])
        return torch.cat([x.narrow(dim, early * size, size), x.narrow(dim, late * size, size)], dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, documents: Mask = None, cap: float = 0.0) -> Tensor:
        """Causal attention of this rank's queries to all keys; each (batch, heads, time / ranks, head_dim).

        ``documents`` are the whole sequence's, as a tensor under context parallelism, which knows no ``cap`` of scores.
        """
        if self.context.count == 1:
            return causal_attention(q, k, v, documents, cap)
        assert documents is None or isinstance(documents, Tensor)
        keys, values = self.gathered(torch.stack((k, v)))
        early, late, size = self.chunks(keys.shape[2])
        ends = ((early + 1) * size, (late + 1) * size)
        mixed = [
            tail_attention(part, keys[:, :, :end], values[:, :, :end], documents)
            for part, end in zip(q.chunk(2, 2), ends, strict=True)
        ]
        return torch.cat(mixed, 2)

    def gathered(self, x: Tensor) -> Tensor:
        """All chunks of x (…, time / ranks, head_dim) in the order of the sequence."""
        count, size = self.context.count, x.shape[-2] // 2
        flat = Gather.apply(x.movedim(-2, 0), 0, self.context, torch.float32)  # type: ignore[no-untyped-call]
        chunks = flat.unflatten(0, (count, 2, size))
        return torch.cat((chunks[:, 0], chunks[:, 1].flip(0))).flatten(0, 1).movedim(0, -2)

    @property
    def ids(self) -> tuple[int, int]:
        """First and last (exclusive) of the ids whose rows of embedding and head this rank holds."""
        return part(self.vocab, self.tensor.rank, self.tensor.count)

    def largest(self, x: Tensor) -> Tensor:
        """The largest over tensor-parallel ranks, which hold parts of the vocabulary. Outside autograd."""
        return x if self.tensor.count == 1 else reduced(x, "max", self.tensor)

    def total(self, x: Tensor) -> Tensor:
        """The sum over tensor-parallel ranks. Outside autograd."""
        return x if self.tensor.count == 1 else reduced(x, "sum", self.tensor)


WHOLE = Spread()
"""A process that holds the whole network."""


def tail_attention(q: Tensor, k: Tensor, v: Tensor, documents: Tensor | None = None) -> Tensor:
    """Causal attention of queries that are the last of the keys' positions, (batch, heads, time, head_dim) each."""
    queries, keys = q.shape[2], k.shape[2]
    seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
    if documents is not None:
        seen = seen & within(documents, keys - queries, keys)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=q.shape[1] > k.shape[1])
