"""The mean of the weights over a stretch of the run, usually its annealing: a running mean that checkpoints hold.

Costs one more copy of the weights in fp32, and a pass over them where one is taken. The mean is exact in its order: an
interrupted run ends with the bits of one that was not. Checkpoints have it as ``average.safetensors``, with the names
of the weights, so that whatever loads those can load these. Left out: exponential averages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.planning.averaging import Averaging
from isoflop.training.parts import Weights
from isoflop.training.ranks import Ranks
from isoflop.training.validation import BPB, LOSS, BlendedValidation, Validation

PART = "average"


class Average:
    """The running mean of a model's parameters, of ``count`` states so far."""

    def __init__(self, model: Llama, rule: Averaging, ranks: Ranks) -> None:
        self.model, self.rule, self.ranks, self.count = model, rule, ranks, 0
        self.means: list[Tensor] = []

    @torch.no_grad()
    def take(self, before: int, now: int) -> None:
        """Count the weights in, if the rule says so of the step from ``before`` to ``now`` tokens."""
        if not self.rule.due(before, now):
            return
        parameters = list(self.model.parameters())
        if not self.count:
            self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.count += 1
        for mean, parameter in zip(self.means, parameters, strict=True):
            mean += (parameter - mean) / self.count

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the mean, and its own weights back afterwards, bit by bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self.means, self.model.parameters(), strict=True):
            weights = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(weights)

    def measure(self, validation: Validation | BlendedValidation, ranks: Ranks) -> dict[str, float]:
        """Loss and bits per byte of the mean, as ``validation_loss_averaged`` and so on; none before there is one."""
        if not self.count:
            return {}
        with self.in_place():
            found = validation.measure(self.model, ranks)
        return {f"{key}_averaged": found[key] for key in (LOSS, BPB)} | {"averaged_states": self.count}

    def tensors(self) -> dict[str, Tensor]:
        """The mean under the parameters' names, gathered as the weights themselves are."""
        if not self.count:
            return {}
        with self.in_place():
            return {name: tensor.clone() for name, tensor in Weights(self.model, self.ranks).tensors().items()}

    def record(self) -> dict[str, Any]:
        """How many states it is the mean of, and by which rule."""
        return {"count": self.count, **asdict(self.rule)}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Take up the mean; another rule's is another's, and this one then begins anew."""
        ours = record == self.record() | {"count": record["count"]}
        self.count, self.means = 0, []
        if not ours or not record["count"]:
            return
        self.means = [torch.zeros_like(parameter) for parameter in self.model.parameters()]
        with self.in_place():
            Weights(self.model, self.ranks).restore(tensors, {})
        self.count = int(record["count"])
