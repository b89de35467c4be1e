"""Learning from a teacher: its whole distribution at every position instead of the one token that followed.

Gemma 2 trains its small models so (arXiv 2408.00118, section 3.1: −Σ P_T·log P_S over the vocabulary) and Llama 3.2's
1B and 3B used the logits of larger ones. A teacher is a trained run with the same tokenizer, asked in one of two ways.
``Whole``: on the fly, its final states beside the student's; its logits exist a chunk of rows at a time, as the
student's do. Costs the teacher's forward pass for every token, a third of what training it on them would.
``Likeliest``: from a cache of its ``k`` likeliest tokens (``training.lessons``), k + 1 numbers and k ids a position.

What lies outside those k is not dropped, and not invented either: the remaining mass is kept as one event, "any other",
and the student is asked for the same mass there. This is the divergence between both distributions with the other
tokens taken together. So it is a lower bound of the whole one, 0 where student and teacher agree, the whole one at
k = vocabulary, and within "any other" the student's proportions are its own. Left out: several teachers, hidden states.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from isoflop.training.loss import capped

NEVER = -1e4  # the logarithm of a probability that fp32 cannot tell from 0


class Whole(NamedTuple):
    """Distributions as the teacher's final states (rows, width) and its head (vocab, width), in its compute type."""

    hidden: Tensor
    head: Tensor
    cap: float = 0.0

    def rows(self, part: slice) -> Self:
        """Those of some rows."""
        return self._replace(hidden=self.hidden[part])

    def logits(self, temperature: float = 1.0) -> Tensor:
        """Logits (rows, vocab) over the temperature, fp32."""
        return capped((self.hidden @ self.head.T).float(), self.cap) / temperature

    def against(self, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """−Σ P_T·log P_S (rows,) and its gradient P_S − P_T with respect to ``logits``, given over the temperature."""
        taught, ours = self.logits(temperature).softmax(-1), logits.log_softmax(-1)
        return -(taught * ours).sum(-1), ours.exp() - taught


class Likeliest(NamedTuple):
    """Distributions as ``ids`` (rows, k) and ``logs`` (rows, k + 1): log-probabilities, the last of all other tokens.

    They are as rounded as they are stored, and scaled to a sum of 1 where they are used. They hold at the temperature
    that they were made for.
    """

    ids: Tensor
    logs: Tensor

    def rows(self, part: slice) -> Self:
        """Those of some rows."""
        return self._replace(ids=self.ids[part], logs=self.logs[part])

    def against(self, logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Cross-entropy over k + 1 events (rows,), and its gradient with respect to ``logits``."""
        ids, taught = self.ids.long(), self.logs.float().softmax(-1)
        ours = logits.log_softmax(-1)
        others = ours.scatter(-1, ids, -torch.inf)
        rest = others.logsumexp(-1, keepdim=True).clamp(min=NEVER)
        lessons = -(taught[:, :-1] * ours.gather(-1, ids)).sum(-1) - taught[:, -1] * rest.squeeze(-1)
        expected = taught[:, -1:] * (others - rest).exp()
        return lessons, ours.exp() - expected.scatter(-1, ids, taught[:, :-1])


def likeliest(hidden: Tensor, head: Tensor, k: int, *, cap: float = 0.0, temperature: float = 1.0) -> Likeliest:
    """The ``k`` likeliest tokens of every row of final states (rows, width), their logarithms in fp32."""
    logs = (capped((hidden @ head.T).float(), cap) / temperature).log_softmax(-1)
    top, ids = logs.topk(k, -1)
    rest = logs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return Likeliest(ids, torch.cat([top, rest], -1))
