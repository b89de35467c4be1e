"""The teacher of a run: another run's model, asked about every batch as it comes, or what it said beforehand.

Its weights must stay what they were, so a checkpoint records which they are, and another teacher is refused on
resumption. Its tokenizer must be the student's: ids would mean other texts. Left out: teachers over several processes
(each rank holds a whole one).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import xxhash
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.tokens.dataset import TokenDataset
from isoflop.training import checkpoint, data
from isoflop.training.config import TrainConfig
from isoflop.training.distillation import Whole
from isoflop.training.loss import Taught
from isoflop.training.run import Run

OTHER_TEACHER = "the teacher's weights are not those that taught it so far; restore its run, or start another directory"


@dataclass(frozen=True)
class Scholar:
    """A trained model that answers and does not learn: its run, its checkpoint and what identifies its weights."""

    run: Run
    checkpoint: Path
    shape: Shape
    fingerprint: str

    @classmethod
    def find(cls, config: TrainConfig, folder: Path, datasets: Mapping[str, TokenDataset]) -> Scholar:
        """The teacher of a run in ``folder`` on ``datasets``.

        Raises ValueError where it is no trained run, has another tokenizer, or cannot see as far as the student.
        """
        assert config.teacher is not None
        run = Run(Path(os.path.normpath(folder / config.teacher.run)))
        path, record = checkpoint.latest(run.path), data.recorded(run.path)
        if path is None or record is None:
            raise ValueError(f"teacher.run = {config.teacher.run!r}: there is no trained run in {run.path}")
        theirs = next(iter(record["sources"].values()))["tokenizer_checksum"]
        ours = next(iter(datasets.values())).manifest.tokenizer_checksum
        if theirs != ours:
            raise ValueError(
                f"the teacher {run.path} has the tokenizer {theirs} and the tokens here have {ours}; prepare them with "
                "the teacher's (isoflop prepare --tokenizer), or train one with this"
            )
        shape = run.config.shape
        if shape.context < config.shape.context:
            raise ValueError(
                f"the teacher {run.path} sees {shape.context:,} tokens and the student {config.shape.context:,}; give "
                "it a teacher with a context as long"
            )
        marker = checkpoint.read_marker(path)
        assert marker is not None
        sums = sorted((file, digest) for file, digest in marker["files"].items() if file.startswith("model"))
        return cls(run, path, shape, xxhash.xxh3_128_hexdigest(repr(sums).encode()))

    def load(self, device: torch.device, compute: torch.dtype, *, compiled: bool = False) -> Llama:
        """Its model, without gradients."""
        model = Llama(self.shape, compute=compute, compiled=compiled).to(device)
        checkpoint.load_weights(self.checkpoint, model)
        return model.requires_grad_(False)

    def flops(self, context: int) -> float:
        """What asking about one token costs: a forward pass, a third of the training of its shape."""
        return self.shape.flops_per_token_at(context) / 3


class Lessons(Protocol):
    """What a teacher says of a batch."""

    def __call__(self, inputs: Tensor, first: int, documents: Tensor | None = None) -> Taught:
        """Distributions after each of ``inputs`` (rows, context), the samples from number ``first`` on.

        With ``documents``, of the inputs' shape, a token's own document is all that is seen before it.
        """
        ...


@dataclass(frozen=True)
class Live:
    """A teacher that runs beside the student, on its device and in its compute type."""

    model: Llama

    def __call__(self, inputs: Tensor, first: int, documents: Tensor | None = None) -> Whole:
        """The whole distributions, as final states."""
        with torch.no_grad():
            hidden = self.model.hidden(inputs, documents).reshape(-1, self.model.shape.width)
        return Whole(hidden, self.model.head.to(hidden.dtype), self.model.shape.logit_cap)
