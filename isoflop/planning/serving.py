"""The largest Llama that a device can hold for inference: its weights, one sequence's cache, and what computing takes.

Bisection over the ladder with the memory model, some milliseconds. Left out: batches of requests, which need a cache
each, offloading, and how fast it then answers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

from isoflop.planning.hardware import device
from isoflop.planning.ladder import shape_for, smallest
from isoflop.planning.memory import InferenceMemory, Stored, inference_memory
from isoflop.planning.shape import Shape, human

ROOM = 0.95
"""Share of the memory that may be filled: a display or a driver takes some, fragments take some."""


@dataclass(frozen=True)
class Serving:
    """A place that must hold a model: bytes of memory, its name, and the type of the weights there."""

    memory: float
    where: str
    weights: Stored
    model: InferenceMemory | None = None

    @classmethod
    def on(cls, text: str, weights: str) -> Serving:
        """From a device's name or "24 GB". Raises ValueError for anything else."""
        if weights not in get_args(Stored):
            raise ValueError(f"weights cannot be held in {weights!r}; choose {', '.join(get_args(Stored))}")
        if found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(GB|GiB)\s*", text, re.IGNORECASE):
            size = float(found[1]) * (2**30 if found[2].lower() == "gib" else 1e9)
            if not size:
                raise ValueError(f"{text!r} holds no model; give some memory")
            return cls(size, text.strip(), weights)  # type: ignore[arg-type]
        kind = device(text)
        if kind.memory is None:
            raise ValueError(f"the memory of {kind.name} is not known; give it, such as '24 GB'")
        return cls(float(kind.memory), f"one {kind.name}", weights)  # type: ignore[arg-type]

    def holding(self, shape: Shape) -> Serving:
        """The same with a model in it."""
        return replace(self, model=self.needs(shape))

    def needs(self, shape: Shape) -> InferenceMemory:
        """Memory of serving one sequence of the shape's context."""
        return inference_memory(shape, context=shape.context, batch=1, weights=self.weights)

    def fits(self, shape: Shape) -> bool:
        """Whether a model fits."""
        return self.needs(shape).total <= ROOM * self.memory

    def largest(self, vocab: int, context: int) -> Shape:
        """The largest model of the ladder that fits. Raises ValueError where not even the smallest does."""
        return _largest(self, vocab, context)

    def __str__(self) -> str:
        if self.model is None:
            return f"{self.where}, {self.weights} weights"
        used = f"{self.model.total / 1e9:.3g} of {self.memory / 1e9:.3g} GB"
        return f"{self.where} holds it with {self.weights} weights: {used}"

    def to_json(self) -> dict[str, Any]:
        """The place and what the model takes there, as plain values."""
        model = None if self.model is None else self.model.to_json()
        return {"memory": self.memory, "where": self.where, "weights": self.weights, "model": model}


@lru_cache(maxsize=64)
def _largest(place: Serving, vocab: int, context: int) -> Shape:
    least = smallest(vocab, context=context)
    if not place.fits(least):
        raise ValueError(
            f"{place.where} holds no Llama with a vocabulary of {vocab:,} and {context:,} tokens of context: the "
            f"smallest ({human(least.total)}) needs {place.needs(least).total / 1e9:.3g} GB; give more memory or a "
            f"shorter context"
        )
    best, low, high = least, math.log(least.matmul), math.log(place.memory * 4)
    for _ in range(24):
        middle = (low + high) / 2
        shape = shape_for(math.exp(middle), vocab, context=context)
        if place.fits(shape):
            low, best = middle, max(best, shape, key=lambda s: s.total)
        else:
            high = middle
    return best
