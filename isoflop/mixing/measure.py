"""The losses of a trained proxy on every held-out text of a search.

The samples are fixed, the same for every proxy, so that differences between losses are differences between mixtures.
Costs a forward pass over ``validation_tokens`` for each text. A proxy's checkpoints are deleted once it is measured:
hundreds of them would fill a disk, and nothing reads them again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from isoflop.files import write_json
from isoflop.mixing.layout import LOSSES
from isoflop.mixing.settings import HeldOut, MixConfig
from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.training import checkpoint
from isoflop.training.hardware import compile_for, device_for, precision_for
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.validation import LOSS, Validation


def measure(config: MixConfig, folder: Path, run: Run) -> None:
    """Write ``losses.json`` of a finished run of the search in ``folder``: nats per token by held-out text."""
    losses = losses_of(run, folder, config.held_out, config.validation_tokens)
    write_json(run.path / LOSSES, losses)
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)


def losses_of(run: Run, base: Path, texts: tuple[HeldOut, ...], tokens: int) -> dict[str, float]:
    """Nats per token of a run's newest checkpoint on ``tokens`` tokens of each text, whose folders are under ``base``.

    Raises ValueError when the run has no complete checkpoint.
    """
    model, context, micro_tokens = load(run), run.config.shape.context, run.config.micro_tokens
    found = {}
    for text in texts:
        sample = Validation.of(TokenDataset.open(base / text.data), text.split, tokens, context, micro_tokens)
        found[text.name] = sample.measure(model, Ranks())[LOSS]
    return found


def load(run: Run) -> Llama:
    """The model of a run at its newest checkpoint, computing and compiled as it was trained."""
    config, newest = run.config, checkpoint.latest(run.path)
    if newest is None:
        raise ValueError(f"{run.path} has no complete checkpoint to measure; train it first")
    device = device_for(config.device)
    compiled, _ = compile_for(config.compile, device, config.flops)
    model = Llama(config.shape, compute=precision_for(config.precision, device), compiled=compiled)
    model.to(device)
    checkpoint.load_weights(newest, model)
    return model
