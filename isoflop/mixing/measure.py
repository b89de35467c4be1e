"""The losses of a trained proxy on every held-out text of a search.

The samples are fixed, the same for every proxy, so that differences between losses are differences between mixtures.
Costs a forward pass over ``validation_tokens`` for each text. A proxy's checkpoints are deleted once it is measured:
hundreds of them would fill a disk, and nothing reads them again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from isoflop.files import write_json
from isoflop.mixing.layout import LOSSES
from isoflop.mixing.settings import HeldOut, MixConfig
from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.loader import Loader
from isoflop.training import checkpoint
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import compile_for, device_for, precision_for
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.validation import Validation


def measure(config: MixConfig, folder: Path, run: Run) -> None:
    """Write ``losses.json`` of a finished run of the search in ``folder``: nats per token by held-out text."""
    losses = losses_of(run, folder, config.held_out, config.validation_tokens)
    write_json(run.path / LOSSES, losses)
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)


def losses_of(run: Run, base: Path, texts: tuple[HeldOut, ...], tokens: int) -> dict[str, float]:
    """Nats per token of a run's newest checkpoint on ``tokens`` tokens of each text, whose folders are under ``base``.

    Raises ValueError when the run has no complete checkpoint.
    """
    model = load(run)
    settings = replace(run.config, validation_tokens=tokens)
    return {
        text.name: sample(settings, base / text.data, text.split).measure(model, Ranks())["validation_loss"]
        for text in texts
    }


def load(run: Run) -> Llama:
    """The model of a run at its newest checkpoint, computing and compiled as it was trained."""
    config, newest = run.config, checkpoint.latest(run.path)
    if newest is None:
        raise ValueError(f"{run.path} has no complete checkpoint to measure; train it first")
    device = device_for(config.device)
    compiled, _ = compile_for(config.compile, device, config.flops)
    model = Llama(config.shape, compute=precision_for(config.precision, device), compiled=compiled)
    model.to(device)
    checkpoint.load(newest, model)
    return model


def sample(config: TrainConfig, data: Path, split: str) -> Validation:
    """The fixed sequences of a held-out text; a whole number of equal batches, so that one graph serves."""
    context = config.shape.context
    loader = Loader(TokenDataset.open(data), split, context)
    wanted = min(max(1, config.validation_tokens // context), loader.samples_per_epoch)
    rows = min(max(1, config.micro_tokens // context), wanted)
    fixed = loader.sequential(wanted // rows * rows)
    return Validation(torch.from_numpy(fixed.tokens), fixed.text_bytes, config.micro_tokens)
