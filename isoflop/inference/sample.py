"""Sampling text from a run, one token at a time over the whole context: enough to see what a small model has learnt.

Costs a full forward pass a token, which small models can afford. Left out: the KV cache, batching, stop strings,
streaming and serving, which are the inference room's to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

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


@torch.no_grad()
def sample(
    model: Llama, prompts: Sequence[Sequence[int]], count: int, *, temperature: float = 0.8, seed: int = 0
) -> list[list[int]]:
    """``count`` further token ids for each prompt of ids, drawn at ``temperature`` (0 is greedy).

    Every prompt has its own generator, so that its text does not depend on the others.
    """
    return [extend(model, list(prompt), count, temperature, seed + i) for i, prompt in enumerate(prompts)]


def extend(model: Llama, ids: list[int], count: int, temperature: float, seed: int) -> list[int]:
    """``count`` ids that continue ``ids``, the model seeing at most its context."""
    if not ids:
        raise ValueError("a prompt needs at least one token; begin with the tokenizer's bos")
    generator, start = torch.Generator().manual_seed(seed), len(ids)
    for _ in range(count):
        logits = model(torch.tensor([ids[-model.shape.context :]]))[0, -1].float()
        if temperature == 0:
            ids.append(int(logits.argmax()))
        else:
            chances = torch.softmax(logits / temperature, -1)
            ids.append(int(torch.multinomial(chances, 1, generator=generator)))
    return ids[start:]


def sample_texts(run: Path, prompts: Sequence[str], count: int = 160, seed: int = 0) -> list[dict[str, str]]:
    """Texts that the run's model writes after each prompt, as ``{"prompt", "text"}``."""
    model, tokenizer = load_run(run)
    ids = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
    texts = [tokenizer.decode(out) for out in sample(model, ids, count, seed=seed)]
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
