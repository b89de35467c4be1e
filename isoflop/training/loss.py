"""Cross-entropy of the output head without ever holding all logits.

The gradient of the loss with respect to the hidden states and the head is computed in the forward pass, a chunk
of rows at a time, while that chunk's logits are still in cache; the backward pass only scales it. Memory is one
chunk of logits instead of rows × vocabulary, three times over. Logits are reduced in fp32, and the head's
gradient is accumulated over chunks in fp32. Left out: label smoothing, z-loss, soft caps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from isoflop.model.spread import WHOLE, Spread
from isoflop.tokens.packing import PADDING

CHUNK_ELEMENTS = 1 << 20  # logits held at once: 4 MB in fp32, about a core's share of cache


def chunk_gradient(
    hidden: Tensor, head: Tensor, targets: Tensor, padded: bool = False, spread: Spread = WHOLE
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed loss of one chunk, and its gradients with respect to ``hidden`` and ``head``.

    hidden (rows, width) and head (vocab, width) in the compute type, targets (rows,). With ``padded`` a target below 0
    is none: its row has no loss and no gradient. Of a vocabulary that is ``spread`` over ranks, ``head`` is this
    rank's rows; the gradient of ``hidden`` is then this rank's part of a sum.
    """
    logits = (hidden @ head.T).float()
    shifted = logits - spread.largest(logits.amax(-1, keepdim=True))
    exponentials = shifted.exp()
    total = spread.total(exponentials.sum(-1, keepdim=True))
    ids = torch.arange(head.shape[0], device=head.device) + spread.ids[0]
    hit = ids == targets[:, None]
    losses = total.log().squeeze(-1) - spread.total(torch.where(hit, shifted, 0.0).sum(-1))
    if padded:
        losses, total = losses.where(targets >= 0, 0.0), total.where(targets[:, None] >= 0, torch.inf)
    loss = losses.sum()
    gradient = (exponentials / total - hit.float()).to(hidden.dtype)
    return loss, gradient @ head, (gradient.T @ hidden).float()


def chunk_loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Summed loss of one chunk, in fp32."""
    return torch.nn.functional.cross_entropy((hidden @ head.T).float(), targets, reduction="sum", ignore_index=PADDING)


def spread_loss(hidden: Tensor, head: Tensor, targets: Tensor, spread: Spread) -> Tensor:
    """Summed loss of one chunk, of a vocabulary that is spread over ranks; as dear as its gradient."""
    return chunk_gradient(hidden, head, targets, True, spread)[0]


@cache
def compiled_gradient() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """The chunk's arithmetic as one compiled graph per shape."""
    return torch.compile(chunk_gradient, dynamic=False)


class ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy (see :func:`cross_entropy`), its gradient computed chunk by chunk on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, rows: int, fast: bool, padded: bool, spread: Spread
    ) -> Tensor:
        """Sum the loss over chunks of ``rows`` rows and keep both gradients."""
        step = compiled_gradient() if fast else chunk_gradient
        weights = head.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros(head.shape, device=head.device)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            loss, grad_hidden[part], grad = step(hidden[part], weights, targets[part], padded, spread)
            total += loss
            grad_head += grad
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the stored gradients."""
        grad_hidden, grad_head = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_head * grads[0], None, None, None, None, None


def cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    fast: bool = False,
    padded: bool = False,
    spread: Spread = WHOLE,
) -> Tensor:
    """Summed cross-entropy in nats of ``hidden @ headᵀ`` (…, width) against target ids (…).

    ``fast`` compiles the arithmetic of the gradient; ``padded`` says that targets of −1 are none. Divide by the number
    of targets for nats per token: the sum is returned so that accumulation over micro-batches is normalised once, per
    token. ``spread`` says of which part of the vocabulary ``head`` has the rows.
    """
    rows = chunk_rows(targets.numel(), head.shape[0])
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if torch.is_grad_enabled():
        arguments = (flat, head, targets, rows, fast, padded, spread)
        return ChunkedCrossEntropy.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]
    weights = head.to(flat.dtype)
    starts = range(0, len(flat), rows)
    step = chunk_loss if spread.tensor.count == 1 else partial(spread_loss, spread=spread)
    losses = [step(flat[i : i + rows], weights, targets[i : i + rows]) for i in starts]
    return torch.stack(losses).sum()


def chunk_rows(rows: int, vocab: int) -> int:
    """Rows per chunk: the largest equal split that keeps a chunk's logits within CHUNK_ELEMENTS."""
    chunks = max(1, -(-rows * vocab // CHUNK_ELEMENTS))
    while rows % chunks:
        chunks += 1
    return rows // chunks
