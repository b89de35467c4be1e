"""Cross-entropy of the output head without ever holding all logits, and what else may be asked of the logits.

The gradient of the loss with respect to the hidden states and the head is computed in the forward pass, a chunk
of rows at a time, while that chunk's logits are still in cache; the backward pass only scales it. Memory is one
chunk of logits instead of rows × vocabulary, three times over. Logits are reduced in fp32, and the head's
gradient is accumulated over chunks in fp32. So are the additions, all off by default, when no bit changes: a soft cap
of the logits, the z-loss (PaLM, arXiv 2204.02311, section 5), and a teacher's distribution beside the targets. What
is optimised and the plain cross-entropy come apart with them; both are returned. Left out: label smoothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from isoflop.model.spread import WHOLE, Spread
from isoflop.tokens.packing import PADDING

CHUNK_ELEMENTS = 1 << 20  # logits held at once: 4 MB in fp32, about a core's share of cache


class Terms(NamedTuple):
    """What a row's objective is made of: (1 − ``weight``)·cross-entropy to its target + ``weight``·τ²·that to the
    teacher's distribution at ``temperature`` τ + ``z``·log²Z, all of logits capped softly at ``cap`` (0: not at all).
    """

    z: float = 0.0
    cap: float = 0.0
    weight: float = 0.0
    temperature: float = 1.0


PLAIN = Terms()


class Taught(Protocol):
    """A teacher's distributions over the vocabulary, one for each row (``training.distillation``)."""

    def rows(self, part: slice) -> Self:
        """Those of some rows."""
        ...

    def against(self, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Cross-entropy (rows,) from them to softmax(``logits``), and its gradient with respect to the logits."""
        ...


def capped(logits: Tensor, cap: float) -> Tensor:
    """c·tanh(x/c), or the logits as they are where the cap is 0."""
    return cap * torch.tanh(logits / cap) if cap else logits


def chunk_gradient(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    padded: bool = False,
    terms: Terms = PLAIN,
    taught: Taught | None = None,
    spread: Spread = WHOLE,
    apart: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Summed objective and cross-entropy of one chunk, and the objective's gradients to ``hidden`` and ``head``.

    hidden (rows, width) and head (vocab, width) in the compute type, targets (rows,). With ``padded`` a target below 0
    is none: its row has no loss and no gradient. Of a vocabulary that is ``spread`` over ranks, ``head`` is this
    rank's rows; the gradient of ``hidden`` is then this rank's part of a sum. With ``apart`` every row's cross-entropy
    comes last.
    """
    logits = capped((hidden @ head.T).float(), terms.cap)
    top = spread.largest(logits.amax(-1, keepdim=True))
    shifted = logits - top
    exponentials = shifted.exp()
    total = spread.total(exponentials.sum(-1, keepdim=True))
    ids = torch.arange(head.shape[0], device=head.device) + spread.ids[0]
    hit = ids == targets[:, None]
    objective = nats = total.log().squeeze(-1) - spread.total(torch.where(hit, shifted, 0.0).sum(-1))
    gradient = exponentials / total - hit.float()
    if taught is not None:
        share, scale = 1 - terms.weight, terms.weight * terms.temperature
        lessons, slopes = taught.against(logits / terms.temperature, terms.temperature)
        objective, gradient = share * nats + scale * terms.temperature * lessons, share * gradient + scale * slopes
    if terms.z:
        log_z = total.log() + top
        objective = objective + terms.z * log_z.square().squeeze(-1)
        gradient = gradient + 2 * terms.z * log_z * (exponentials / total)
    if terms.cap:
        gradient = gradient * (1 - (logits / terms.cap).square())
    if padded:
        objective, nats = objective.where(targets >= 0, 0.0), nats.where(targets >= 0, 0.0)
        gradient = gradient.where(targets[:, None] >= 0, 0.0)
    gradient = gradient.to(hidden.dtype)
    return objective.sum(), nats.sum(), gradient @ head, (gradient.T @ hidden).float(), nats if apart else None


def chunk_loss(hidden: Tensor, head: Tensor, targets: Tensor, cap: float) -> Tensor:
    """Summed loss of one chunk, in fp32."""
    logits = capped((hidden @ head.T).float(), cap)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum", ignore_index=PADDING)


@cache
def compiled_gradient() -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]]:
    """The chunk's arithmetic as one compiled graph per shape."""
    return torch.compile(chunk_gradient, dynamic=False)


