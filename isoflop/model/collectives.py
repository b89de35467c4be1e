"""Messages between processes inside the network: operations that autograd and the compiler know.

The operators below are those that torch's own functional collectives are made of; their Python names changed between
releases, the operators did not. Each waits for its message: hiding it behind work is the compiler's to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ops = torch.ops._c10d_functional


@dataclass(frozen=True)
class Axis:
    """One process's place among those that split something: its rank, their count and their group."""

    rank: int = 0
    count: int = 1
    group: Any = None


def gathered(x: Tensor, dim: int, axis: Axis) -> Tensor:
    """The ranks' tensors one after another along ``dim``."""
    whole: Tensor = ops.wait_tensor(ops.all_gather_into_tensor(x.contiguous(), axis.count, axis.group.group_name))
    return torch.cat(whole.chunk(axis.count), dim) if dim else whole


def scattered(x: Tensor, dim: int, axis: Axis) -> Tensor:
    """This rank's part along ``dim`` of the sum of the ranks' tensors."""
    x = torch.cat(x.chunk(axis.count, dim)) if dim else x.contiguous()
    part: Tensor = ops.wait_tensor(ops.reduce_scatter_tensor(x, "sum", axis.count, axis.group.group_name))
    return part


def reduced(x: Tensor, how: str, axis: Axis) -> Tensor:
    """The ranks' tensors, of one shape, combined by ``sum`` or ``max``. Outside autograd."""
    found: Tensor = ops.wait_tensor(ops.all_reduce(x.contiguous(), how, axis.group.group_name))
    return found


class Gather(torch.autograd.Function):
    """:func:`gathered`; the gradient is the part of the sum of the ranks' gradients, taken in the type ``summed``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, axis: Axis, summed: torch.dtype) -> Tensor:
        """Gather."""
        ctx.dim, ctx.axis, ctx.summed = dim, axis, summed
        return gathered(x, dim, axis)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Add up and scatter."""
        gradient = scattered(grads[0].to(ctx.summed), ctx.dim, ctx.axis)
        return gradient.to(grads[0].dtype), None, None, None


class Scatter(torch.autograd.Function):
    """:func:`scattered`; every rank's gradient is all of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, axis: Axis) -> Tensor:
        """Add up and scatter."""
        ctx.dim, ctx.axis = dim, axis
        return scattered(x, dim, axis)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gather."""
        return gathered(grads[0], ctx.dim, ctx.axis), None, None
