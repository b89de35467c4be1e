"""The parts of a run that a checkpoint holds: the weights, the optimiser's moments, and whatever else has a state.

A part gives tensors and a few plain values, and takes the same back. Every rank asks every part, in one order, because
a part whose tensors are spread over ranks gathers them; only the leading one writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from isoflop.training.ranks import Ranks


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
    """The parameters of a model, by name; each of ``ranks`` may hold a part of them."""

    model: nn.Module
    ranks: Ranks = field(default_factory=Ranks)

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter."""
        found = {name: parameter.detach() for name, parameter in self.ranks.parameters(self.model).items()}
        return self.ranks.gather(found)

    def record(self) -> dict[str, Any]:
        """Nothing else."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Copy the tensors into the parameters; a ValueError where names or shapes differ."""
        if error := mismatch(self.ranks.whole_shapes(self.model), {n: t.shape for n, t in tensors.items()}):
            raise ValueError(f"it is the checkpoint of another model: {error}; use the config of its own run")
        with torch.no_grad():
            for name, parameter in self.ranks.parameters(self.model).items():
                parameter.copy_(self.ranks.part(name, tensors[name], parameter))


@dataclass(frozen=True)
class Moments:
    """The optimiser's state, with the parameters' names: ``name/exp_avg`` and so on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ranks: Ranks = field(default_factory=Ranks)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the optimiser keeps."""
        found = {
            f"{name}/{key}": value.detach()
            for name, parameter in self.ranks.parameters(self.model).items()
            for key, value in self.optimizer.state[parameter].items()
        }
        return self.ranks.gather(found)

    def record(self) -> dict[str, Any]:
        """Nothing else: rates are the schedule's."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Give every parameter its state."""
        parameters = self.ranks.parameters(self.model)
        for key, value in tensors.items():
            name, field = key.rsplit("/", 1)
            if name in parameters:
                self.optimizer.state[parameters[name]][field] = self.ranks.part(name, value, parameters[name])


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on: its teacher, its examples. ``otherwise`` says what to do if not."""

    fingerprint: str
    otherwise: str

    def tensors(self) -> dict[str, Tensor]:
        """None: they are kept elsewhere."""
        return {}

    def record(self) -> dict[str, Any]:
        """The fingerprint."""
        return {"fingerprint": self.fingerprint}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """A ValueError where it was another."""
        if record["fingerprint"] != self.fingerprint:
            raise ValueError(self.otherwise)


def mismatch(expected: dict[str, torch.Size], found: dict[str, torch.Size]) -> str | None:
    """The first difference between two sets of parameter shapes, in words."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            ours, theirs = (tuple(s[name]) if name in s else "no tensor" for s in (expected, found))
            return f"{name} is {theirs} there and {ours} here"
    return None
