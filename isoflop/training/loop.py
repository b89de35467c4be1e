"""The training loop: from a config to a finished run directory, exactly resumable.

One step is: the next batch by arithmetic, a forward and backward pass over its micro-batches with the loss
normalised once per token, clip, AdamW at the schedule's rate. Everything depends on tokens consumed alone, so the same
command resumes after any interruption and, on a CPU, ends with the same bits. Several processes may
share the batches (``training.ranks``). Left out so far: a guard against spikes, asynchronous checkpoints.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoflop.files import locked
from isoflop.interrupt import Interrupted, interruptible
from isoflop.keys import derive_key
from isoflop.model.llama import Llama
from isoflop.progress import Report, silent
from isoflop.tokens.ahead import ReadAhead
from isoflop.tokens.blended import BlendedLoader, blended_loaders, open_sources
from isoflop.tokens.ledger import Ledger
from isoflop.training import checkpoint, data
from isoflop.training.branch import branch_point, check_branch_data
from isoflop.training.checkpoint import Progress
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import compile_for, device_for, precision_for
from isoflop.training.loss import cross_entropy
from isoflop.training.optimizer import build_optimizer
from isoflop.training.ranks import Ranks, gradients
from isoflop.training.run import Metrics, Run
from isoflop.training.validation import BlendedValidation, Validation

ALONE = Ranks()
READ = 1 << 16  # tokens read at once: finding them costs far less a token than for a forward pass's few


class Piece(NamedTuple):
    """``samples`` from number ``first`` on, at a context, of which a forward pass takes ``rows``."""

    context: int
    first: int
    samples: int
    rows: int


@dataclass
class Trainer:
    """The moving parts of a run between its first and last step."""

    config: TrainConfig
    run: Run
    model: Llama
    optimizer: torch.optim.AdamW
    loaders: dict[int, BlendedLoader]
    validation: Validation | BlendedValidation
    device: torch.device
    progress: Progress
    ranks: Ranks
    ledger: Ledger
    data_changes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ahead: ReadAhead[Piece, NDArray[np.int64]] = ReadAhead(self.read, self.config.read_ahead)

    @classmethod
    def build(
        cls, config: TrainConfig, run: Run, ranks: Ranks = ALONE, *, accept_changed_data: bool = False
    ) -> Trainer:
        """Build everything from the config, then take up the run where its files say it stands."""
        device = device_for(config.device)
        datasets = open_sources(config.sources, run.path)
        source, dataset = config.sources[0], datasets[config.sources[0].name]
        if dataset.tokenizer.vocab_size != config.shape.vocab:
            raise ValueError(
                f"the model has a vocabulary of {config.shape.vocab} and the tokens in {source.data} one of "
                f"{dataset.tokenizer.vocab_size}; prepare the corpus with --vocab-size {config.shape.vocab}"
            )
        stages = config.contexts.stages(0, config.schedule.tokens)
        compiled, _ = compile_for(config.compile, device, config.flops / len(stages))
        compute = precision_for(config.precision, device)
        model = Llama(config.shape, compute=compute, compiled=compiled, recompute=config.recompute)
        model.initialise(derive_key(config.seed, "init")).to(device)
        optimizer = build_optimizer(model, config.optimizer)
        loaders = blended_loaders(datasets, config.blends, config.contexts.stages(), config.seed, config.packing)
        blended = config.mixture is not None
        validation = BlendedValidation.build(datasets, config) if blended else Validation.build(dataset, config)
        ledger = Ledger.of(config.blends, datasets)
        if config.mixture is not None:
            warn(ledger, config, ranks)
        trainer = cls(config, run, model, optimizer, loaders, validation, device, Progress(0, 0, 0.0), ranks, ledger)
        trainer.resume()
        if config.branch is not None:
            check_branch_data(run, config.branch, data.record(datasets))
        trainer.data_changes = data.check(
            run.path, data.record(datasets), trainer.progress.tokens, accept=accept_changed_data, write=ranks.leads
        )
        return trainer

    def resume(self) -> None:
        """Load the newest checkpoint, or a branch's beginning, and cut the metrics back to it."""
        path = checkpoint.latest(self.run.path)
        if path is None and self.config.branch is not None:
            path = branch_point(self.run, self.config)
        if path is not None:
            self.progress = checkpoint.load(path, self.model, self.optimizer)
        if self.ranks.leads:
            self.run.rewind(self.progress.tokens)

    def step(self, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Consume one batch; returns the line of metrics, and whether any rank wishes to stop."""
        started, consumed = time.perf_counter(), self.progress.tokens
        size, rate = self.config.batch.at(consumed), self.config.schedule.learning_rate(consumed)
        loss, wishes = torch.zeros((), device=self.device), torch.tensor(float(stop), device=self.device)
        padded, targets = self.config.packing == "fit", self.targets(consumed, size)
        for tokens in self.micro_batches(consumed, size):
            inputs = tokens[:, :-1].clamp(min=0) if padded else tokens[:, :-1]
            nats = cross_entropy(
                self.model.hidden(inputs), self.model.head, tokens[:, 1:], fast=self.model.compiled, padded=padded
            )
            piece = nats / targets
            piece.backward()  # type: ignore[no-untyped-call]
            loss += piece.detach()
        self.ranks.add(*gradients(self.model), loss, wishes)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip))
        if not (math.isfinite(float(loss)) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss became {float(loss)} and its gradient's norm {norm} at {consumed:,} tokens (learning rate "
                f"{rate:.2g}); lower schedule.peak or lengthen schedule.warmup_tokens"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        self.progress = Progress(consumed + size, self.progress.step + 1, self.progress.seconds + seconds)
        line = {
            "tokens": self.progress.tokens,
            "step": self.progress.step,
            "loss": float(loss),
            "learning_rate": rate,
            "batch_tokens": size,
            "context": self.config.contexts.at(consumed),
            "gradient_norm": norm,
            "seconds": round(self.progress.seconds, 4),
        }
        return line, bool(wishes)

    def micro_batches(self, consumed: int, size: int) -> Iterator[Tensor]:
        """This rank's share of the batch after ``consumed`` tokens, in pieces of sequences (rows, context + 1)."""
        pieces, after = self.pieces(consumed, size), consumed + size
        coming = [*pieces, *self.pieces(after, self.config.batch.at(after))]
        for number, piece in enumerate(pieces, 1):
            sequences = self.ahead(piece, coming[number : number + self.config.read_ahead])
            for first in range(0, piece.samples, piece.rows):
                yield torch.from_numpy(sequences[first : first + piece.rows]).to(self.device)

    def pieces(self, consumed: int, size: int) -> list[Piece]:
        """What ``micro_batches`` reads at once: whole micro-batches, of about ``READ`` tokens together."""
        context = self.config.contexts.at(consumed)
        begin, end = self.ranks.share(consumed // context, (consumed + size) // context)
        rows = max(1, min(self.config.micro_tokens // context, end - begin))
        step = max(1, READ // (rows * context)) * rows
        return [Piece(context, first, min(step, end - first), rows) for first in range(begin, end, step)]

    def read(self, piece: Piece) -> NDArray[np.int64]:
        """The sequences of a piece."""
        return self.loaders[piece.context].batch(piece.first, piece.samples)

    def targets(self, consumed: int, size: int) -> int:
        """Targets of the whole batch after ``consumed`` tokens, of all ranks: its tokens, but for padding."""
        if self.config.packing == "cut":
            return size
        context = self.config.shape.context
        return self.loaders[context].targets(consumed // context, size // context)

    def save(self) -> None:
        """Write a checkpoint and delete those that nothing needs."""
        if not self.ranks.leads:
            return
        checkpoint.save(self.run.path, self.model, self.optimizer, self.progress)
        checkpoint.retain(self.run.path, set(self.config.keep))


def train(
    config: TrainConfig, path: Path, report: Report = silent, *, accept_changed_data: bool = False
) -> dict[str, Any]:
    """Train, or go on training, the run in directory ``path``; returns its summary.

    A finished run returns at once. On Ctrl-C or SIGTERM a checkpoint is written and Interrupted raised; the same call
    resumes. Raises ValueError when the directory was started with another config, or when its data changed since and
    ``accept_changed_data`` does not allow that.
    """
    run = Run(path)
    run.start(config)
    if (done := run.summary) is not None:
        return done
    device = device_for(config.device)
    ranks = Ranks.join(device)
    with locked(path / ".lock") if ranks.leads else nullcontext():
        ranks.wait(device)  # until the files are the leader's: all then resume from the same checkpoint
        trainer = Trainer.build(config, run, ranks, accept_changed_data=accept_changed_data)
        with interruptible() as stopped, held_metrics(run, ranks) as metrics, closing(trainer.ahead):
            loop(trainer, metrics, stopped, report)
            result = trainer.validation.measure(trainer.model, ranks)
        summary = summarise(trainer, result)
        trainer.save()
        if ranks.leads:
            run.finish(summary)
    return summary


def loop(trainer: Trainer, metrics: Metrics | None, stopped: Callable[[], bool], report: Report) -> None:
    """Step until the schedule's tokens are consumed, validating and saving on the way."""
    config, total = trainer.config, trainer.config.schedule.tokens
    label, saved = config.shape.name, time.monotonic()
    every = -(-total // max(1, config.validate_times))
    while trainer.progress.tokens < total:
        before = trainer.progress.tokens
        line, stop = trainer.step(stopped())
        now = trainer.progress.tokens
        if now // every > before // every and now < total:
            line |= trainer.validation.measure(trainer.model, trainer.ranks, config.contexts.at(before))
        if metrics is not None:
            metrics.write(**line)
        report(label, now, total)
        if now in config.keep or stop or time.monotonic() - saved > config.checkpoint_seconds:
            trainer.save()
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"stopped at {now:,} of {total:,} tokens; the same command goes on from there")


@contextmanager
def held_metrics(run: Run, ranks: Ranks) -> Iterator[Metrics | None]:
    """The run's metrics, closed whatever happens; None on ranks that do not write."""
    metrics = Metrics(run) if ranks.leads else None
    try:
        yield metrics
    finally:
        if metrics is not None:
            metrics.close()


def warn(ledger: Ledger, config: TrainConfig, ranks: Ranks) -> None:
    """Say which sources are repeated beyond the mixture's cap; a ValueError where it refuses."""
    for sentence in ledger.warnings(config.schedule.tokens):
        if ranks.leads:
            print(f"isoflop: {sentence}", file=sys.stderr)


def summarise(trainer: Trainer, result: dict[str, float]) -> dict[str, Any]:
    """What the run achieved and cost, with every convention of N and C named."""
    shape, progress = trainer.config.shape, trainer.progress
    epochs = {entry.name: round(entry.epochs, 4) for entry in trainer.ledger.entries(progress.tokens)}
    return result | {
        "tokens": progress.tokens,
        "steps": progress.step,
        "seconds": round(progress.seconds, 3),
        "N_matmul": shape.matmul,
        "N_body": shape.body,
        "N_total": shape.total,
        "flops_6ND": 6.0 * shape.matmul * progress.tokens,
        "flops_exact": trainer.config.flops_exact(0, progress.tokens),
        "epochs": max(epochs.values()),
        **({"epochs_by_source": epochs} if trainer.config.mixture else {}),
        **({"data_changes": trainer.data_changes} if trainer.data_changes else {}),
        "precision": str(trainer.model.compute).removeprefix("torch."),
        "compiled": trainer.model.compiled,
        "threads": torch.get_num_threads() * trainer.ranks.count,
    }
