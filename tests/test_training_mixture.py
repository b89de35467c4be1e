"""A run on several sources: trained, validated by source, resumed exactly, and refused where its data changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop.tokens.mixture import Mixture, Source
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, write_tokens: Callable[..., Path]) -> tuple[Source, Source]:
    """Two sources that a model tells apart: one of the ids below 100, one of those above."""
    folder, rng = tmp_path_factory.mktemp("two"), random.Random(0)
    for name, low in (("low", 0), ("high", 100)):
        write_tokens(folder / name, [[low + rng.randrange(60) for _ in range(50)] for _ in range(200)], 30)
    return Source("low", str(folder / "low")), Source("high", str(folder / "high"))


def test_run_on_two_sources_learns_each_as_its_weight_has_it(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path
) -> None:
    found = {}
    for name, weights in (("most", {"low": 9.0, "high": 1.0}), ("least", {"low": 1.0, "high": 9.0})):
        config = tiny_config(data="", mixture=Mixture.constant(two, weights))
        found[name] = train(config, tmp_path / name)
        assert Run(tmp_path / name).config == config
    for name, (more, less) in (("low", ("most", "least")), ("high", ("least", "most"))):
        assert found[more][f"validation_loss/{name}"] < found[less][f"validation_loss/{name}"] - 0.3
    most = found["most"]
    mean = 0.9 * most["validation_loss/low"] + 0.1 * most["validation_loss/high"]
    assert most["validation_loss"] == pytest.approx(mean)
    assert most["epochs_by_source"]["low"] == pytest.approx(0.9 * 4096 / (170 * 52), abs=1e-4)
