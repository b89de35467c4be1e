"""How fast this machine trains: a short measurement of real steps, and a line through two sizes.

At small sizes seconds per token are very nearly a + b·N: overheads and attention, plus the matrix products. Two
sizes measured side by side, one pinned process each as in a sweep, fix the line. Run as
``python -m isoflop.training.speed OUT PARAMETERS VOCAB CONTEXT``. The compiled graphs stay in torch's cache.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from isoflop.files import write_json


@dataclass(frozen=True)
class Speed:
    """Seconds per token as ``base + slope · N`` on one thread, and seconds to compile one shape."""

    base: float
    slope: float
    compile_seconds: float

    def seconds_per_token(self, parameters: float) -> float:
        """Training time of one token on one thread; N = ``matmul``."""
        return self.base + self.slope * parameters


def line(points: list[tuple[float, float, float]]) -> Speed:
    """The line through measurements (parameters, seconds per token, seconds to compile)."""
    (n1, t1, c1), (n2, t2, c2) = sorted(points)
    slope = max((t2 - t1) / (n2 - n1), 1e-12)
    return Speed(max(t1 - slope * n1, 0.0), slope, max(c1, c2))


def measure(parameters: float, vocab: int, context: int, seconds: float = 3.0) -> tuple[float, float, float]:
    """Train a model of about this size on random tokens: (parameters, seconds per token, seconds to compile)."""
    import torch

    from isoflop.model.llama import Llama
    from isoflop.planning.ladder import shape_for
    from isoflop.training.config import OptimizerConfig, TrainConfig
    from isoflop.training.hardware import compile_for, device_for, precision_for
    from isoflop.training.loss import cross_entropy
    from isoflop.training.optimizer import build_optimizer

    shape, device = shape_for(parameters, vocab, context=context), device_for("auto")
    compiled, _ = compile_for("always", device, 0.0)
    model = Llama(shape, compute=precision_for("auto", device), compiled=compiled).initialise(0).to(device)
    optimizer = build_optimizer(model, OptimizerConfig())
    rows = max(1, TrainConfig.micro_tokens // context)
    tokens = torch.randint(vocab, (rows, context + 1), generator=torch.Generator().manual_seed(0)).to(device)

    def step() -> float:
        loss = cross_entropy(model.hidden(tokens[:, :-1]), model.head, tokens[:, 1:], fast=compiled) / (rows * context)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss)

    began = time.perf_counter()
    step()
    compile_seconds = time.perf_counter() - began
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds or steps < 3:
        step()
        steps += 1
    return shape.matmul, (time.perf_counter() - began) / (steps * rows * context), compile_seconds


if __name__ == "__main__":
    out, size, vocabulary, length = sys.argv[1:]
    write_json(Path(out), measure(float(size), int(vocabulary), int(length)))
