"""Ranks that hold parts of a model: which groups they form, and how gradients and weights become whole again.

Processes are numbered tensor, context, shard, replicate, pipeline from the innermost out. Sharding is torch's FSDP2,
block by block (``shard``): it gathers weights as they are needed, in the compute type, and adds up gradients in fp32 in
every micro-batch; what it does not know of is added up once a step (:meth:`Mesh.complete`): norms over tensor-parallel
ranks, a tied embedding over the two ends of a pipeline, and everything over copies where nothing is sharded.

Over gloo, losses of all layouts are within 2e-7 of one process's and gradient norms within 1e-6 (fp32). Nothing here
was run over nccl, nor compiled. Under FSDP the norms' weights are rounded to the compute type where they are used, as
in torchtitan; before it, a host holds the parts of its ranks unsharded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from isoflop.model.collectives import Axis
from isoflop.model.cuts import cuts
from isoflop.model.laid_out import initialise, lay_out, outline
from isoflop.model.llama import Llama
from isoflop.model.spread import Spread
from isoflop.planning.parallel import Parallel
from isoflop.planning.shape import Shape
from isoflop.training.gathering import Gathering, local, part_of
from isoflop.training.ranks import Ranks, gradients, sum_over

AXES = ("pipeline", "replicate", "shard", "context", "tensor")


@dataclass(frozen=True)
class Mesh(Ranks):
    """One process's place in an arrangement; ``rank`` and ``count`` are those of groups that share batches."""

    shape: Shape = field(kw_only=True)
    parallel: Parallel = field(default_factory=Parallel)
    world: Axis = field(default_factory=Axis)
    spread: Spread = field(default_factory=Spread)
    device: torch.device = field(kw_only=True)
    copies: Any = None
    """The mesh (replicate, shard) of ranks with the same part; context-parallel ones share its sharding."""
    alike: Any = None
    """The group of those ranks, and ``holders`` that of the first of them of every part."""
    holders: Any = None

    @classmethod
    def arrange(cls, parallel: Parallel, shape: Shape, device: torch.device) -> Mesh:
        """Form the groups of this process; all processes must come here together."""
        world = dist.get_world_size()
        p = parallel
        grid = torch.arange(world).view(p.pipeline, p.copies(world), p.shard, p.context, p.tensor)
        axes = DeviceMesh(device.type, grid, mesh_dim_names=AXES)
        copies = DeviceMesh(
            device.type, grid.flatten(2, 3), mesh_dim_names=("pipeline", "replicate", "shard", "tensor")
        )
        alike = DeviceMesh(device.type, grid.flatten(1, 3), mesh_dim_names=("pipeline", "alike", "tensor"))
        tensor, context, stages = (
            Axis(axes.get_local_rank(name), axes[name].size(), axes.get_group(name))
            for name in ("tensor", "context", "pipeline")
        )
        data = axes.get_local_rank("replicate") * p.shard + axes.get_local_rank("shard")
        return cls(
            rank=data,
            count=grid.shape[1] * p.shard,
            shape=shape,
            parallel=parallel,
            world=Axis(dist.get_rank(), world),
            spread=Spread(tensor, context, stages, shape.vocab),
            device=device,
            copies=copies["replicate", "shard"] if grid.shape[1] > 1 else copies["shard"],
            alike=alike.get_group("alike"),
            holders=dist.new_group(grid[:, 0, 0, 0].flatten().tolist(), backend="gloo"),
        )

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.world.rank == 0

    @property
    def processes(self) -> int:
        """Processes in all."""
        return self.world.count

    @property
    def holds(self) -> bool:
        """Whether this process is the first of those with the same part."""
        return self.rank == 0 and self.spread.context.rank == 0

    def add(self, *tensors: Tensor) -> None:
        """Sum each tensor over the ranks that have different shares of it, in place."""
        sum_over(None, *tensors)
        for tensor in tensors:  # tensor-parallel ranks have the same
            tensor /= self.spread.tensor.count

    def build(self, shape: Shape, seed: int, device: torch.device, **options: Any) -> Llama:
        """This process's part of a model, initialised and sharded."""
        model = initialise(lay_out(shape, self.parallel, self.spread, **options), seed)
        return self.shard(model) if self.parallel.shard > 1 else model.to(device)  # a block at a time, or at once

    def shard(self, model: Llama) -> Llama:
        """Shard every block, and what is outside blocks as one, over this process's copies."""
        compute = None if model.compute == torch.float32 else model.compute
        blocks, rest = (
            MixedPrecisionPolicy(dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
            for dtype in (compute, None)
        )
        for layer in model.blocks:
            fully_shard(layer, mesh=self.copies, mp_policy=blocks)
        fully_shard(model, mesh=self.copies, mp_policy=rest)
        register_fsdp_forward_method(model, "hidden")
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)  # losses are of the whole batch: gradients add up
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sums
        return model

    def complete(self, model: Llama, *scalars: Tensor) -> None:
        """Make the gradients those of the whole batch, and sum the scalars."""
        found = dict(zip((name for name, _ in model.named_parameters()), gradients(model), strict=True))
        if self.spread.tensor.count > 1:
            rules = cuts(model.shape)
            same = [local(g) for name, g in found.items() if name.rsplit(".", 1)[-1] not in rules]
            sum_over(self.spread.tensor.group, *same)
        if self.tied(model):
            self.add_other_end(local(found["embedding"]))
        if self.parallel.shard == 1:
            sum_over(self.alike, *found.values())
        self.add(*scalars)

    def tied(self, model: Llama) -> bool:
        """Whether this process has one of two copies of a tied embedding, at the ends of a pipeline."""
        return model.shape.tied and self.spread.stages.count > 1 and (self.spread.first or self.spread.last)

    def add_other_end(self, gradient: Tensor) -> None:
        """Add up the gradients of a tied embedding of the first and the last stage."""
        stages = self.spread.stages
        other = dist.get_global_rank(stages.group, stages.count - 1 if self.spread.first else 0)
        theirs = torch.empty_like(gradient)
        messages = [dist.P2POp(dist.isend, gradient, other), dist.P2POp(dist.irecv, theirs, other)]
        for request in dist.batch_isend_irecv(messages):
            request.wait()
        gradient += theirs

    def clip(self, model: Llama, limit: float) -> Tensor:
        """Scale the gradient down to a norm of ``limit``; returns the norm before, every parameter counted once."""
        found = {name: local(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        counted = [gradient for name, gradient in found.items() if self.counts(model, name)]
        device = next(iter(found.values())).device
        square = torch.zeros((), dtype=torch.float64, device=device)
        if counted:
            square += torch.stack(torch._foreach_norm(counted)).double().square().sum()
        dist.all_reduce(square)
        norm = square.sqrt()
        factor = (limit / (norm + 1e-6)).clamp(max=1.0)
        for gradient in found.values():
            gradient.mul_(factor)
        return norm

    def counts(self, model: Llama, name: str) -> bool:
        """Whether this process's part of a gradient is in the norm, and not that of another one like it."""
        copy = self.rank // self.parallel.shard if self.parallel.shard > 1 else not self.holds
        again = self.tied(model) and name == "embedding" and not self.spread.first
        whole_here = name.rsplit(".", 1)[-1] not in cuts(model.shape)
        return not (copy or again or (whole_here and self.spread.tensor.rank))

    def parameters(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """This process's parameters by name; those that a pass without gradients left gathered are sharded again."""
        if isinstance(model, FSDPModule):
            model.reshard()
        return super().parameters(model)

    def gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on the CPU of the leading process from all processes' parts of them; nothing elsewhere."""
        return Gathering(self.shape, self.spread.tensor, self.holders, self.holds, self.leads).gather(tensors)

    def part(self, name: str, whole: Tensor, parameter: Tensor) -> Tensor:
        """This process's part of a whole tensor that belongs to a parameter; scalars are whole everywhere."""
        return part_of(self.shape, self.spread.tensor, name, whole, parameter)

    def whole_shapes(self, model: nn.Module) -> dict[str, torch.Size]:
        """The shapes of all parameters of the whole model."""
        return {name: parameter.shape for name, parameter in outline(self.shape).named_parameters()}

    def deal(self, items: Sequence[Tensor]) -> Iterable[tuple[Tensor, float]]:
        """This rank's share of batches to measure, with weight 1; as many on every rank, for which some have 0."""
        each = -(-len(items) // self.count)
        for index in range(self.rank * each, (self.rank + 1) * each):
            yield items[min(index, len(items) - 1)], float(index < len(items))
