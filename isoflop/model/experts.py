"""A mixture of SwiGLU experts in place of a block's feed-forward part: dropless, top-k, balanced by a loss.

A router scores every expert for every token in fp32; the best few answer, weighed by the softmax over their scores
alone. Tokens are sorted by expert and each expert multiplies just those it was given, however many (no capacity, no
token dropped: Gale et al. 2022, arXiv 2211.15841): in bf16 on a GPU by torch's grouped product, which was not run here,
else one expert after another. Shapes do not depend on the routing, so one compiled graph serves. Left out: shared
experts, jitter, expert parallelism.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

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
    weights = weights.to(x.dtype)
    if x.device.type == "cuda" and x.dtype == torch.bfloat16:
        return F.grouped_mm(x, weights.transpose(1, 2), offs=ends)
    return _multiply(x, weights, ends)  # type: ignore[no-any-return]


@torch.library.custom_op("isoflop::grouped_linear", mutates_args=())
def _multiply(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """Expert after expert; opaque, so that graphs do not depend on how many rows each has."""
    out = x.new_empty(len(x), weights.shape[1])
    for rows, matrix in zip(_groups(ends), weights, strict=True):
        torch.mm(x[rows], matrix.T, out=out[rows])
    return out


@torch.library.custom_op("isoflop::grouped_linear_backward", mutates_args=())
def _multiply_backward(grad: Tensor, x: Tensor, weights: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and weights; zeros where an expert had no row."""
    grad_x, grad_weights = torch.empty_like(x), torch.empty_like(weights)
    for i, rows in enumerate(_groups(ends)):
        torch.mm(grad[rows], weights[i], out=grad_x[rows])
        torch.mm(grad[rows].T, x[rows], out=grad_weights[i])
    return grad_x, grad_weights


def _groups(ends: Tensor) -> list[slice]:
    """Each expert's rows."""
    return [slice(begin, end) for begin, end in pairwise([0, *ends.tolist()])]


@_multiply.register_fake
def _(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(len(x), weights.shape[1])


@_multiply_backward.register_fake
def _(grad: Tensor, x: Tensor, weights: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weights)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_multiply_backward(grad.contiguous(), *ctx.saved_tensors), None


_multiply.register_autograd(_differentiate, setup_context=_keep)
