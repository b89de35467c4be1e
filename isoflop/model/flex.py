"""Causal attention with a document mask or capped scores on a GPU: torch's flex attention.

The mask is made once a micro-batch for all layers; blocks of 128 × 128 scores that it empties are skipped, so the cost
falls with the documents' lengths. Not run on a GPU here: the tests hold its values against the CPU's ways.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask

from isoflop.model.sight import planes, sees

LEAST_HEAD = 16
"""The narrowest head that the kernel multiplies; narrower ones go where masks and scores are written out."""


def mask_for(documents: Tensor, head_dim: int) -> Tensor | BlockMask:
    """What attention is given for ``documents`` (batch, time) or (batch, time, 2): on a GPU a mask of blocks, else the
    ids themselves."""
    return block_mask(documents) if documents.device.type == "cuda" and head_dim >= LEAST_HEAD else documents


def block_mask(documents: Tensor) -> BlockMask:
    """Causal within ``documents`` (batch, time) or their branches (batch, time, 2), for all heads."""
    batch, time = documents.shape[:2]
    ids = planes(documents)

    def within(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & sees(tuple(i[b, query] for i in ids), tuple(i[b, key] for i in ids))

    make = fast(flex.create_block_mask, documents.device)  # compiled it holds no (time, time) mask
    return make(within, batch, None, time, time, device=str(documents.device))  # type: ignore[no-any-return]


def flex_attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask, cap: float = 0.0) -> Tensor:
    """Attention of q (batch, heads, time, head_dim) to k, v (batch, kv_heads, time, head_dim), with capped scores."""

    def capped(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    attend = fast(flex.flex_attention, q.device)
    groups = q.shape[1] // k.shape[1]
    return attend(q, k, v, score_mod=capped if cap else None, block_mask=mask, enable_gqa=groups > 1)  # type: ignore[no-any-return]


def fast(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function compiled on a GPU; on a CPU, where it is only compared with, as it is."""
    return compiled(function) if device.type == "cuda" else function


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """One compiled function a process."""
    return torch.compile(function, dynamic=False)
