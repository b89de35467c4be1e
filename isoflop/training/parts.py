"""The parts of a run that a checkpoint holds: the weights, the optimiser's moments, and whatever else has a state.

A part gives tensors and a few plain values, and takes the same back. Every rank asks every part, in one order, because
a part whose tensors are spread over ranks gathers them; only the leading one writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Part(Protocol):
    """Something that goes on where it stood."""

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, whole and contiguous; they may be views of what training goes on to change."""
        ...

    def record(self) -> dict[str, Any]:
        """Its other state, as JSON values."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take up the state; a ValueError where it is another's."""
        ...


@dataclass(frozen=True)
class Weights:
    """The parameters of a model, by name."""

    model: nn.Module

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter."""
        return {name: parameter.detach().contiguous() for name, parameter in self.model.named_parameters()}

    def record(self) -> dict[str, Any]:
        """Nothing else."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Copy the tensors into the parameters; a ValueError where names or shapes differ."""
        parameters = dict(self.model.named_parameters())
        if error := mismatch({n: p.shape for n, p in parameters.items()}, {n: t.shape for n, t in tensors.items()}):
            raise ValueError(f"it is the checkpoint of another model: {error}; use the config of its own run")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])


@dataclass(frozen=True)
class Moments:
    """The optimiser's state, with the parameters' names: ``name/exp_avg`` and so on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the optimiser keeps."""
        return {
            f"{name}/{key}": value.detach().contiguous()
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }

    def record(self) -> dict[str, Any]:
        """Nothing else: rates are the schedule's."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Give every parameter its state."""
        parameters = dict(self.model.named_parameters())
        for key, value in tensors.items():
            name, field = key.rsplit("/", 1)
            self.optimizer.state[parameters[name]][field] = value.to(parameters[name].device, copy=True)


def mismatch(expected: dict[str, torch.Size], found: dict[str, torch.Size]) -> str | None:
    """The first difference between two sets of parameter shapes, in words."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            ours, theirs = (tuple(s[name]) if name in s else "no tensor" for s in (expected, found))
            return f"{name} is {theirs} there and {ours} here"
    return None
