"""How far a student's distribution over the next token is from a teacher's, and the slope of that.

The generalised Jensen–Shannon divergence (Agarwal et al. 2023, arXiv 2306.13649, section 2) with teacher p, student q
and their mixture m = β·p + (1 − β)·q is β·KL(p‖m) + (1 − β)·KL(q‖m). Over β it tends to KL(p‖q) as β → 0, over 1 − β to
KL(q‖p) as β → 1; β = 0 and β = 1 stand for these, as in common trainers. KL(p‖q) makes a student cover all that its
teacher may say; KL(q‖p) only asks that what it says itself is likely to the teacher.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

from isoflop.training.distillation import Whole
from isoflop.training.loss import capped, chunk_rows


class Divergence(NamedTuple):
    """The divergence from a teacher's distributions, as what is taught (:class:`training.loss.Taught`)."""

    teacher: Whole
    beta: float

    def rows(self, part: slice) -> Self:
        """Those of some rows."""
        return self._replace(teacher=self.teacher.rows(part))

    def against(self, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The divergence in nats (rows,), and its gradient with respect to ``logits``, given over the temperature."""
        theirs, ours = self.teacher.logits(temperature).log_softmax(-1), logits.log_softmax(-1)
        taught, said, beta = theirs.exp(), ours.exp(), self.beta
        if beta == 0:
            return (taught * (theirs - ours)).sum(-1), said - taught
        if beta == 1:
            mixture, share = theirs, 1.0
        else:
            mixture, share = torch.logaddexp(theirs + math.log(beta), ours + math.log1p(-beta)), 1 - beta
        above = ours - mixture
        own = (said * above).sum(-1)
        slope = share * said * (above - own[:, None])  # what m changes with q adds up to nothing
        return beta * (taught * (theirs - mixture)).sum(-1) + share * own, slope


@torch.no_grad()
def compared(hidden: Tensor, head: Tensor, cap: float, teacher: Whole, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Summed KL(student‖teacher) in nats, and in how many rows both hold the same token likeliest.

    hidden (rows, width) are the student's states, of which the ``counted`` (rows,) count.
    """
    nats, alike = torch.zeros((), device=hidden.device), torch.zeros((), device=hidden.device)
    weights, size = head.to(hidden.dtype), chunk_rows(len(hidden), head.shape[0])
    for start in range(0, len(hidden), size):
        part = slice(start, start + size)
        logits, own = capped((hidden[part] @ weights.T).float(), cap), teacher.rows(part)
        nats += Divergence(own, 1.0).against(logits, 1.0)[0][counted[part]].sum()
        alike += (logits.argmax(-1) == own.logits().argmax(-1))[counted[part]].sum()
    return nats, alike
