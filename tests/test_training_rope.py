"""Rotary embeddings that change with the stages of a run: exactly where declared, across crashes and branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isoflop.inference.load import load_model
from isoflop.model.llama import Llama
from isoflop.planning.rope import RopeScaling
from isoflop.planning.schedule import ContextRamp, RopeStage, Schedule
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
SHAPE = Shape(2, 16, 2, 1, 32, 300, context=64, rope_theta=5e4, rope_scaling=RopeScaling(original=32))
BEFORE = Shape(2, 16, 2, 1, 32, 300, context=64, rope_theta=1e4)
STAGES = (RopeStage(0, 1e4), RopeStage(2048, 5e4, SHAPE.rope_scaling))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make(tiny_config: Make) -> Make:
    base = {"shape": SHAPE, "context": ContextRamp(32, (2048,)), "rope": STAGES}
    return lambda **changes: tiny_config(**(base | changes))


def weights(run: Path) -> bytes:
    newest = checkpoint.latest(run)
    assert newest is not None
    return (newest / "model.safetensors").read_bytes()


def test_run_is_one_with_the_first_rope_and_then_one_with_the_second(make: Make, tmp_path: Path) -> None:
    train(make(), tmp_path / "whole")
    first = make(shape=BEFORE, rope=(), schedule=Schedule(3072, 0.01, 256), keep=(2048,))
    train(first, tmp_path / "first")
    train(make(branch=Branch("../first", 2048)), tmp_path / "then")
    assert weights(tmp_path / "then") == weights(tmp_path / "whole")
    train(make(rope=()), tmp_path / "always")
    assert weights(tmp_path / "always") != weights(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"cannot branch .* rope"):
        train(make(rope=(), branch=Branch("../first", 2048)), tmp_path / "wrong")


@pytest.mark.parametrize("saved", [9, 10, 11])
def test_crash_around_the_change_of_rope_changes_nothing(make: Make, tmp_path: Path, saved: int) -> None:
    train(make(), tmp_path / "whole")
    run = Run(tmp_path / "crashed")
    run.start(make())
    trainer = Trainer.build(make(), run)
    for step in range(saved + 2):
        trainer.step()
        if step == saved:
            trainer.save()
    train(make(), tmp_path / "crashed")
    assert weights(tmp_path / "crashed") == weights(tmp_path / "whole")


def test_validations_and_unfinished_runs_have_the_rope_of_their_stage(make: Make, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.start(make())
    trainer = Trainer.build(make(), run)
    trainer.step()
    trainer.save()
    model = Llama(BEFORE)
    checkpoint.load_weights(checkpoint.folder(run.path, trainer.progress.tokens), model)
    alone = trainer.validation.measure(model, trainer.ranks, 32)
    assert trainer.validation.measure(trainer.model, trainer.ranks, 32) == alone
    tokens = torch.arange(64)[None]
    assert torch.equal(load_model(run.path, context=64)[0](tokens), model(tokens))

    train(make(), run.path)
    model = Llama(SHAPE)
    checkpoint.load_weights(checkpoint.latest(run.path), model)  # type: ignore[arg-type]
    assert run.summary is not None
    assert run.summary["validation_loss"] == trainer.validation.measure(model, trainer.ranks)["validation_loss"]


def test_rope_whose_last_stage_is_not_the_shapes_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="a shape's rope is what its training ends with"):
        replace(make(), rope=STAGES[:1])
