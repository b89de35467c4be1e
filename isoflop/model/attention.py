"""Causal attention: the library's fused kernel, and a shorter way for short contexts on a CPU.

At contexts of a few hundred tokens and heads of 16 to 64, the CPU's fused kernel spends most of its time on
bookkeeping, and more in the backward pass, which recomputes the scores (measured by ``benchmarks/attention.py``).
:class:`ShortAttention` writes the scores out instead, in blocks of query rows so that a block only meets the keys
it may see, and keeps the probabilities in the compute type for the backward pass. It costs
batch·heads·context²/2 elements of memory per layer, which is why it stops at :data:`SHORT`.
Left out: document masks and sliding windows, which come with the long-context stages.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT = 512
ROWS = 128


def probabilities(q: Tensor, k: Tensor, start: int) -> Tensor:
    """softmax(q·kᵀ/√head_dim) of query rows ``start``… against the keys up to their last, in fp32 inside."""
    scores = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
    keys = torch.arange(k.shape[-2], device=q.device)
    scores = torch.where(keys[start:, None] >= keys, scores, -torch.inf)
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return (exponentials / exponentials.sum(-1, keepdim=True)).to(q.dtype)


class ShortAttention(torch.autograd.Function):
    """Causal attention of q, k, v, each (batch, heads, time, head_dim), all heads alike."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Weighted sums of v, keeping the probabilities."""
        kept, mixed = [], []
        for start in range(0, q.shape[2], ROWS):
            end = start + ROWS
            p = probabilities(q[:, :, start:end], k[:, :, :end], start)
            kept.append(p)
            mixed.append(p @ v[:, :, :end])
        ctx.save_for_backward(q, k, v, *kept)
        return torch.cat(mixed, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
            grad_scores = (p32 * centred * q.shape[-1] ** -0.5).to(q.dtype)
            grad_q.append(grad_scores @ k[:, :, :end])
            grad_k[:, :, :end] += grad_scores.transpose(-2, -1) @ q[:, :, start:end]
            grad_v[:, :, :end] += p.transpose(-2, -1) @ out
        return torch.cat(grad_q, 2), grad_k.to(k.dtype), grad_v.to(v.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of q (batch, heads, time, head_dim) and k, v (batch, kv_heads, time, head_dim)."""
    groups = q.shape[1] // k.shape[1]
    if q.device.type == "cpu" and q.shape[2] <= SHORT:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        return ShortAttention.apply(q, k, v)  # type: ignore[no-any-return,no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1)
