"""AdamW as the Llama papers use it: β .9/.95, decoupled decay .1 on matrices, gradient norm clipped at 1.

torch's AdamW multiplies the decay by the current learning rate, which is Llama 3's "0.1 × current rate". Norms
are not decayed. Left out: Muon and per-group learning rates.
"""

from __future__ import annotations

import torch
from torch import nn

from isoflop.training.adamw import AdamW
from isoflop.training.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Fused AdamW over the model's parameters in two groups: matrices with decay, norms without."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return AdamW(groups, lr=0.0, betas=betas, eps=config.eps, fused=True)
