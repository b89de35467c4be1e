"""What is particular to a stage of post-training: its examples, what a step descends on some, what is measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from isoflop.inference.load import load_model
from isoflop.model.export import SCORE
from isoflop.model.llama import Llama
from isoflop.model.lora import attach
from isoflop.posttraining.settings import StageConfig
from isoflop.progress import Report
from isoflop.tokens.packing import Ints
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.training.hardware import device_for, precision_for
from isoflop.training.ranks import Ranks

Sums = Mapping[str, Tensor]
"""Scalars by name that add up over micro-batches."""


class Task(Protocol):
    """A stage's examples, and what is done with them. Examples have numbers, from 0."""

    @property
    def model(self) -> Llama:
        """The Llama that is trained, and written at the end."""
        ...

    @property
    def learner(self) -> nn.Module:
        """The module whose parameters with gradients are trained: the model, or one that has it and a head."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        ...

    @property
    def training(self) -> Ints:
        """Numbers of the examples that are trained on."""
        ...

    @property
    def held_out(self) -> Ints:
        """Numbers of those that are measured on."""
        ...

    @property
    def sizes(self) -> Ints:
        """Places that each example takes in a row, of all examples."""
        ...

    @property
    def weights(self) -> NDArray[np.float64]:
        """What each counts in the mean that is descended: its targets, or 1."""
        ...

    @property
    def length(self) -> int:
        """Places of a row."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identifies the examples."""
        ...

    @property
    def told(self) -> tuple[str, ...]:
        """Names of what :meth:`objective` adds up."""
        ...

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of what :meth:`measure` adds up."""
        ...

    def begin(self, ranks: Ranks, report: Report) -> None:
        """Do what must be done before the first step, or read what came of it then; ``ranks`` do it together."""
        ...

    def refresh(self, examples: Ints, step: int, ranks: Ranks) -> None:
        """Make anew what of these examples depends on the weights as they are now; ``ranks`` do it together.

        Called before they are learnt from in ``step``, from 1, or measured, which is step 0. Their ``sizes`` and
        ``weights`` may change, and never beyond ``length``.
        """
        ...

    def micro_batch(self, rows: Sequence[Sequence[int]]) -> Any:
        """These examples, by number, of each row, ready to be computed on the model's device."""
        ...

    def objective(self, micro: Any) -> tuple[Tensor, Sums]:
        """What is descended, as a sum over the examples that is divided by the whole batch's weight; and ``told``."""
        ...

    def measure(self, micro: Any) -> Sums:
        """``measured``, without a step."""
        ...

    def figures(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """What is reported of sums over examples of this weight, either of ``told`` or of ``measured``.

        Among it is ``loss``.
        """
        ...

    def files(self) -> dict[str, bytes]:
        """What is written beside the model, by file name."""
        ...

    def summary(self) -> dict[str, Any]:
        """What the stage's summary says besides."""
        ...


def open_model(config: StageConfig, path: Path) -> tuple[Llama, Tokenizer]:
    """The model that the stage in directory ``path`` begins with, on its device, and its tokenizer.

    Where adapters are trained, it is frozen and has new ones.
    """
    device = device_for(config.device)
    source = Path(os.path.normpath(path / config.model))
    if config.kind != "reward" and (source / SCORE).exists():
        raise ValueError(f"{source} is a reward model, which scores answers and writes none; begin with another")
    model, tokenizer = load_model(source)
    model.compute, model.recompute = precision_for(config.precision, device), config.recompute
    if config.context > model.shape.context:
        raise ValueError(
            f"context = {config.context:,} is more than the {model.shape.context:,} tokens that the model was trained "
            f"for; take at most that, or train it further at a longer one first"
        )
    if config.lora.rank:
        attach(model, config.lora, config.seed)
    return model.to(device), tokenizer
