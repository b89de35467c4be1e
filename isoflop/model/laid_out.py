"""A model of which this process holds a part: its pipeline stage's blocks, cut for its tensor-parallel rank.

The weights are those of the whole model from the same seed, whatever the layout: every tensor is drawn whole, in the
order of ``Llama.initialise``, and the part kept. So memory is the part and one whole tensor; time is that of drawing
the whole model on one core. Names are the whole model's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoflop.model.collectives import Axis
from isoflop.model.cuts import Cut, cuts
from isoflop.model.llama import Llama
from isoflop.model.rotary import rotary_table
from isoflop.model.spread import Spread
from isoflop.planning.parallel import Parallel
from isoflop.planning.shape import Shape


def outline(shape: Shape, **options: Any) -> Llama:
    """The whole model without memory: names, shapes and how it is initialised."""
    with torch.device("meta"):
        return Llama(shape, **options)


def lay_out(shape: Shape, parallel: Parallel, spread: Spread, **options: Any) -> Llama:
    """The part of a Llama that ``spread`` says is this process's, on the CPU and not initialised."""
    model = outline(shape, **options)
    model.hold(spread)
    mine = parallel.stage(shape.layers, spread.stages.rank)
    for index in set(range(shape.layers)) - set(mine):
        delattr(model.blocks, str(index))  # which leaves the others their names
    if not spread.last:
        model.norm = model.untied_head = None  # type: ignore[assignment]
    if not spread.first and not (spread.last and shape.tied):
        model.embedding = None  # type: ignore[assignment]
    tables = rotary_table(shape.context, shape.head_dim, shape.rope_theta, shape.rope_scaling)
    for name, table in zip(("cos", "sin"), tables, strict=True):
        model.register_buffer(name, table, persistent=False)
    rules = cuts(shape)
    for name, whole in dict(model.named_parameters()).items():
        owner, last = owner_of(model, name)
        owner.register_parameter(last, nn.Parameter(torch.empty(local_shape(rules.get(last), whole, spread.tensor))))
    return model


def initialise(model: Llama, seed: int) -> Llama:
    """Fill this process's part as ``Llama.initialise`` fills the whole from the same seed; returns the model."""
    whole, mine, rules = outline(model.shape), dict(model.named_parameters()), cuts(model.shape)
    names = {id(parameter): name for name, parameter in whole.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    drawn = set()
    for parameter, std in whole.matrices():
        values = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
        drawn.add(name := names[id(parameter)])
        if name in mine:
            take(mine[name], values, rules.get(name.rsplit(".", 1)[-1]), model.spread.tensor)
    for name in mine.keys() - drawn:
        nn.init.ones_(mine[name])  # norms
    return model


@torch.no_grad()
def take(parameter: Tensor, whole: Tensor, cut: Cut | None, tensor: Axis) -> None:
    """Copy this rank's part of a whole tensor."""
    parameter.copy_(cut.take(whole, tensor.rank, tensor.count) if cut else whole)


def local_shape(cut: Cut | None, whole: Tensor, tensor: Axis) -> torch.Size:
    """The shape of a rank's part."""
    if cut is None:
        return whole.shape
    size = sum(length for _, length in cut.pieces(tensor.rank, tensor.count))
    return torch.Size([size if i == cut.dim else n for i, n in enumerate(whole.shape)])


def owner_of(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter, and what it calls it."""
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last
