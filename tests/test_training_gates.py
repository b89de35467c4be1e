"""Gates: measured where long-context stages end, said, written, cut back on resumption, and able to end a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isoflop.planning.gates import Gates
from isoflop.planning.schedule import ContextRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint, gates
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
LOOSE = Gates(tolerance=100.0, needle=0.0, trials=1)
STRICT = Gates(tolerance=100.0, needle=1.0, trials=2, action="stop")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make(tiny_config: Make) -> Make:
    """Runs whose context grows from 32 to 128 in two steps, at 1,024 and 2,048 tokens."""
    shape = Shape(2, 16, 2, 1, 32, 300, context=128)
    return lambda **changes: replace(tiny_config(shape=shape, context=ContextRamp(32, (1024, 2048))), **changes)


def lines(run: Path) -> list[dict[str, object]]:
    return gates.read(run / gates.FILE)


def test_each_gate_holds_the_short_context_loss_against_that_before(make: Make, tmp_path: Path) -> None:
    config = make(gates=replace(LOOSE, needle=0.01), keep=(1024, 2048))
    train(config, tmp_path / "run")
    found = lines(tmp_path / "run")
    assert [(line["tokens"], line["context"], line["opens"]) for line in found] == [
        (1024, 32, "context 64"),
        (2048, 64, "context 128"),
        (3072, 128, "annealing"),
    ]
    trainer = Trainer.build(config, Run(tmp_path / "run"))
    for line in found[:2]:
        checkpoint.load(checkpoint.folder(tmp_path / "run", int(str(line["tokens"]))), trainer.parts)
        assert trainer.validation.measure(trainer.model, trainer.ranks, 32)["validation_loss"] == line["loss"]
    assert [line.get("loss_before") for line in found] == [None, found[0]["loss"], found[0]["loss"]]
    assert [line.get("needles", [{}])[0].get("length") for line in found] == [None, 64, 128]  # type: ignore[index]


def test_gates_change_no_bit_of_training(make: Make, tmp_path: Path) -> None:
    train(make(), tmp_path / "without")
    train(make(gates=LOOSE), tmp_path / "with")
    ends = [checkpoint.latest(tmp_path / name) for name in ("without", "with")]
    assert ends[0] is not None
    assert ends[1] is not None
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes()


def test_gate_that_is_shut_is_said_and_the_run_goes_on(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(make(gates=replace(STRICT, action="warn")), tmp_path / "run")
    assert summary["tokens"] == 4096
    said = capsys.readouterr().err
    assert "gate at 1,024 tokens, before context 64: loss" in said
    assert "of needles found at 64: shut (" in said
    assert [line["passed"] for line in lines(tmp_path / "run")] == [True, False, False]


def test_gate_that_is_shut_ends_the_run_which_is_saved_and_stays_ended(make: Make, tmp_path: Path) -> None:
    config = make(gates=STRICT, checkpoint_seconds=1e9)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"shut .* branches from this one at 1,024 tokens, whose checkpoint is kept"
        ):
            train(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.summary is None
    assert run.metrics()[-1]["tokens"] == 2048
    assert [path.name[-4:] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == ["1024", "2048"]

    longer = make(
        gates=replace(STRICT, needle=0.0),
        context=ContextRamp(32, (1024, 3072)),
        schedule=Schedule(5120, 0.01, 256, 1024),
        branch=Branch("../run", 1024),
    )
    assert train(longer, tmp_path / "longer")["tokens"] == 5120


def test_loss_that_has_not_recovered_shuts_a_gate(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make(gates=Gates(tolerance=0.1, needle=0.0))
    run = Run(tmp_path / "run")
    run.start(config)
    keeper = gates.Keeper(Trainer.build(config, run))
    losses = iter([3.0, 3.09, 3.11])
    monkeypatch.setattr(
        type(keeper.trainer.validation), "measure", lambda *_: {"validation_loss": next(losses), "validation_bpb": 0.0}
    )
    for before, now in ((896, 1024), (1024, 1280), (1792, 2048), (2816, 3072)):
        keeper.visit(before, now)
    assert [line["passed"] for line in keeper.lines] == [True, True, False]
    assert keeper.lines[-1]["reasons"] == ["0.1100 above, where 0.1 is allowed"]


def test_resumed_run_finds_the_gates_behind_it_and_measures_those_ahead_again(make: Make, tmp_path: Path) -> None:
    config = make(gates=LOOSE)
    train(config, tmp_path / "whole")
    run = Run(tmp_path / "crashed")
    run.start(config)
    trainer = Trainer.build(config, run)
    keeper = gates.Keeper(trainer)
    while trainer.progress.tokens < 2560:
        before = trainer.progress.tokens
        trainer.step()
        keeper.visit(before, trainer.progress.tokens)
        if trainer.progress.tokens == 1536:
            trainer.save()
    assert len(lines(tmp_path / "crashed")) == 2
    train(config, tmp_path / "crashed")
    assert lines(tmp_path / "crashed") == lines(tmp_path / "whole")
    assert json.dumps(lines(tmp_path / "whole"))


def test_stage_beginnings_are_kept_for_longer_branches_only_where_there_are_gates(make: Make) -> None:
    assert make(keep=(512,)).kept == {512}
    assert make(keep=(512,), gates=LOOSE).kept == {512, 1024, 2048}
