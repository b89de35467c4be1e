"""A run on several sources: trained, validated by source, resumed exactly, and refused where its data changed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from isoflop import config as configuration
from isoflop.cli import train as command
from isoflop.planning.schedule import ContextRamp, Schedule
from isoflop.tokens import packing
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.training import checkpoint, data
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

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


def ending(run: Path) -> list[bytes]:
    newest = checkpoint.latest(run)
    assert newest is not None
    return [file.read_bytes() for file in sorted(newest.glob("*.safetensors"))]


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


def test_run_on_a_changing_mixture_is_resumed_with_the_same_bits(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path
) -> None:
    blends = (Blend(0, {"low": 3, "high": 1}), Blend(1000, {"low": 1}), Blend(2048, {"low": 1, "high": 5}))
    config = tiny_config(data="", mixture=Mixture(two, blends), context=ContextRamp(8, (1024, 2048)))
    train(config, tmp_path / "whole")
    run = Run(tmp_path / "crashed")
    run.start(config)
    trainer = Trainer.build(config, run)
    for step in range(9):
        trainer.step()
        if step == 6:
            trainer.save()
    train(config, tmp_path / "crashed")
    assert ending(tmp_path / "crashed") == ending(tmp_path / "whole")


def test_branch_must_have_drawn_what_its_trunk_drew(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path
) -> None:
    trunk = Mixture(two, (Blend(0, {"low": 3, "high": 1}),))
    train(tiny_config(data="", mixture=trunk, schedule=Schedule(2048, 0.01, 256), keep=(1024,)), tmp_path / "trunk")
    decay = {"schedule": Schedule(2048, 0.01, 256, 1024), "branch": Branch("../trunk", 1024), "data": ""}
    annealed = Mixture(two, (*trunk.blends, Blend(1024, {"high": 1})))
    assert train(tiny_config(mixture=annealed, **decay), tmp_path / "annealed")["tokens"] == 2048
    other = Mixture(two, (*trunk.blends, Blend(992, {"high": 1})))
    with pytest.raises(ValueError, match=r"cannot branch .* mixtures, .* differ before that point"):
        train(tiny_config(mixture=other, **decay), tmp_path / "other")


def test_changed_tokens_are_refused_by_name_unless_that_is_accepted_and_recorded(
    tiny_config: Make, tmp_path: Path, write_tokens: Callable[..., Path]
) -> None:
    texts = [[1 + i % 7, i % 200] * 40 for i in range(60)]
    folder = write_tokens(tmp_path / "tokens", texts)
    config = tiny_config(data=str(folder))
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    trainer.step()
    trainer.save()
    shutil.rmtree(folder)
    write_tokens(folder, texts[1:])
    with pytest.raises(ValueError, match=r"data of .* changed .*'data': train_tokens 4838 → 4756; .*fingerprint"):
        train(config, tmp_path / "run")
    summary = train(config, tmp_path / "run", accept_changed_data=True)
    (change,) = summary["data_changes"]
    assert change["tokens"] == 128
    assert "source 'data': train_tokens 4838 → 4756" in change["differences"]
    assert data.recorded(tmp_path / "run") == {
        "sources": data.record({"data": TokenDataset.open(folder)}),
        "changes": [change],
    }


def test_source_repeated_too_often_is_said_and_in_the_end_refused(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = (two[0], replace(two[1], tokens=256))
    train(tiny_config(data="", mixture=Mixture.constant(few, {"low": 1, "high": 1})), tmp_path / "said")
    assert "source 'high' would be read 8 times in 4,096 tokens" in capsys.readouterr().err
    strict = Mixture(few, (Blend(0, {"low": 1, "high": 1}),), refuse_epochs=6)
    with pytest.raises(ValueError, match="at most 6 times is 3,072 tokens in all"):
        train(tiny_config(data="", mixture=strict), tmp_path / "refused")


def test_run_has_data_or_a_mixture(tiny_config: Make, two: tuple[Source, Source]) -> None:
    for changes in ({"data": ""}, {"mixture": Mixture.constant(two, {"low": 1})}):
        with pytest.raises(ValueError, match="either data, .* or a mixture"):
            tiny_config(**changes)


def test_dry_run_shows_the_ledger(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(data="", mixture=Mixture.constant(two, {"low": 3, "high": 1}))
    (tmp_path / "run.toml").write_text(configuration.dumps(config))
    command.main([str(tmp_path / "run"), "--config", str(tmp_path / "run.toml"), "--dry-run"])
    assert ["#", "high", "0.2500", "8,840", "1,024", "0.12"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


def test_packed_run_counts_targets_and_no_padding(
    tiny_config: Make, two: tuple[Source, Source], tmp_path: Path
) -> None:
    config = tiny_config(data="", packing="fit", mixture=Mixture.constant(two, {"low": 1, "high": 1}))
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    (tokens,) = trainer.micro_batches(0, 128)
    targets = tokens[:, 1:]
    assert 0 < trainer.targets(0, 128) == int((targets >= 0).sum()) < 128
    with torch.no_grad():
        logits = trainer.model(packing.inputs(tokens[:, :-1]))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.clamp(min=-1).flatten(), ignore_index=-1)
    line, _ = trainer.step()
    assert line["loss"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match='with a context that grows, use "cut"'):
        tiny_config(packing="fit", context=ContextRamp(16, (1024,)))
