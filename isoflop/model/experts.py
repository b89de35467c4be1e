"""A mixture of SwiGLU experts in place of a block's feed-forward part: dropless, top-k, balanced by a loss.

A router scores every expert for every token in fp32; the best few answer, weighed by the softmax over their scores
alone. Tokens are sorted by expert and each expert multiplies just those it was given, however many (no capacity, no
token dropped: Gale et al. 2022, arXiv 2211.15841), in one grouped product where the device has one. Shapes do not
depend on the routing, so one compiled graph serves. Left out: shared experts, jitter, expert parallelism.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def route(x: Tensor, router: Tensor, active: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which experts answer each token of x (tokens, width) and with what weight, both (tokens, active); all scores."""
    scores = F.linear(x.float(), router)
    best, chosen = scores.topk(active)
    return chosen, best.softmax(-1), scores


def balance_loss(scores: Tensor, load: Tensor) -> Tensor:
    """count · Σ share of the load · mean probability, over experts: 1 where both are even (arXiv 2101.03961, eq. 4).

    scores (tokens, count) of the router, ``load`` (count,) the tokens that each expert was given.
    """
    return load.numel() * (load / load.sum() * scores.softmax(-1).mean(0)).sum()


def mixture(x: Tensor, router: Tensor, gate_up: Tensor, down: Tensor, active: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the experts make of x (batch, time, width), the balance loss, and the tokens given to each (count,), fp32.

    router (count, width), gate_up (count, 2·ffn, width), down (count, width, ffn).
    """
    flat = x.reshape(-1, x.shape[-1])
    chosen, weights, scores = route(flat, router, active)
    given = chosen.flatten()
    load = (given[:, None] == torch.arange(len(router), device=x.device)).sum(0)
    order = given.argsort(stable=True)
    answers = grouped_swiglu(flat[order // active], gate_up, down, load.cumsum(0).int())
    unsorted = answers[order.argsort()].view(*chosen.shape, -1)
    mixed = (unsorted.float() * weights[..., None]).sum(1).to(x.dtype)
    load = load.float()
    return mixed.view_as(x), balance_loss(scores, load), load


def grouped_swiglu(x: Tensor, gate_up: Tensor, down: Tensor, ends: Tensor) -> Tensor:
    """down(silu(gate(x)) · up(x)) of rows (rows, width) sorted by expert, whose last rows are before ``ends``."""
    gate, up = grouped_linear(x, gate_up, ends).chunk(2, -1)
    return grouped_linear(F.silu(gate) * up, down, ends)


def grouped_linear(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Each expert's own rows of x (rows, in) by its own matrix of ``weights`` (count, out, in)."""
    return F.grouped_mm(x, weights.to(x.dtype).transpose(1, 2), offs=ends)
