"""Shared fixtures: small prepared tokens, configs that train in a second, and one thread for everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.tokens.prepare import PrepareConfig, prepare
from isoflop.training.config import TrainConfig

WORDS = ["law", "compute", "token", "model", "loss", "budget", "scale", "small", "large", "train", "predict", "curve"]


@pytest.fixture(scope="session")
def tiny_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60,000 training tokens with a vocabulary of 300, from sentences of random words."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = random.Random(0)
    for i in range(60):
        lines = [" ".join(rng.choices(WORDS, k=12)) + "." for _ in range(60)]
        (folder / f"{i:02d}.txt").write_text("\n".join(lines))
    out = tmp_path_factory.mktemp("tokens") / "tokens"
    prepare(PrepareConfig(str(folder), vocab_size=300, validation_fraction=0.1), out)
    return out


@pytest.fixture
def peak_bytes() -> Callable[[Callable[[], object]], int]:
    """A function that runs a step and returns the most bytes that torch's CPU allocator held of it at once."""
    from torch.profiler import ProfilerActivity, profile

    def measure(step: Callable[[], object]) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            step()
        events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
        changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
        held = most = 0
        for _, change in changes:
            held += change
            most = max(most, held)
        return most

    return measure


@pytest.fixture
def tiny_config(tiny_tokens: Path) -> Callable[..., TrainConfig]:
    """A factory of configs for a model of 9,000 parameters; keywords replace fields."""

    def make(**changes: Any) -> TrainConfig:
        base = TrainConfig(
            shape=Shape(2, 16, 2, 1, 32, 300, context=32),
            data=str(tiny_tokens),
            schedule=Schedule(tokens=4096, peak=0.01, warmup_tokens=256, decay_tokens=1024),
            batch=BatchRamp(128, (1024,)),
            micro_tokens=128,
            precision="fp32",
            compile="never",
            validation_tokens=1024,
        )
        return replace(base, **changes)

    return make


@pytest.fixture(scope="session")
def write_tokens(tiny_tokens: Path) -> Callable[..., Path]:
    """A function that writes documents, lists of ids, as a prepared folder with the tokenizer of ``tiny_tokens``.

    ``validation`` of them are held out, the last ones.
    """
    from isoflop.tokens.manifest import FORMAT, TOKENIZER, Manifest
    from isoflop.tokens.shards import ShardWriter
    from isoflop.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tiny_tokens / TOKENIZER)

    def write(
        out: Path, documents: list[list[int]], validation: int = 1, shard_tokens: int = 2**20, dtype: str = "<u2"
    ) -> Path:
        out.mkdir(parents=True)
        tokenizer.save(out / TOKENIZER)
        splits = {"train": documents[:-validation], "validation": documents[-validation:]}
        written = {}
        for name, texts in splits.items():
            writer = ShardWriter(out, name, np.dtype(dtype), shard_tokens, tokenizer.byte_lengths, tokenizer.bos)
            for ids in texts:
                writer.write(np.array([tokenizer.bos, *ids, tokenizer.eos]))
            written[name] = writer.close()
        Manifest(FORMAT, dtype, tokenizer.vocab_size, tokenizer.checksum, "", {}, written, {}).write(out)
        return out

    return write
