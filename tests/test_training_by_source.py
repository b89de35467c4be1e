"""A mixture's training loss is told by source, from the step's own losses and without changing a bit of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from isoflop.planning.schedule import ContextRamp
from isoflop.tokens.mixture import Mixture, Source
from isoflop.training.by_source import LossBySource
from isoflop.training.config import TrainConfig
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, write_tokens: Callable[..., Path]) -> tuple[Source, Source]:
    """Two sources told apart by their ids: those of one are below 100, those of the other above."""
    torch.set_num_threads(1)
    folder, rng = tmp_path_factory.mktemp("two"), random.Random(0)
    for name, low in (("low", 10), ("high", 100)):
        write_tokens(folder / name, [[low + rng.randrange(60) for _ in range(50)] for _ in range(200)], 30)
    return Source("low", str(folder / "low")), Source("high", str(folder / "high"))


def trainer_of(config: TrainConfig, path: Path) -> Trainer:
    run = Run(path)
    run.start(config)
    return Trainer.build(config, run)


@pytest.mark.parametrize("packing", ["cut", "fit"])
def test_losses_are_those_of_each_sources_own_samples(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path, packing: Literal["cut", "fit"]
) -> None:
    config = tiny_config(
        data="", packing=packing, mixture=Mixture.constant(two, {"low": 3, "high": 1}), micro_tokens=64
    )
    trainer = trainer_of(config, tmp_path / "run")
    tokens = torch.cat(list(trainer.micro_batches(0, 128)))
    with torch.no_grad():
        logits = trainer.model(tokens[:, :-1].clamp(min=0))
    nats = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], ignore_index=-1, reduction="none")
    high = ((tokens >= 100) & (tokens < 160)).any(1)
    assert 0 < high.sum() < len(high)
    line, _ = trainer.step()
    for name, mine in (("low", ~high), ("high", high)):
        expected = float(nats[mine].sum() / (tokens[mine, 1:] >= 0).sum())
        assert line[f"loss/{name}"] == pytest.approx(expected, rel=1e-5)


def test_following_sources_changes_no_bit(tiny_config: Make, two: tuple[Source, Source], tmp_path: Path) -> None:
    config = tiny_config(
        data="", mixture=Mixture.constant(two, {"low": 1, "high": 1}), context=ContextRamp(8, (1024, 2048))
    )
    ends = []
    for name in ("followed", "not"):
        trainer = trainer_of(config, tmp_path / name)
        if name == "not":
            trainer.by_source = None
        lines = [trainer.step()[0]["loss"] for _ in range(10)]
        ends.append((lines, [parameter.detach().clone() for parameter in trainer.model.parameters()]))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(a, b) for a, b in zip(ends[0][1], ends[1][1], strict=True))


def test_ranks_add_up_to_the_whole_batch_and_an_absent_source_is_left_out(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path
) -> None:
    third = Source("never", two[1].data + "-not-read")
    loaders = trainer_of(
        tiny_config(data="", mixture=Mixture.constant(two, {"low": 1, "high": 3})), tmp_path / "run"
    ).loaders
    targets, nats = torch.ones(8, 32, dtype=torch.int64), torch.rand(8, 32)
    whole, first, second = (LossBySource(["low", "high", third.name], loaders, torch.device("cpu")) for _ in range(3))
    whole.add(16, targets.shape[1], targets, nats)
    first.add(16, targets.shape[1], targets[:3], nats[:3])
    second.add(19, targets.shape[1], targets[3:], nats[3:])
    first.sums += second.sums
    assert first.figures() == pytest.approx(whole.figures())
    assert set(whole.figures()) == {"loss/low", "loss/high"}
    began = time.process_time()
    for _ in range(20):
        whole.add(16, targets.shape[1], targets, nats)
    print(f"{(time.process_time() - began) / 20 * 1e6:.0f} µs a micro-batch")


def test_run_on_one_source_has_no_such_lines(tiny_config: Make, tmp_path: Path) -> None:
    line, _ = trainer_of(tiny_config(), tmp_path / "run").step()
    assert not [key for key in line if key.startswith("loss/")]
