"""Causal attention within documents on a CPU: torch's fused kernel, one document after another.

Scores across documents are never computed, so the cost is the sum of the documents' squares instead of the row's.
Where documents begin is known only when the batch is there; as two opaque operators of fixed shapes the loop over them
leaves compiled graphs whole and one per shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def document_attention(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """Attention of q (batch, heads, time, head_dim) to k, v (batch, kv_heads, time, head_dim).

    Only tokens of one run of equal ids in ``documents`` (batch, time) see each other, causally.
    """
    return _attend(q, k, v, documents)[0]  # type: ignore[no-any-return]


def runs(documents: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Where each run of equal ids is, to index (batch, heads, time, …) by."""
    time = documents.shape[1]
    ends = torch.ones_like(documents, dtype=torch.bool)
    torch.ne(documents[:, 1:], documents[:, :-1], out=ends[:, :-1])
    start = 0
    for place in (ends.flatten().nonzero().flatten() + 1).tolist():
        row = start // time
        yield slice(row, row + 1), slice(None), slice(start - row * time, place - row * time)
        start = place


@torch.library.custom_op("isoflop::document_attention", mutates_args=(), device_types="cpu")
def _attend(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sums of v, and the logarithms of the softmax's sums (batch, heads, time)."""
    out, sums = torch.empty_like(q), _sums_like(q)
    for run in runs(documents):
        out[run], sums[run] = _forward(q[run], k[run], v[run], is_causal=True)
    return out, sums


@torch.library.custom_op("isoflop::document_attention_backward", mutates_args=(), device_types="cpu")
def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, documents: Tensor, out: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for run in runs(documents):
        pieces = _backward(grad[run], q[run], k[run], v[run], out[run], sums[run], 0.0, True)
        for whole, piece in zip(gradients, pieces, strict=True):
            whole[run] = piece
    return gradients


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), _sums_like(q)


@_attend_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, documents: Tensor, out: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _sums_like(q: Tensor) -> Tensor:
    return q.new_empty(q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32))


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_attend_backward(grad.contiguous(), *ctx.saved_tensors), None


_attend.register_autograd(_differentiate, setup_context=_keep)
