"""Loss by position in the context: what a longer one buys, and where a model trained at a shorter one is lost.

The mean over all positions hides both: the first tokens of a sequence have little to go by whatever the context, and
behind the length trained at, loss may rise for ever. Costs the full logits of a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.model.llama import Llama

ROWS = 4096
"""Tokens whose logits are held at once."""


@torch.no_grad()
def loss_by_position(model: Llama, tokens: Tensor, edges: Sequence[int]) -> list[float]:
    """Nats per token of sequences (rows, context + 1) between each two neighbouring ``edges`` of positions."""
    context = tokens.shape[1] - 1
    if list(edges) != sorted(set(edges)) or edges[0] < 0 or edges[-1] > context:
        raise ValueError(f"edges must ascend within a context of {context}, not {list(edges)}")
    total = torch.zeros(context, dtype=torch.float64)
    for rows in torch.split(tokens, max(1, ROWS // context)):
        rows = rows.to(model.embedding.device)
        logits = model(rows[:, :-1]).float().flatten(0, 1)
        nats = F.cross_entropy(logits, rows[:, 1:].flatten(), reduction="none")
        total += nats.view(len(rows), context).double().sum(0).cpu()
    means = total / len(tokens)
    return [float(means[start:end].mean()) for start, end in pairwise(edges)]
