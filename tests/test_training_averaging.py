"""Averaged weights: the arithmetic mean of the states that the rule names, whatever interrupts the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from isoflop.inference.load import load_model
from isoflop.planning.averaging import Averaging
from isoflop.planning.schedule import Schedule
from isoflop.training import checkpoint
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
RULE = Averaging(3072, 512)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def newest(run: Path) -> Path:
    found = checkpoint.latest(run)
    assert found is not None
    return found


def test_average_is_the_mean_of_the_checkpoints_at_its_points(tiny_config: Make, tmp_path: Path) -> None:
    points = (3584, 4096)
    config = tiny_config(average=RULE, keep=points)
    summary = train(config, tmp_path / "run")
    states = [load_file(checkpoint.folder(tmp_path / "run", point) / "model.safetensors") for point in points]
    mean = load_file(newest(tmp_path / "run") / "average.safetensors")
    assert mean.keys() == states[0].keys()
    for name, tensor in mean.items():
        expected = torch.stack([state[name].double() for state in states]).mean(0)
        assert torch.allclose(tensor.double(), expected, rtol=1e-6, atol=1e-8)
    assert summary["averaged_states"] == 2

    trainer = Trainer.build(config, Run(tmp_path / "run"))
    checkpoint.load(newest(tmp_path / "run"), {"average": trainer.parts["model"]})
    alone = trainer.validation.measure(trainer.model, trainer.ranks)
    assert summary["validation_loss_averaged"] == alone["validation_loss"] != summary["validation_loss"]


def test_averaging_changes_no_bit_of_training(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "without")
    train(tiny_config(average=Averaging(1024)), tmp_path / "with")
    files = {name: newest(tmp_path / name) for name in ("without", "with")}
    assert not (files["without"] / "average.safetensors").exists()
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (files["with"] / file).read_bytes() == (files["without"] / file).read_bytes()


@pytest.mark.parametrize("saved", [7, 14, 18])
def test_average_across_a_crash_is_that_of_an_uninterrupted_run(tiny_config: Make, tmp_path: Path, saved: int) -> None:
    config = tiny_config(average=Averaging(2048, 256))
    whole = train(config, tmp_path / "whole")
    run = Run(tmp_path / "crashed")
    run.start(config)
    trainer = Trainer.build(config, run)
    for step in range(saved + 2):
        trainer.step()
        if step == saved:
            trainer.save()
    crashed = train(config, tmp_path / "crashed")
    for file in ("average.safetensors", "model.safetensors"):
        assert (newest(tmp_path / "crashed") / file).read_bytes() == (newest(tmp_path / "whole") / file).read_bytes()
    assert crashed["validation_loss_averaged"] == whole["validation_loss_averaged"]


def test_going_back_to_a_checkpoint_before_the_average_forgets_it(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(average=Averaging(256), keep=(256,))
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    for _ in range(4):
        trainer.step()
        if trainer.progress.tokens == 256:
            trainer.save()
    assert trainer.average is not None
    assert trainer.average.count == 2
    trainer.progress = checkpoint.load(checkpoint.folder(run.path, 256), trainer.parts)
    assert trainer.average.count == 0
    assert trainer.average.tensors() == {}


def test_branch_averages_its_own_annealing_and_not_what_its_trunk_averaged(tiny_config: Make, tmp_path: Path) -> None:
    trunk = {"schedule": Schedule(3072, 0.01, 256), "keep": (2048,)}
    train(tiny_config(**trunk, average=Averaging(2048)), tmp_path / "trunk")
    decay = {"schedule": Schedule(3072, 0.01, 256, 1024), "branch": Branch("../trunk", 2048)}
    branch = train(tiny_config(**decay, average=Averaging(2560)), tmp_path / "branch")
    alone = train(tiny_config(schedule=decay["schedule"], average=Averaging(2560)), tmp_path / "alone")
    assert branch["validation_loss_averaged"] == alone["validation_loss_averaged"]
    with pytest.raises(ValueError, match=r"cannot branch .* averages"):
        train(tiny_config(**decay, average=Averaging(1024)), tmp_path / "other")


def test_averaged_weights_can_be_loaded_for_use(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(average=RULE), tmp_path / "run")
    last, _ = load_model(tmp_path / "run")
    averaged, _ = load_model(tmp_path / "run", averaged=True)
    mean = load_file(newest(tmp_path / "run") / "average.safetensors")
    assert torch.equal(averaged.embedding, mean["embedding"])
    assert not torch.equal(averaged.embedding, last.embedding)
    train(tiny_config(), tmp_path / "plain")
    with pytest.raises(ValueError, match="no averaged weights"):
        load_model(tmp_path / "plain", averaged=True)


def test_record_of_the_average_is_in_the_marker(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(average=RULE), tmp_path / "run")
    marker = json.loads((newest(tmp_path / "run") / checkpoint.MARKER).read_text())
    assert marker["parts"]["average"] == {"count": 2, "start": 3072, "every": 512}
