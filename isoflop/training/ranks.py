"""Data parallelism: several processes share every batch and add up their gradients.

Each rank takes its slice of the same global batch, so a run means the same whatever the number of ranks, up to the
rounding of a sum taken in another order. One message a step carries all gradients, the loss and each rank's wish to
stop, so that all ranks leave at the same step. Started by ``training.launch`` on one machine, or by torchrun, whose
environment it reads. Left out: sharding of parameters and optimiser, tensor and pipeline parallelism.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """Which of how many cooperating processes this one is."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Join the group that the environment speaks of (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), if any."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), count)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def share(self, first: int, last: int) -> tuple[int, int]:
        """This rank's part of the half-open range first … last, as even as whole numbers allow."""
        size = last - first
        return first + size * self.rank // self.count, first + size * (self.rank + 1) // self.count

    def wait(self, device: torch.device) -> None:
        """Wait until all ranks are here."""
        self.add(torch.zeros((), device=device))

    def add(self, *tensors: Tensor) -> None:
        """Sum each fp32 tensor over the ranks, in place, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients of all parameters; zeros where a rank's share was empty."""
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
