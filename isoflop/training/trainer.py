"""One step of a run: the next batch by arithmetic, its loss and gradient, the optimiser at the schedule's rate.

A step is a forward and backward pass over the batch's micro-batches with the loss normalised once per token, the sum
over ranks, the clip, and AdamW. Everything depends on tokens consumed alone. What has a state is a part of the
checkpoint (``training.parts``).
"""

from __future__ import annotations

import math
import shutil
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
from isoflop.tokens import packing
from isoflop.tokens.ahead import ReadAhead
from isoflop.tokens.blended import BlendedLoader, blended_loaders, open_sources
from isoflop.tokens.ledger import Ledger
from isoflop.training import averaging, checkpoint, data, rewind
from isoflop.training.averaging import Average
from isoflop.training.branch import branch_point, check_branch_data
from isoflop.training.by_source import LossBySource
from isoflop.training.checkpoint import Progress
from isoflop.training.config import TrainConfig
from isoflop.training.expert_load import load_metrics, no_load
from isoflop.training.guard import Sentry, Verdict
from isoflop.training.hardware import background_for, compile_for, device_for, precision_for
from isoflop.training.initial import begin
from isoflop.training.noise import NoiseScale
from isoflop.training.objective import Objective
from isoflop.training.optimizer import build_optimizer
from isoflop.training.parts import Moments, Part, Weights
from isoflop.training.pipeline import one_forward_one_backward
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.saver import Saver
from isoflop.training.scratch import newest, scratch_of
from isoflop.training.validation import BlendedValidation, Validation
from isoflop.training.watch import Watch

ALONE = Ranks()
READ = 1 << 16  # tokens read at once: finding them costs far less a token than for a forward pass's few


class Piece(NamedTuple):
    """``samples`` from number ``first`` on, at a context, of which a forward pass takes ``rows``."""

    context: int
    first: int
    samples: int
    rows: int


class Wish(NamedTuple):
    """What a rank wishes to do once the step is done; what any wishes, all do."""

    stop: bool = False
    save: bool = False
    keep_in_memory: bool = False


