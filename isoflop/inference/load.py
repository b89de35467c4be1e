"""A run's model and tokenizer, as they stand at its newest checkpoint."""

from __future__ import annotations

from pathlib import Path

from isoflop.model.llama import Llama
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.training import averaging, checkpoint
from isoflop.training.parts import Weights
from isoflop.training.run import Run


def load_run(path: Path, *, averaged: bool = False) -> tuple[Llama, Tokenizer]:
    """The model of a run at its newest checkpoint, in fp32 on the CPU, and its tokenizer.

    ``averaged`` asks for the mean of its weights (``training.averaging``) instead of its last; a ValueError where the
    checkpoint has none.
    """
    run = Run(path)
    config = run.config
    newest = checkpoint.latest(path)
    if newest is None:
        raise ValueError(f"{path} has no complete checkpoint to load; train it first")
    model = Llama(config.shape)
    weights = averaging.PART if averaged else "model"
    if not (newest / f"{weights}.safetensors").exists():
        raise ValueError(f"{newest} has no averaged weights: the run's config asks for none, or they begin later")
    progress = checkpoint.load(newest, {weights: Weights(model)})
    if (rope := config.rope_at(max(0, progress.tokens - 1))) != config.ropes[-1]:
        model.set_rope(rope.theta, rope.scaling)
    return model, TokenDataset.open(path / config.sources[0].data).tokenizer