class ChunkedLosses(torch.autograd.Function):
    """Summed losses (see :func:`losses`), the gradient computed chunk by chunk on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        rows: int,
        fast: bool,
        padded: bool,
        terms: Terms,
        taught: Taught | None,
        spread: Spread,
        each: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Sum the losses over chunks of ``rows`` rows and keep both gradients."""
        step = compiled_gradient() if fast else chunk_gradient
        weights = head.to(hidden.dtype)
        objective, nats = torch.zeros((), device=hidden.device), torch.zeros((), device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros(head.shape, device=head.device)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            lessons = taught.rows(part) if taught is not None else None
            wanted, plain, grad_hidden[part], grad, apart = step(
                hidden[part], weights, targets[part], padded, terms, lessons, spread, each is not None
            )
            if each is not None and apart is not None:
                each[part] = apart
            objective += wanted
            nats += plain
            grad_head += grad
        ctx.save_for_backward(grad_hidden, grad_head)
        ctx.mark_non_differentiable(nats)
        return objective, nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the stored gradients."""
        grad_hidden, grad_head = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_head * grads[0], *[None] * 8


def losses(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    fast: bool = False,
    padded: bool = False,
    terms: Terms = PLAIN,
    taught: Taught | None = None,
    spread: Spread = WHOLE,
    each: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Summed objective, to be descended, and cross-entropy in nats, to be read, of logits ``hidden @ headᵀ``.

    hidden (…, width) against target ids (…); ``taught`` has a row for each target; ``each``, of the targets' shape, is
    filled with every target's cross-entropy. ``fast`` compiles the arithmetic of the gradient; ``padded`` says that
    targets below 0 are none; ``spread`` says of which part of the vocabulary ``head`` has the rows. Divide by the
    number of targets for nats per token: the sum is returned so that accumulation over micro-batches is normalised
    once, per token.
    """
    rows = chunk_rows(targets.numel(), head.shape[0])
    flat = hidden.reshape(-1, hidden.shape[-1])
    nats = None if each is None else each.view(-1)
    arguments = (flat, head, targets.reshape(-1), rows, fast, padded, terms, taught, spread, nats)
    return ChunkedLosses.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


def cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    *,
    fast: bool = False,
    padded: bool = False,
    cap: float = 0.0,
    spread: Spread = WHOLE,
) -> Tensor:
    """Summed cross-entropy in nats, as :func:`losses`; without gradients where none are wanted."""
    if torch.is_grad_enabled():
        return losses(hidden, head, targets, fast=fast, padded=padded, terms=Terms(cap=cap), spread=spread)[0]
    rows = chunk_rows(targets.numel(), head.shape[0])
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    weights = head.to(flat.dtype)
    targets = targets.clamp(min=PADDING) if padded else targets
    starts = range(0, len(flat), rows)
    if spread.tensor.count > 1:  # as dear as its gradient
        step = partial(chunk_gradient, padded=True, terms=Terms(cap=cap), spread=spread)
        parts = [step(flat[i : i + rows], weights, targets[i : i + rows])[0] for i in starts]
    else:
        parts = [chunk_loss(flat[i : i + rows], weights, targets[i : i + rows], cap) for i in starts]
    return torch.stack(parts).sum()


def chunk_rows(rows: int, vocab: int) -> int:
    """Rows per chunk: the largest equal split that keeps a chunk's logits within CHUNK_ELEMENTS."""
    chunks = max(1, -(-rows * vocab // CHUNK_ELEMENTS))
    while rows % chunks:
        chunks += 1
    return rows // chunks
