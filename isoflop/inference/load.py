"""A model and its tokenizer by a path: a run, a checkpoint, an aligned, imported, Hugging Face or GGUF model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from isoflop.model.llama import Llama
from isoflop.model.source import Lazy
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.training.parts import Weights
from isoflop.training.weights import open_weights, tokenizer_beside


def load_model(path: Path, *, averaged: bool = False, context: int | None = None) -> tuple[Llama, Tokenizer]:
    """The model at ``path``, a run's at its newest checkpoint, in fp32 on the CPU, and the tokenizer beside it.

    ``averaged`` asks for the mean of a run's weights (``training.averaging``) instead of its last; ``context`` for
    another than the one it was last trained at. Raises ValueError where there is no model, or no tokenizer with it.
    """
    source = open_weights(path, averaged=averaged)
    model = Llama(source.shape if context is None else replace(source.shape, context=context))
    Weights(model).restore(Lazy(source), {})
    if (file := tokenizer_beside(path)) is None:
        raise ValueError(f"no tokenizer.json lies beside the model at {path}; put its own there")
    tokenizer = Tokenizer.load(file)
    if tokenizer.vocab_size > source.shape.vocab:
        raise ValueError(f"{file} has {tokenizer.vocab_size:,} ids and the model at {path} only {source.shape.vocab:,}")
    return model, tokenizer
