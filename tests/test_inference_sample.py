"""Sampling depends on its seed alone, not on the other prompts, and slides along beyond the context."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop.inference.sample import sample, sample_texts
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run

SHAPE = Shape(2, 16, 2, 1, 32, 50, context=16)


def test_same_seed_same_text_whatever_the_neighbours() -> None:
    model = Llama(SHAPE).initialise(0)
    alone = sample(model, [[1, 2, 3]], 40, seed=5)
    assert alone == sample(model, [[1, 2, 3], [9]], 40, seed=5)[:1]
    assert alone != sample(model, [[1, 2, 3]], 40, seed=6)


def test_temperature_zero_takes_the_likeliest_token() -> None:
    model = Llama(SHAPE).initialise(0)
    (out,) = sample(model, [[4, 7]], 3, temperature=0.0)
    ids = [4, 7]
    with torch.no_grad():
        for token in out:
            assert token == int(model(torch.tensor([ids]))[0, -1].argmax())
            ids.append(token)


def test_text_goes_on_beyond_the_context() -> None:
    assert len(sample(Llama(SHAPE).initialise(0), [[1]], 50)[0]) == 50


def test_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        sample(Llama(SHAPE).initialise(0), [[]], 5)


def test_texts_come_from_a_runs_newest_checkpoint(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "run")
    texts = sample_texts(tmp_path / "run", ["", "law"], count=30)
    assert [text["prompt"] for text in texts] == ["", "law"]
    assert all(text["text"] for text in texts)


def test_run_without_a_checkpoint_is_refused(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    Run(tmp_path).start(tiny_config())
    with pytest.raises(ValueError, match="train it first"):
        sample_texts(tmp_path, [""])
