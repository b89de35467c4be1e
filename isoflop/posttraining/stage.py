"""The loop that every stage of post-training is: batches of examples, an objective, AdamW, and a model at the end.

A stage is a directory: ``stage.toml`` (its config as resolved), ``metrics.jsonl``, ``checkpoints/`` while it goes on,
``summary.json``, and at its end the model itself. What is particular to a stage is its task (``posttraining.task``).

A step's examples are arithmetic: the place in a permutation of each epoch, keyed by the seed, so the only state is how
many steps were taken. Its gradient is that of a mean over the whole batch, whatever micro-batches or processes it was
added up from. The same command resumes after any interruption and, on a CPU, ends with the same bits.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoflop import config as configuration
from isoflop.files import locked, write_text
from isoflop.interrupt import Interrupted, interruptible
from isoflop.keys import derive_key
from isoflop.model.export import add_ours
from isoflop.model.peft import adapter_files
from isoflop.model.source import Held
from isoflop.planning.schedule import Schedule
from isoflop.posttraining.rows import packed, pieces
from isoflop.posttraining.settings import StageConfig
from isoflop.posttraining.task import Sums, Task
from isoflop.progress import Report, silent
from isoflop.tokens.manifest import TOKENIZER
from isoflop.tokens.order import permutation
from isoflop.tokens.packing import Ints
from isoflop.training import checkpoint
from isoflop.training.checkpoint import Progress
from isoflop.training.guard import Guard, Sentry
from isoflop.training.hardware import compile_for, device_for
from isoflop.training.loop import Clock
from isoflop.training.optimizer import build_optimizer
from isoflop.training.parts import Identity, Moments, Part, Weights
from isoflop.training.ranks import Ranks, gradients
from isoflop.training.run import Metrics, Run

ALONE = Ranks()
CONFIG = "stage.toml"
OTHER_EXAMPLES = "its examples are not those it has learnt from so far; restore the data, or start another directory"


def perform(config: StageConfig, path: Path, prepare: Callable[[], Task], report: Report = silent) -> dict[str, Any]:
    """Do, or go on with, the stage in directory ``path``; returns its summary.

    ``prepare`` makes its task, which a finished stage needs no more. On Ctrl-C or SIGTERM a checkpoint is written and
    Interrupted raised. Raises ValueError where the directory was started with another config or other examples.
    """
    run, device = Run(path), device_for(config.device)
    if int(os.environ.get("RANK", "0")) == 0:
        begin(config, path)
    if (done := run.summary) is not None:
        return done
    ranks = Ranks.join(device)
    with locked(path / ".lock") if ranks.leads else nullcontext():
        ranks.wait(device)  # until the files are the leader's
        stage = Stage(config, prepare(), run, ranks)
        stage.resume()
        with interruptible() as stopped:
            loop(stage, stopped, report)
        summary = stage.summarise()
        if ranks.leads:
            task = stage.task
            add_ours(Held(task.model), path, beside=files(config, task))
            run.finish(summary)
            shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return summary


def files(config: StageConfig, task: Task) -> dict[str, bytes]:
    """What is written beside the model: its tokenizer, adapters that were trained, what the task has."""
    adapters = adapter_files(task.model, config.lora, config.model) if config.lora.rank else {}
    return {TOKENIZER: task.tokenizer.to_bytes(), **adapters, **task.files()}


def begin(config: StageConfig, path: Path) -> None:
    """Record the config, or check that it is the one the directory was started with."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / CONFIG).exists():
        write_text(path / CONFIG, f"# isoflop {config.kind}\n{configuration.dumps(config)}")
    elif changed := configuration.difference(configuration.load(type(config), path / CONFIG), config):
        raise ValueError(
            f"{path} was started with another config ({changed}); "
            f"use the old value to go on, or another directory to start anew"
        )


