"""Tensors made whole from the parts that processes hold, and cut into parts again, so that checkpoints know no layout.

One tensor at a time is gathered over the ranks that shard it, and sent over a gloo group of CPUs to the leading
process, which writes it where its cut says. The leading host needs memory for all that is kept; the others for one
tensor. Cutting needs no message: every process reads the whole tensor and keeps its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from isoflop.model.collectives import Axis
from isoflop.model.cuts import Cut, cuts
from isoflop.planning.shape import Shape

Listing = list[tuple[str, tuple[int, ...], torch.dtype]]
"""Names, shapes and types of the parts that a process sends, in its order."""


@dataclass(frozen=True)
class Gathering:
    """Who sends to the leading process: ``holders``, the first process of each part; ``holds`` says if this is one."""

    shape: Shape
    tensor: Axis
    holders: Any
    holds: bool
    leads: bool

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the leading process, nothing elsewhere; all processes must come here together.

        Names are those of parameters, or begin with them and a slash.
        """
        mine: Listing = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()]
        listings: list[Listing | None] = [None] * dist.get_world_size()
        dist.all_gather_object(listings, mine if self.holds else [])
        whole: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.leads:
                self.put(whole, name, full.cpu(), 0)
            elif self.holds:
                dist.send(full.cpu().contiguous(), 0, self.holders)
        if self.leads:
            for rank, listing in enumerate(listings[1:], 1):
                for name, shape, dtype in listing or ():
                    part = torch.empty(shape, dtype=dtype)
                    dist.recv(part, rank, self.holders)
                    self.put(whole, name, part, rank)
        return whole

    def put(self, whole: dict[str, Tensor], name: str, part: Tensor, rank: int) -> None:
        """Write the part of a process where it belongs; tensor-parallel ranks are numbered innermost."""
        cut = cut_of(self.shape, name.split("/")[0], part)
        if cut is None or self.tensor.count == 1:
            whole[name] = part.clone()
            return
        if name not in whole:
            whole[name] = torch.empty(cut.whole(part.shape), dtype=part.dtype)
        cut.put(whole[name], part, rank % self.tensor.count, self.tensor.count)


def part_of(shape: Shape, tensor: Axis, name: str, whole: Tensor, parameter: Tensor) -> Tensor:
    """A process's part of a whole tensor, laid out as its parameter ``name`` is; scalars are whole everywhere."""
    cut = cut_of(shape, name, whole)
    part = (cut.take(whole, tensor.rank, tensor.count) if cut else whole).to(parameter.device)
    if isinstance(parameter, DTensor) and part.dim():
        return distribute_tensor(part, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return part


def cut_of(shape: Shape, name: str, tensor: Tensor) -> Cut | None:
    """How the parameter ``name``, or what the optimiser keeps of it, is cut."""
    return cuts(shape).get(name.rsplit(".", 1)[-1]) if tensor.dim() else None


def local(tensor: Tensor) -> Tensor:
    """What of a tensor is on this process."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
