"""One step of a stage: its examples by arithmetic, their objective and its gradient, the optimiser at its rate.

A step's examples are their places in a permutation of each epoch, keyed by the seed, so the only state is how many
steps were taken. Its gradient is that of a mean over the whole batch, whatever micro-batches or processes it was added
up from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoflop.keys import derive_key
from isoflop.planning.schedule import Schedule
from isoflop.posttraining.rows import fitting, packed, pieces
from isoflop.posttraining.settings import StageConfig
from isoflop.posttraining.task import Sums, Task
from isoflop.tokens.order import permutation
from isoflop.tokens.packing import Ints
from isoflop.training import checkpoint
from isoflop.training.checkpoint import Progress
from isoflop.training.guard import Guard, Sentry
from isoflop.training.hardware import compile_for
from isoflop.training.optimizer import build_optimizer
from isoflop.training.parts import Identity, Moments, Part, Weights
from isoflop.training.ranks import Ranks, gradients
from isoflop.training.run import Run

ALONE = Ranks()
UNSHARED = 10
"""How many times longer a stage must be than a run of a sweep before it is compiled: a sweep's runs share their graphs,
a stage waits some 20 s for each of its own (docs/lab.md)."""
OTHER_EXAMPLES = "its examples are not those it has learnt from so far; restore the data, or start another directory"


class Stage:
    """The moving parts of a stage between its first and last step."""

    def __init__(self, config: StageConfig, task: Task, run: Run, ranks: Ranks = ALONE) -> None:
        self.config, self.task, self.run, self.ranks = config, task, run, ranks
        self.device = task.model.embedding.device
        self.progress = Progress(0, 0, 0.0)
        shapes = fitting(config.micro_tokens // task.length).bit_length()  # powers of two up to a whole micro-batch
        task.model.compiled, _ = compile_for(config.compile, self.device, self.flops / (shapes * UNSHARED))
        self.optimizer = build_optimizer(task.model, config.optimizer, task.learner)
        self.sentry = Sentry(Guard())
        self.parts: dict[str, Part] = {
            "model": Weights(task.learner),
            "optimizer": Moments(task.learner, self.optimizer),
            "guard": self.sentry,
            "examples": Identity(task.fingerprint, OTHER_EXAMPLES),
        }

    @cached_property
    def total(self) -> int:
        """Examples over the whole stage, repeated ones counted again."""
        return max(1, round(self.config.epochs * len(self.task.training)))

    @property
    def steps(self) -> int:
        """Steps of the whole stage; the last may be smaller."""
        return -(-self.total // self.config.batch)

    @cached_property
    def examples(self) -> Ints:
        """All examples of the stage in their order."""
        return np.concatenate([self.batch(step) for step in range(self.steps)])

    @cached_property
    def places(self) -> int:
        """Places of all rows over the whole stage, padding included."""
        return self.task.length * sum(len(self.rows(self.batch(step))) for step in range(self.steps))

    @property
    def targets(self) -> int:
        """What all examples of the stage weigh."""
        return int(self.task.weights[self.examples].sum())

    @property
    def flops(self) -> float:
        """Training FLOPs of all rows, as if attention saw whole ones and all parameters were trained."""
        return float(self.task.model.shape.flops_per_token_at(self.task.length)) * self.places

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate, over examples."""
        config = self.config
        return Schedule(self.total, config.rate, int(config.warmup * self.total), kind="cosine", floor=config.floor)

    def resume(self) -> None:
        """Load the newest checkpoint if there is one, and cut the metrics back to it."""
        if (path := checkpoint.latest(self.run.path)) is not None:
            self.progress = checkpoint.load(path, self.parts)
        if self.ranks.leads:
            self.run.rewind(self.progress.tokens if self.progress.step else -1)

    def batch(self, step: int) -> Ints:
        """The numbers of a step's examples."""
        training = self.task.training
        first = step * self.config.batch
        numbers = np.arange(first, min(first + self.config.batch, self.total))
        epochs, places = np.divmod(numbers, len(training))
        parts = [
            permutation(len(training), derive_key(self.config.seed, "examples", int(epoch)))(places[epochs == epoch])
            for epoch in np.unique(epochs)
        ]
        return training[np.concatenate(parts)]

    def read(self, examples: Ints) -> int:
        """Tokens that these examples have."""
        return int(self.task.sizes[examples].sum())

    def rows(self, examples: Ints) -> list[list[int]]:
        """These examples packed into rows."""
        return [examples[row].tolist() for row in packed(self.task.sizes[examples], self.task.length)]

    def pieces(self, examples: Ints) -> Iterator[Sequence[list[int]]]:
        """This rank's share of these examples, in rows, as many at once as a forward pass takes."""
        mine = self.rows(examples)[self.ranks.rank :: self.ranks.count]
        return pieces(mine, self.config.micro_tokens // self.task.length)

    def micro_batches(self, examples: Ints) -> Iterator[Any]:
        """The same, ready to be computed."""
        return map(self.task.micro_batch, self.pieces(examples))

    def step(self, stop: bool = False, save: bool = False) -> tuple[dict[str, Any], bool, bool]:
        """Learn from one batch; returns the line of metrics, and whether any rank wishes to stop or to save."""
        started, step = time.perf_counter(), self.progress.step
        examples = self.batch(step)
        self.task.refresh(examples, step + 1, self.ranks)
        weight = float(self.task.weights[examples].sum())
        sums = torch.zeros(len(self.task.told), device=self.device)
        for micro in self.micro_batches(examples):
            objective, told = self.task.objective(micro)
            (objective / weight).backward()  # type: ignore[no-untyped-call]
            sums += self.summed(told, self.task.told)
        wishes = torch.tensor([stop, save], dtype=torch.float32, device=self.device)
        self.ranks.add(*gradients(self.task.learner), sums, wishes)
        figures = self.task.figures(dict(zip(self.task.told, sums.tolist(), strict=True)), weight)
        rate = self.schedule.learning_rate(step * self.config.batch + len(examples) // 2)
        norm, skipped = self.descend(rate, figures["loss"])
        seconds = self.progress.seconds + time.perf_counter() - started
        self.progress = Progress(self.progress.tokens + self.read(examples), step + 1, seconds)
        line: dict[str, Any] = {
            "tokens": self.progress.tokens,
            "step": self.progress.step,
            "epoch": round((step * self.config.batch + len(examples)) / len(self.task.training), 6),
            **figures,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": round(seconds, 4),
        }
        if skipped:
            line |= {"skipped": 1, **dict.fromkeys([*figures, "gradient_norm"])}
        return line, bool(wishes[0]), bool(wishes[1])

    def summed(self, told: Sums, names: tuple[str, ...]) -> Tensor:
        """What a micro-batch says of itself, in one order."""
        return torch.stack([told[name].detach().float() for name in names])

    def descend(self, rate: float, loss: float) -> tuple[float, bool]:
        """Clip the batch's gradient and take the optimiser's step, unless a number is none.

        Returns the norm before the clip and whether the step was skipped. Raises FloatingPointError after several.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.task.learner.parameters(), self.config.optimizer.clip))
        verdict = self.sentry.judge(self.progress.tokens, loss, norm, self.config.kind)
        if verdict == "rewind":
            raise FloatingPointError(
                f"the loss became {loss} and its gradient's norm {norm} in step {self.progress.step + 1}, "
                f"{self.sentry.skipped} in a row; lower the rate ({self.config.rate:.2g})"
            )
        if verdict == "step":
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, verdict != "step"

    def measure(self) -> dict[str, Any]:
        """The task's figures on the examples that are held out, ``validation_`` before their names."""
        examples, names = self.task.held_out, self.task.measured
        if not len(examples):
            return {}
        self.task.refresh(examples, 0, self.ranks)
        sums = torch.zeros(len(names), device=self.device)
        # gradients enabled where blocks are compiled, so that the graph of training serves
        with torch.set_grad_enabled(self.task.model.compiled):
            for micro in self.micro_batches(examples):
                sums += self.summed(self.task.measure(micro), names)
        self.ranks.add(sums)
        weight = float(self.task.weights[examples].sum())
        figures = self.task.figures(dict(zip(names, sums.tolist(), strict=True)), weight)
        return {f"validation_{name}": value for name, value in figures.items()}

    def save(self) -> None:
        """Write a checkpoint and delete the one before."""
        contents = checkpoint.taken(self.parts)
        if self.ranks.leads:
            checkpoint.write(self.run.path, self.progress, contents)
            checkpoint.retain(self.run.path, lambda _: False)

    def summarise(self, measured: dict[str, Any]) -> dict[str, Any]:
        """What the stage achieved, as was ``measured`` at its end, and what it cost."""
        return {
            **{name: value for name, value in measured.items() if math.isfinite(value)},
            "stage": self.config.kind,
            "model": self.config.model,
            "steps": self.progress.step,
            "examples": self.total,
            "epochs": self.config.epochs,
            "tokens": self.progress.tokens,
            "targets": self.targets,
            "flops": self.flops,
            "seconds": round(self.progress.seconds, 3),
            "held_out": len(self.task.held_out),
            "precision": str(self.task.model.compute).removeprefix("torch."),
            "compiled": self.task.model.compiled,
            **self.task.summary(),
        }