def loop(stage: Stage, stopped: Callable[[], bool], report: Report) -> None:
    """Step until all examples were learnt from, measuring and saving on the way."""
    every = -(-stage.steps // max(1, stage.config.validate_times))
    clock, leads = Clock(stage.config.checkpoint_seconds), stage.ranks.leads
    with closing(Metrics(stage.run)) if leads else nullcontext() as metrics:
        if not stage.progress.step:
            first = stage.measure()
            if metrics is not None:
                metrics.write(tokens=0, step=0, **first)
        while (step := stage.progress.step) < stage.steps:
            line, stop, save = stage.step(stopped(), leads and clock.due())
            if (step + 1) % every == 0 or step + 1 == stage.steps:
                line |= stage.measure()
            if metrics is not None:
                metrics.write(**line)
            report(stage.config.kind, step + 1, stage.steps)
            if save or stop:
                stage.save()
                clock.wind()
            if stop:
                raise Interrupted(f"stopped after {step + 1:,} of {stage.steps:,} steps; the same command goes on")


class Stage:
    """The moving parts of a stage between its first and last step."""

    def __init__(self, config: StageConfig, task: Task, run: Run, ranks: Ranks = ALONE) -> None:
        self.config, self.task, self.run, self.ranks = config, task, run, ranks
        self.device = task.model.embedding.device
        self.progress = Progress(0, 0, 0.0)
        flops = float(task.model.shape.flops_per_token_at(task.length)) * float(self.read(self.examples))
        task.model.compiled, _ = compile_for(config.compile, self.device, flops)
        self.optimizer = build_optimizer(task.model, config.optimizer, task.learner)
        self.sentry = Sentry(Guard())
        self.parts: dict[str, Part] = {
            "model": Weights(task.learner),
            "optimizer": Moments(task.learner, self.optimizer),
            "guard": self.sentry,
            "examples": Identity(task.fingerprint, OTHER_EXAMPLES),
        }
        self.last: dict[str, Any] = {}

    @cached_property
    def total(self) -> int:
        """Examples over the whole stage, repeated ones counted again."""
        return max(1, round(self.config.epochs * len(self.task.training)))

    @property
    def steps(self) -> int:
        """Steps of the whole stage; the last may be smaller."""
        return -(-self.total // self.config.batch)

    @property
    def examples(self) -> Ints:
        """All examples of the stage in their order."""
        return np.concatenate([self.batch(step) for step in range(self.steps)])

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

    def micro_batches(self, examples: Ints) -> Iterator[Any]:
        """This rank's share of these examples, in rows."""
        length = self.task.length
        rows = [examples[row].tolist() for row in packed(self.task.sizes[examples], length)]
        for piece in pieces(rows[self.ranks.rank :: self.ranks.count], self.config.micro_tokens // length):
            yield self.task.micro_batch(piece)

    def step(self, stop: bool = False, save: bool = False) -> tuple[dict[str, Any], bool, bool]:
        """Learn from one batch; returns the line of metrics, and whether any rank wishes to stop or to save."""
        started, step = time.perf_counter(), self.progress.step
        examples = self.batch(step)
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
            line |= {"skipped": 1, "loss": None, "gradient_norm": None}
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
        sums = torch.zeros(len(names), device=self.device)
        # gradients enabled where blocks are compiled, so that the graph of training serves
        with torch.set_grad_enabled(self.task.model.compiled):
            for micro in self.micro_batches(examples):
                sums += self.summed(self.task.measure(micro), names)
        self.ranks.add(sums)
        weight = float(self.task.weights[examples].sum())
        figures = self.task.figures(dict(zip(names, sums.tolist(), strict=True)), weight)
        self.last = {f"validation_{name}": value for name, value in figures.items()}
        return self.last

    def save(self) -> None:
        """Write a checkpoint and delete the one before."""
        contents = checkpoint.taken(self.parts)
        if self.ranks.leads:
            checkpoint.write(self.run.path, self.progress, contents)
            checkpoint.retain(self.run.path, lambda _: False)

    def summarise(self) -> dict[str, Any]:
        """What the stage achieved and cost."""
        figures = {name: value for name, value in self.last.items() if value is None or math.isfinite(value)}
        return (
            figures
            | {
                "stage": self.config.kind,
                "model": self.config.model,
                "steps": self.progress.step,
                "examples": self.total,
                "epochs": self.config.epochs,
                "tokens": self.progress.tokens,
                "targets": int(self.task.weights[self.examples].sum()),
                "seconds": round(self.progress.seconds, 3),
                "held_out": len(self.task.held_out),
                "precision": str(self.task.model.compute).removeprefix("torch."),
                "compiled": self.task.model.compiled,
            }
            | self.task.summary()
        )
