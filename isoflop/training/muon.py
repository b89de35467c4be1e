"""Muon: momentum whose singular values are all made about 1, for the matrices of blocks; AdamW for everything else.

A matrix's update is the nearest one that turns and does not stretch: of momentum U·Σ·Vᵀ it is U·Vᵀ, found by five steps
of a quintic Newton–Schulz iteration (Jordan et al. 2024, kellerjordan.github.io/posts/muon), which needs products
only and leaves singular values between about 0.7 and 1.2. Scaled by 0.2·√(longer side) the update's entries are as
large as AdamW's usually are (Moonlight, arXiv 2502.16982, section 2.2), so that both obey one learning rate and one
decoupled decay. Embedding, head and norms are no maps between activations and stay with AdamW.

Query, key and value, gate and up are matrices of their own, which a block keeps joined for speed: each is made
orthogonal by itself. Together they would have to share one spectrum, the rows of one orthogonal to those of another,
and a run would depend on how its weights are stored. torch.optim.Muon (from 2.9) knows single matrices only, so it
serves as an oracle of the tests. Experts, matrices stacked along a first axis, go
through together.

State is one momentum a matrix, half of AdamW's. Every rank repeats the iteration on the summed gradient. Left out:
sharing it out among ranks, and sharded parameters, whose matrices would have to be gathered first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """About U·Vᵀ of matrix = U·Σ·Vᵀ (…, rows, columns), computed in ``dtype`` and returned in it.

    Singular values come out between 0.7 and 1.2, but for those far below the largest (by some thousand times).
    """
    a, b, c = COEFFICIENTS
    x: Tensor = matrix.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """Muon on the groups that have ``sizes``, AdamW on the others; one learning rate and one state for both.

    ``sizes`` are the rows of the matrices that a parameter of the group joins; ``momentum`` is Nesterov's.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float, dtype: torch.dtype, **adamw: Any) -> None:
        super().__init__(groups, **adamw)
        self.momentum, self.dtype = momentum, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; gradients of Muon's matrices are used up by it, so that AdamW passes them by."""
        for group in self.param_groups:
            if sizes := group.get("sizes"):
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self.turn(parameter, sizes, group["lr"], group["weight_decay"])
                        parameter.grad = None
        return super().step(closure)  # type: ignore[no-any-return]

    def turn(self, parameter: Tensor, sizes: tuple[int, ...], rate: float, decay: float) -> None:
        """One step of one parameter (…, sum of sizes, columns)."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - self.momentum)
        wanted = gradient.lerp(momentum, self.momentum)
        parameter.mul_(1 - rate * decay)
        for part, matrix in zip(*(torch.split(t, sizes, -2) for t in (parameter, wanted)), strict=True):
            scale = 0.2 * math.sqrt(max(matrix.shape[-2:]))
            part.add_(orthogonalised(matrix, self.dtype), alpha=-rate * scale)
