"""How evenly a step's tokens fell to the experts, for the line of metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from isoflop.planning.shape import Shape


def no_load(shape: Shape, device: torch.device) -> Tensor:
    """Tokens given to each expert (layers, count) before any was; of no size for a model without experts."""
    return torch.zeros(shape.layers, shape.experts.count if shape.experts else 0, device=device)


def load_metrics(load: Tensor) -> dict[str, float]:
    """The largest share of a layer's tokens that one expert was given: 1 / count where all are alike."""
    if not load.numel():
        return {}
    return {"busiest_expert": round(float((load / load.sum(1, keepdim=True)).amax()), 4)}