NOTHING = Wish()


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
    objective: Objective
    data_changes: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ahead: ReadAhead[Piece, NDArray[np.int64]] = ReadAhead(self.read, self.config.read_ahead)
        self.sentry = Sentry(self.config.guard)
        self.scratch = scratch_of(self.run.path, self.config.saving.memory, self.ranks)
        self.saver = Saver(self.run.path, background_for(self.config.saving.background, self.device))
        self.parts: dict[str, Part] = {
            "model": Weights(self.model, self.ranks),
            "optimizer": Moments(self.model, self.optimizer, self.ranks),
            **self.objective.identity,
            "guard": self.sentry,
        }
        self.rope = self.config.ropes[-1]  # the shape's, which the model was built with
        self.average = Average(self.model, self.config.average, self.ranks) if self.config.average else None
        if self.average is not None:
            self.parts[averaging.PART] = self.average
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        self.watch = Watch(self.config, self.device, self.model.compute, self.ranks.processes * threads)
        names = [source.name for source in self.config.mixture.sources] if self.config.mixture else []
        self.by_source = LossBySource(names, self.loaders, self.device) if names else None
        self.noise = NoiseScale(self.model) if self.config.noise_scale else None
        if self.noise is not None:
            self.parts["noise"] = self.noise

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
        objective = Objective.build(config, run.path, datasets, loaders, model)
        start = Progress(0, 0, 0.0)
        trainer = cls(config, run, model, optimizer, loaders, validation, device, start, ranks, ledger, objective)
        trainer.resume()
        if config.branch is not None:
            check_branch_data(run, config.branch, data.record(datasets))
        trainer.data_changes = data.check(
            run.path, data.record(datasets), trainer.progress.tokens, accept=accept_changed_data, write=ranks.leads
        )
        return trainer

    def resume(self) -> None:
        """Load the newest checkpoint, a branch's beginning or the initial weights, and cut the metrics back to it."""
        path = newest(self.run.path, self.scratch)
        if path is None and self.config.branch is not None:
            path = branch_point(self.run, self.config)
        if path is not None:
            self.progress = checkpoint.load(path, self.parts)
        elif self.config.initial is not None:
            initial, shape = self.config.initial, self.config.shape
            begin(self.run.path, initial, shape, self.parts["model"], write=self.ranks.leads)
        if self.ranks.leads:
            self.run.rewind(self.progress.tokens)

    def step(self, wish: Wish = NOTHING) -> tuple[dict[str, Any], Wish]:
        """Consume one batch; returns the line of metrics, and what any rank wishes."""
        started, consumed, clock = time.perf_counter(), self.progress.tokens, self.watch.clock
        size, rate = self.config.batch.at(consumed), self.config.schedule.learning_rate(consumed)
        wishes = torch.tensor(wish, dtype=torch.float32, device=self.device)
        self.turn(consumed)
        with clock("compute"):
            loss = self.accumulate(consumed, size)
        with clock("communicate"):
            sums = [part.sums for part in (self.noise, self.by_source) if part is not None]
            self.ranks.complete(self.model, loss, wishes, self.load, *sums)
        with clock("optimise"):
            norm, verdict = self.descend(consumed, rate, float(loss))
            if self.average is not None:
                self.average.take(consumed, consumed + size)
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
        } | load_metrics(self.load)
        if self.by_source is not None and verdict == "step":
            line |= self.by_source.figures()
        if self.noise is not None and verdict == "step":
            line |= self.noise.measure(norm, self.targets(consumed, size), self.config.contexts.at(consumed))
        wished = Wish(*(bool(any_rank) for any_rank in wishes))
        if verdict != "step":
            if self.noise is not None:
                self.noise.forget()
            line |= self.refuse(verdict, float(loss), norm, rate)
        return line, wished._replace(save=wished.save or "rewound_to" in line)

    def turn(self, consumed: int) -> None:
        """Give the model the rotary embedding of the step after ``consumed`` tokens."""
        rope = self.config.rope_at(consumed)
        if rope != self.rope:
            self.model.set_rope(rope.theta, rope.scaling)
            self.rope = rope

    def accumulate(self, consumed: int, size: int) -> Tensor:
        """Add this rank's share of the batch's gradient to the parameters; returns its share of the loss."""
        told = torch.zeros((), device=self.device)
        self.load = no_load(self.config.shape, self.device)
        padded, targets, spread = self.config.packing == "fit", self.targets(consumed, size), self.model.spread
        loader = self.loaders[self.config.contexts.at(consumed)]
        sample, _ = self.share(consumed, size)
        if self.by_source is not None:
            self.by_source.begin()

        def piece(tokens: Tensor, arriving: Tensor | None) -> Tensor:
            nonlocal sample
            inputs = packing.inputs(tokens[:, :-1]) if padded else tokens[:, :-1]
            documents = loader.document_ids(tokens[:, :-1]) if self.config.document_mask else None
            states = self.model.hidden(inputs, documents, arriving)
            if not spread.last:
                return states
            aims = spread.local(tokens[:, 1:])
            each = torch.empty(aims.shape, device=self.device) if self.by_source is not None else None
            objective, nats = self.objective(self.model, states, tokens, sample, documents, each)
            told.add_(nats / targets)
            if self.by_source is not None and each is not None:
                self.by_source.add(sample, tokens.shape[1] - 1, aims, each)
            sample += len(tokens)
            if self.noise is not None:
                self.noise.piece(int((tokens[:, 1:] >= 0).sum()))
            if self.config.shape.experts is not None:
                self.load += self.model.routing.load
            return (objective + self.model.routing.penalty) / targets

        one_forward_one_backward(self.model, self.micro_batches(consumed, size), piece)
        return told

    def descend(self, consumed: int, rate: float, loss: float) -> tuple[float, Verdict]:
        """Clip the whole batch's gradient and take the optimiser's step at ``rate``, unless the guard minds.

        Returns the norm before the clip, and the guard's verdict.
        """
        norm = float(self.ranks.clip(self.model, self.config.optimizer.clip))
        verdict = self.sentry.judge(consumed, loss, norm, self.config.regime(consumed))
        if verdict == "step":
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, verdict

    def refuse(self, verdict: Verdict, loss: float, norm: float, rate: float) -> dict[str, Any]:
        """What the metrics say of a step that was not taken, after going back if that is the verdict.

        Raises FloatingPointError where the run can neither go on nor back.
        """
        back = rewind.go_back(self) if verdict == "rewind" else None
        finite = math.isfinite(loss) and math.isfinite(norm)
        if verdict == "rewind" and back is None:
            if not finite:
                raise FloatingPointError(
                    f"the loss became {loss} and its gradient's norm {norm} at {self.progress.tokens:,} tokens "
                    f"(learning rate {rate:.2g}), {self.sentry.skipped} steps in a row; lower schedule.peak or "
                    f"lengthen schedule.warmup_tokens"
                )
            self.sentry.forget()
        said = {"skipped": 1} | ({} if finite else {"loss": None, "gradient_norm": None})
        return said | ({"rewound_to": back.to} if back else {})

    def micro_batches(self, consumed: int, size: int) -> Iterator[Tensor]:
        """This rank's share of the batch after ``consumed`` tokens, in pieces of sequences (rows, context + 1)."""
        pieces, after = self.pieces(consumed, size), consumed + size
        coming = [*pieces, *self.pieces(after, self.config.batch.at(after))]
        for number, piece in enumerate(pieces, 1):
            with self.watch.clock("data"):
                sequences = self.ahead(piece, coming[number : number + self.config.read_ahead])
            for first in range(0, piece.samples, piece.rows):
                yield torch.from_numpy(sequences[first : first + piece.rows]).to(self.device)

    def share(self, consumed: int, size: int) -> tuple[int, int]:
        """Numbers of the first of this rank's samples in the batch after ``consumed`` tokens, and of the one after."""
        context = self.config.contexts.at(consumed)
        return self.ranks.share(consumed // context, (consumed + size) // context)

    def pieces(self, consumed: int, size: int) -> list[Piece]:
        """What ``micro_batches`` reads at once: whole micro-batches, of about ``READ`` tokens together."""
        context = self.config.contexts.at(consumed)
        begin, end = self.share(consumed, size)
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
        """Write a checkpoint and delete those that nothing needs; in the background, if the config says so."""
        contents = checkpoint.taken(self.parts)
        if not self.ranks.leads:
            return
        config, saving, path = self.config, self.config.saving, self.run.path
        needed = rewind.needed(path, self.sentry, config, self.progress.tokens) | set(config.kept)

        def keep(tokens: int) -> bool:
            return tokens in needed or saving.stays(config.batch, tokens)

        def written() -> None:
            checkpoint.retain(path, keep, saving.keep_last)
            if self.scratch is not None:
                shutil.rmtree(self.scratch, ignore_errors=True)

        self.saver(self.progress, contents, written)

    def keep_in_memory(self) -> None:
        """Write a checkpoint that outlives this process, and no more than that."""
        contents = checkpoint.taken(self.parts)
        if self.ranks.leads and self.scratch is not None:
            checkpoint.write(self.scratch, self.progress, contents)
            checkpoint.retain(self.scratch, lambda _: False)


def warn(ledger: Ledger, config: TrainConfig, ranks: Ranks) -> None:
    """Say which sources are repeated beyond the mixture's cap; a ValueError where it refuses."""
    for sentence in ledger.warnings(config.schedule.tokens):
        if ranks.leads:
            print(f"isoflop: {sentence}", file=sys.stderr)
