"""Causal attention: the library's fused kernel, and a shorter way for short contexts on a CPU.

At contexts of a few hundred tokens and heads of 16 to 64, the CPU's fused kernel spends most of its time on
bookkeeping, and more in the backward pass, which recomputes the scores (measured by ``benchmarks/attention.py``).
:class:`ShortAttention` writes the scores out instead, in blocks of query rows so that a block only meets the keys
it may see, and keeps the probabilities in the compute type for the backward pass. It costs
batch·heads·context²/2 elements of memory per layer, which is why it stops at :data:`SHORT`.

``documents`` (batch, time) say which document each token is of: runs of equal ids, across whose ends nothing is seen.
Positions are the row's and do not begin again with a document, as in Llama 3 (arXiv 2407.21783, section 3.2); rotary
attention sees differences of positions alone, so a document's states are those that it would have by itself. Short
contexts mask the scores that are written out anyway, long ones go document by document on a CPU
(:mod:`~isoflop.model.document_attention`) and by a block-sparse kernel on a GPU (:mod:`~isoflop.model.flex`). Documents
with branches (:mod:`~isoflop.model.sight`) are masked as a whole on a CPU, at the cost of the row's square. Left out:
sliding windows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from isoflop.model.document_attention import document_attention
from isoflop.model.flex import flex_attention
from isoflop.model.sight import within

SHORT = 512
ROWS = 128

Mask = Tensor | BlockMask | None
"""Which document each token is of (batch, time), which branch of it too (batch, time, 2), or what
:func:`isoflop.model.flex.mask_for` made of that."""


def scaled_scores(q: Tensor, k: Tensor, cap: float) -> Tensor:
    """q·kᵀ/√head_dim in fp32, as ``cap``·tanh(· / ``cap``) where there is one."""
    scores = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
    return cap * torch.tanh(scores / cap) if cap else scores


def visible(queries: int, start: int, documents: Tensor | None, device: torch.device) -> Tensor:
    """Which of the keys up to their last the query rows ``start``… may see: (queries, keys), or with a batch and 1."""
    keys = torch.arange(start + queries, device=device)
    seen = keys[start:, None] >= keys
    if documents is None:
        return seen
    return seen & within(documents, start, start + queries)


def probabilities(q: Tensor, k: Tensor, start: int, documents: Tensor | None = None, cap: float = 0.0) -> Tensor:
    """Softmax of the scores of query rows ``start``… against the keys up to their last, in fp32 inside."""
    scores = scaled_scores(q, k, cap)
    scores = torch.where(visible(q.shape[-2], start, documents, q.device), scores, -torch.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return (exponentials / exponentials.sum(-1, keepdim=True)).to(q.dtype)


class ShortAttention(torch.autograd.Function):
    """Causal attention of q, k, v, each (batch, heads, time, head_dim), all heads alike, within ``documents``."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, documents: Tensor | None = None, cap: float = 0.0) -> Tensor:
        """Weighted sums of v, keeping the probabilities."""
        kept, mixed = [], []
        for start in range(0, q.shape[2], ROWS):
            end = start + ROWS
            p = probabilities(q[:, :, start:end], k[:, :, :end], start, documents, cap)
            kept.append(p)
            mixed.append(p @ v[:, :, :end])
        ctx.save_for_backward(q, k, v, *kept)
        ctx.cap = cap
        return torch.cat(mixed, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The softmax's gradient, row block by row block; key and value gradients add up in fp32."""
        q, k, v, *kept = ctx.saved_tensors
        grad = grads[0]
        grad_k, grad_v = (torch.zeros(k.shape, dtype=torch.float32, device=k.device) for _ in range(2))
        grad_q = []
        for block, p in enumerate(kept):
            start, end = block * ROWS, (block + 1) * ROWS
            out = grad[:, :, start:end]
            p32, grad_p = p.float(), (out @ v[:, :, :end].transpose(-2, -1)).float()
            centred = grad_p - (grad_p * p32).sum(-1, keepdim=True)
            grad_scores = p32 * centred * q.shape[-1] ** -0.5
            if ctx.cap:
                capped = scaled_scores(q[:, :, start:end], k[:, :, :end], ctx.cap)
                grad_scores = grad_scores * (1 - (capped / ctx.cap).square())
            grad_scores = grad_scores.to(q.dtype)
            grad_q.append(grad_scores @ k[:, :, :end])
            grad_k[:, :, :end] += grad_scores.transpose(-2, -1) @ q[:, :, start:end]
            grad_v[:, :, :end] += p.transpose(-2, -1) @ out
        return torch.cat(grad_q, 2), grad_k.to(k.dtype), grad_v.to(v.dtype), None, None


def causal_attention(q: Tensor, k: Tensor, v: Tensor, documents: Mask = None, cap: float = 0.0) -> Tensor:
    """Causal attention of q (batch, heads, time, head_dim) and k, v (batch, kv_heads, time, head_dim).

    ``documents`` as above; ``cap`` bounds the scores (Gemma 2, arXiv 2408.00118, section 2), which are then written out
    at any context unless the mask is a GPU's.
    """
    groups, time = q.shape[1] // k.shape[1], q.shape[2]
    if isinstance(documents, BlockMask):
        return flex_attention(q, k, v, documents, cap)
    if cap or (q.device.type == "cpu" and time <= SHORT):
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        return ShortAttention.apply(q, k, v, documents, cap)  # type: ignore[no-any-return,no-untyped-call]
    if documents is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1)
    if q.device.type == "cpu" and documents.dim() == 2:
        return document_attention(q, k, v, documents)
    seen = visible(time, 0, documents, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=groups > 1)
