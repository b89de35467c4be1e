"""Texts come from a run's newest checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop.inference.sample import sample_texts
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run


def test_texts_come_from_a_runs_newest_checkpoint(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "run")
    texts = sample_texts(tmp_path / "run", ["", "law"], count=20)
    assert [text["prompt"] for text in texts] == ["", "law"]
    assert all(text["text"] for text in texts)
    assert texts == sample_texts(tmp_path / "run", ["", "law"], count=20)


def test_run_without_a_checkpoint_is_refused(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    Run(tmp_path).start(tiny_config())
    with pytest.raises(ValueError, match="train it first"):
        sample_texts(tmp_path, [""])
