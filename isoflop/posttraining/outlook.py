"""What a stage will read, take and cost, known before its first step: counts, FLOPs, memory, seconds.

The seconds are measured: a few micro-batches are learnt from, without a step of the optimiser, and the rest is
proportion. That costs those micro-batches, and compiling where the stage would compile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from isoflop.planning.block_memory import BF16, FULL, Engine
from isoflop.planning.layout import Layout
from isoflop.planning.memory import TrainingMemory, training_memory
from isoflop.posttraining.rows import fitting
from isoflop.posttraining.trainer import Stage
from isoflop.training.ranks import Ranks

MEASURED = 3
"""Micro-batches of which the fastest tells the speed."""


@dataclass(frozen=True)
class Outlook:
    """A stage before it begins.

    Attributes:
        examples: examples that are trained on; ``held_out`` are measured on.
        steps: steps over all epochs.
        tokens: tokens that are read over all epochs.
        trained: share of them that are targets.
        length: places of a row.
        filled: share of the rows' places that examples take.
        parameters: parameters that are trained, of ``parameters_in_all``.
        flops: of all rows, padding too, as if attention saw whole rows and all parameters were trained.
        memory: bytes of a process at its fullest (``planning.memory``).
        disk: bytes of a checkpoint and of the model at the end.
        seconds: expected, those of what is drawn anew for every step too; measuring what is held out is no part.
    """

    examples: int
    held_out: int
    steps: int
    tokens: int
    trained: float
    length: int
    filled: float
    parameters: int
    parameters_in_all: int
    flops: float
    memory: float
    disk: float
    seconds: float

    @classmethod
    def of(cls, stage: Stage, processes: int = 1) -> Outlook:
        """That of a stage which ``processes`` share."""
        task, tokens, places = stage.task, stage.read(stage.examples), stage.places
        parameters = sum(p.numel() for p in task.learner.parameters() if p.requires_grad)
        weights = sum(p.numel() for p in task.learner.parameters())
        return cls(
            examples=len(task.training),
            held_out=len(task.held_out),
            steps=stage.steps,
            tokens=tokens,
            trained=stage.targets / tokens,
            length=task.length,
            filled=tokens / places,
            parameters=parameters,
            parameters_in_all=weights,
            flops=stage.flops,
            memory=memory(stage, parameters / weights).total,
            disk=12.0 * parameters + 4.0 * weights,
            seconds=seconds(stage, processes),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self)


def memory(stage: Stage, trained: float) -> TrainingMemory:
    """Peak memory of a process of which a share of the parameters is ``trained``."""
    model, config = stage.task.model, stage.config
    rows = fitting(stage.config.micro_tokens // stage.task.length)
    device: Literal["cpu", "cuda"] = "cuda" if stage.device.type == "cuda" else "cpu"
    numerics = BF16 if model.compute == torch.bfloat16 else FULL
    shape = replace(model.shape, context=stage.task.length)
    layout = Layout(recompute=config.recompute, rows=rows)
    whole = training_memory(shape, layout, numerics=numerics, engine=Engine(model.compiled, device))
    return replace(whole, gradients=whole.gradients * trained, optimizer=whole.optimizer * trained)


def seconds(stage: Stage, processes: int) -> float:
    """Seconds of all steps, as ``processes`` of one thread share them, or one of as many as it has."""
    threads = torch.get_num_threads()
    if processes > 1:
        torch.set_num_threads(1)
    try:
        places = seconds_a_place(stage) * stage.places
        return (places + seconds_of_refreshing(stage) * stage.steps) / processes
    finally:
        torch.set_num_threads(threads)
        stage.optimizer.zero_grad(set_to_none=True)


def seconds_a_place(stage: Stage) -> float:
    """Seconds for one place of a row."""
    micro = next(stage.micro_batches(stage.batch(0)))
    rows = len(next(stage.pieces(stage.batch(0))))
    spent = []
    for _ in range(1 + MEASURED):  # the first compiles, and warms up
        began = time.perf_counter()
        objective, _ = stage.task.objective(micro)
        objective.backward()  # type: ignore[no-untyped-call]
        if stage.device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - began)
    return min(spent[1:]) / (rows * stage.task.length)


def seconds_of_refreshing(stage: Stage) -> float:
    """Seconds that making the first step's examples anew takes, where a stage does that before every step."""
    began = time.perf_counter()
    stage.task.refresh(stage.batch(0), 1, Ranks())
    return time.perf_counter() - began
