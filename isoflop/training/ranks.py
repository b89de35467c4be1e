"""Data parallelism: several processes share every batch and add up their gradients.

Each rank takes its slice of the same global batch, so a run means the same whatever the number of ranks, up to the
rounding of a sum taken in another order. One message a step carries all gradients, the loss and each rank's wish to
stop, so that all ranks leave at the same step. Started by ``training.launch`` on one machine, or by torchrun, whose
environment it reads. Where a process holds only a part of the model, ``training.mesh`` takes this one's place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from isoflop.model.llama import Llama
from isoflop.planning.parallel import Parallel
from isoflop.planning.shape import Shape

PLAIN = Parallel()


@dataclass(frozen=True)
class Ranks:
    """Which of how many cooperating processes this one is."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device, parallel: Parallel = PLAIN, shape: Shape | None = None) -> Ranks:
        """Join the group that the environment speaks of (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), if any.

        Raises ValueError where its processes cannot be arranged as ``parallel`` asks, which needs the model's shape.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        parallel.copies(count)
        if count == 1:
            return cls()
        if not dist.is_initialized():
            if device.type == "cuda":
                torch.cuda.set_device(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if not parallel.plain:
            from isoflop.training.mesh import Mesh

            assert shape is not None
            return Mesh.arrange(parallel, shape, device)
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
        if self.count > 1:
            sum_over(None, *tensors)

    @property
    def processes(self) -> int:
        """Processes in all."""
        return self.count

    def build(self, shape: Shape, seed: int, device: torch.device, **options: Any) -> Llama:
        """This process's part of a model, initialised: all of it."""
        return Llama(shape, **options).initialise(seed).to(device)

    def complete(self, model: Llama, *scalars: Tensor) -> None:
        """Make the gradients those of the whole batch, and sum the scalars, in one message."""
        self.add(*gradients(model), *scalars)

    def clip(self, model: Llama, limit: float) -> Tensor:
        """Scale the gradient down to a norm of ``limit`` where it is larger; returns the norm before."""
        return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)

    def deal(self, items: Sequence[Tensor]) -> Iterable[tuple[Tensor, float]]:
        """This rank's share of batches to measure, and their weight, which is 1."""
        return ((item, 1.0) for item in items[slice(*self.share(0, len(items)))])

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """This process's parameters by name, as the optimiser knows them: all that are trained."""
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the leading process, of which each process has a part: here, all have all.

        Names are those of parameters, or begin with them and a slash.
        """
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def part(self, name: str, whole: Tensor, parameter: Tensor) -> Tensor:
        """This process's part of a whole tensor that belongs to a parameter: all of it."""
        return whole.to(parameter.device, copy=True)

    def whole_shapes(self, model: nn.Module) -> dict[str, torch.Size]:
        """The shapes of all parameters of the whole model that are trained."""
        return {name: parameter.shape for name, parameter in Ranks.parameters(self, model).items()}


def sum_over(group: Any, *tensors: Tensor) -> None:
    """Sum each tensor over a group of processes, None for all, in place, in one message; all are of one type."""
    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat, group=group)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def gradients(model: nn.Module) -> list[Tensor]:
    """The gradients of all parameters that are trained; zeros where a rank's share was empty."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in trained if parameter.grad is not None]
