"""One step of a run: the next batch by arithmetic, its loss and gradient, the optimiser at the schedule's rate.

A step is a forward and backward pass over the batch's micro-batches with the loss normalised once per token, the sum
over ranks, the clip, and AdamW. Everything depends on tokens consumed alone. What has a state is a part of the
checkpoint (``training.parts``).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isoflop.keys import derive_key
from isoflop.model.llama import Llama
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
from isoflop.training.parts import Moments, Part, Weights
from isoflop.training.pipeline import one_forward_one_backward
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
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
        self.parts: dict[str, Part] = {
            "model": Weights(self.model, self.ranks),
            "optimizer": Moments(self.model, self.optimizer, self.ranks),
        }

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
        config.parallel.check(config.shape, ranks.processes, config.batches)
        options: dict[str, Any] = {"compute": compute, "compiled": compiled, "recompute": config.recompute}
        model = ranks.build(config.shape, derive_key(config.seed, "init"), device, **options)
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
            self.progress = checkpoint.load(path, self.parts)
        if self.ranks.leads:
            self.run.rewind(self.progress.tokens)

    def step(self, stop: bool = False) -> tuple[dict[str, float], bool]:
        """Consume one batch; returns the line of metrics, and whether any rank wishes to stop."""
        started, consumed = time.perf_counter(), self.progress.tokens
        size, rate = self.config.batch.at(consumed), self.config.schedule.learning_rate(consumed)
        wishes = torch.tensor(float(stop), device=self.device)
        loss = self.accumulate(consumed, size)
        self.ranks.complete(self.model, loss, wishes)
        norm = self.descend(consumed, rate, float(loss))
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

    def accumulate(self, consumed: int, size: int) -> Tensor:
        """Add this rank's share of the batch's gradient to the parameters; returns its share of the loss."""
        padded, targets, spread = self.config.packing == "fit", self.targets(consumed, size), self.model.spread
        loader = self.loaders[self.config.contexts.at(consumed)]

        def piece(tokens: Tensor, arriving: Tensor | None) -> Tensor:
            inputs = tokens[:, :-1].clamp(min=0) if padded else tokens[:, :-1]
            documents = loader.document_ids(tokens[:, :-1]) if self.config.document_mask else None
            states = self.model.hidden(inputs, documents, arriving)
            if not spread.last:
                return states
            aims = spread.local(tokens[:, 1:])
            nats = cross_entropy(states, self.model.head, aims, fast=self.model.compiled, padded=padded, spread=spread)
            return nats / targets

        return one_forward_one_backward(self.model, self.micro_batches(consumed, size), piece)

    def descend(self, consumed: int, rate: float, loss: float) -> float:
        """Clip the whole batch's gradient and take the optimiser's step at ``rate``; returns the norm before the clip.

        Raises FloatingPointError where the loss or the norm is no number.
        """
        norm = float(self.ranks.clip(self.model, self.config.optimizer.clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss became {loss} and its gradient's norm {norm} at {consumed:,} tokens (learning rate "
                f"{rate:.2g}); lower schedule.peak or lengthen schedule.warmup_tokens"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

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
        contents = {name: (part.tensors(), part.record()) for name, part in self.parts.items()}
        if not self.ranks.leads:
            return
        checkpoint.write(self.run.path, self.progress, contents)
        checkpoint.retain(self.run.path, set(self.config.keep))


def warn(ledger: Ledger, config: TrainConfig, ranks: Ranks) -> None:
    """Say which sources are repeated beyond the mixture's cap; a ValueError where it refuses."""
    for sentence in ledger.warnings(config.schedule.tokens):
        if ranks.leads:
            print(f"isoflop: {sentence}", file=sys.stderr)
