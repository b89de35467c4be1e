"""AdamW as the Llama papers use it: β .9/.95, decoupled decay .1 on matrices, gradient norm clipped at 1; or Muon.

torch's AdamW multiplies the decay by the current learning rate, which is Llama 3's "0.1 × current rate". Norms
are not decayed. With ``muon`` the matrices of blocks go by ``training.muon``, at the same rates and decay, and all else
as before. Left out: per-group learning rates.
"""

from __future__ import annotations

from typing import Any

import torch

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.training.adamw import AdamW
from isoflop.training.config import OptimizerConfig
from isoflop.training.muon import Muon


def build_optimizer(model: Llama, config: OptimizerConfig, learner: torch.nn.Module | None = None) -> torch.optim.AdamW:
    """Fused AdamW over what is trained, in two groups, matrices with decay, norms without; Muon's own first.

    That is every parameter with a gradient of the ``learner``, which is more than the model where there is a head on
    it, by default the model's.
    """
    named = {name: p for name, p in (model if learner is None else learner).named_parameters() if p.requires_grad}
    turned = joined(model.shape) if config.kind == "muon" else {}
    groups: list[dict[str, Any]] = [
        {"params": mine, "weight_decay": config.weight_decay, "sizes": sizes}
        for kind, sizes in turned.items()
        if (mine := [named.pop(name) for name in list(named) if name.startswith("blocks.") and name.endswith(kind)])
    ]
    groups += [
        {"params": [p for p in named.values() if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in named.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    settings: dict[str, Any] = {"lr": 0.0, "betas": (config.beta1, config.beta2), "eps": config.eps, "fused": True}
    if config.kind == "muon":
        return Muon(groups, config.momentum, model.compute, **settings)
    return AdamW(groups, **settings)


def joined(shape: Shape) -> dict[str, tuple[int, ...]]:
    """A block's matrices by the ends of their names, each with the rows of those it joins."""
    width, kv_width, ffn = shape.width, shape.kv_width, shape.ffn
    return {".qkv": (width, kv_width, kv_width), ".out": (width,), ".gate_up": (ffn, ffn), ".down": (width,)}
