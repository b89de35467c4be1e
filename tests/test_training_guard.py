"""The guard: a bad step leaves no trace in weights or in what is normal, and a run goes back past a lasting spike."""

from __future__ import annotations

import json
import math
import random
import signal
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import kill_at
from torch import Tensor

from isoflop.planning.schedule import BatchRamp
from isoflop.training import checkpoint, rewind
from isoflop.training.attempts import effective_time
from isoflop.training.config import TrainConfig
from isoflop.training.guard import Guard, Rewind, Sentry, height
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.saving import Saving
from isoflop.training.supervise import forked
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
WATCHFUL = Guard(threshold=6.0, window=16, high=3.0, patience=6, margin=2)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(guard: Guard, steps: int = 40) -> Sentry:
    """A sentry that has seen so many calm steps."""
    sentry, rng = Sentry(guard), random.Random(0)
    for step in range(steps):
        assert sentry.judge(step, rng.gauss(3.0, 0.05), rng.gauss(1.0, 0.1), "a") == "step"
    return sentry


def test_height_is_the_distance_from_the_median_in_standard_deviations_of_a_normal_window() -> None:
    rng = random.Random(1)
    window = [rng.gauss(5.0, 2.0) for _ in range(10_001)]
    assert height(13.0, window) == pytest.approx(4.0, rel=0.03)
    assert height(1e9, [2.0] * 8) == pytest.approx(1e9 / 2e-3, rel=1e-6)


@pytest.mark.parametrize("bad", [(math.nan, 1.0), (3.0, math.inf), (9.0, 1.0), (3.0, 5.0)])
def test_a_bad_step_is_skipped_and_moves_nothing_that_is_normal(bad: tuple[float, float]) -> None:
    sentry = trained(WATCHFUL)
    losses, norms = list(sentry.losses), list(sentry.norms)
    assert sentry.judge(40, *bad, "a") == "skip"
    assert (sentry.losses, sentry.norms) == (losses, norms)
    assert sentry.judge(41, 3.0, 1.0, "a") == "step"
    assert (sentry.skipped, sentry.high) == (0, 0)


def test_bad_steps_in_a_row_go_back_and_so_does_a_loss_that_stays_high() -> None:
    sentry = trained(WATCHFUL)
    assert [sentry.judge(40 + i, 9.0, 1.0, "a") for i in range(3)] == ["skip", "skip", "rewind"]
    assert sentry.began == 40
    assert sentry.trusted(43, batch=5) == 30
    sentry = trained(WATCHFUL)
    median = statistics.median(sentry.losses)
    deviation = 1.4826 * statistics.median(abs(loss - median) for loss in sentry.losses)
    verdicts = [sentry.judge(40 + i, median + 4.6 * deviation, 1.0, "a") for i in range(6)]
    assert verdicts == ["step"] * 5 + ["rewind"]


def test_another_batch_context_or_mixture_is_no_spike() -> None:
    sentry = trained(WATCHFUL)
    assert sentry.judge(40, 9.0, 7.0, "b") == "step"
    assert sentry.losses == [9.0]


def test_what_is_normal_survives_the_checkpoint_to_the_last_bit() -> None:
    sentry = trained(WATCHFUL)
    sentry.judge(40, math.nan, 1.0, "a")
    sentry.rewinds = [Rewind(1, 2)]
    other = Sentry(WATCHFUL)
    other.restore({}, json.loads(json.dumps(sentry.record())))
    assert other == sentry


def test_a_guard_changes_no_bit_of_a_healthy_run(tiny_config: Make, tmp_path: Path) -> None:
    found = []
    for name, guard in (("off", Guard()), ("on", Guard(threshold=1e3, window=8))):
        train(tiny_config(guard=guard), tmp_path / name)
        newest = checkpoint.latest(tmp_path / name)
        assert newest is not None
        found.append([file.read_bytes() for file in sorted(newest.glob("*.safetensors"))])
    assert found[0] == found[1]


def test_a_step_without_a_number_is_left_out_and_nothing_else(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.accumulate
    bad = {1024, 2048}

    def accumulate(self: Trainer, consumed: int, size: int) -> Tensor:
        loss = original(self, consumed, size)
        return loss * math.nan if consumed in bad else loss

    monkeypatch.setattr(Trainer, "accumulate", accumulate)
    train(tiny_config(), tmp_path / "run")
    lines = Run(tmp_path / "run").metrics()
    skipped = [line["tokens"] for line in lines if "skipped" in line]
    assert skipped == [1024 + 256, 2048 + 256]
    assert all(line["loss"] is None for line in lines if "skipped" in line)
    run = Run(tmp_path / "by-hand")
    run.start(tiny_config())
    trainer = Trainer.build(tiny_config(), run)
    while trainer.progress.tokens < 4096:
        if trainer.progress.tokens in bad:  # consume the batch and do nothing
            size = trainer.config.batch.at(trainer.progress.tokens)
            trainer.progress = checkpoint.Progress(trainer.progress.tokens + size, trainer.progress.step + 1, 0.0)
        else:
            trainer.step()
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    path = checkpoint.save(tmp_path / "by-hand", trainer.progress, trainer.parts)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (path / name).read_bytes() == (newest / name).read_bytes()


def test_going_back_needs_checkpoints_at_known_tokens(tiny_config: Make) -> None:
    with pytest.raises(ValueError, match="set saving.every_tokens"):
        tiny_config(guard=Guard(rewinds=1))


SPIKE = 2560
"""Tokens after which a step ruins the weights, until the run has gone back past it."""


def spiky() -> None:
    """From now on a step of this process's trainers ruins the weights, and the loss is high while they are."""
    original = Trainer.accumulate

    def accumulate(self: Trainer, consumed: int, size: int) -> Tensor:
        loss = original(self, consumed, size)
        ruined = bool(self.model.embedding.detach()[0, 0] > 50)
        if consumed == SPIKE and not self.sentry.rewinds:
            with torch.no_grad():
                self.model.embedding[0, 0] = 100.0  # as a step would that has ruined the weights
        return loss * 100 if ruined else loss

    Trainer.accumulate = accumulate  # type: ignore[method-assign]


@pytest.fixture
def spiked(tiny_config: Make) -> TrainConfig:
    guard = Guard(threshold=20.0, window=8, high=15.0, margin=2, rewinds=2, patience=8)
    return tiny_config(guard=guard, saving=Saving(every_tokens=512), batch=BatchRamp(128), checkpoint_seconds=0.0)


REPEATED = ("tokens", "step", "loss", "learning_rate", "gradient_norm", "skipped", "rewound_to")
"""What of a line of metrics is no figure of the machine's."""


def ending(run: Path) -> dict[str, Any]:
    newest = checkpoint.latest(run)
    assert newest is not None
    marker = checkpoint.read_marker(newest)
    assert marker is not None
    lines = [{k: v for k, v in line.items() if k in REPEATED} for line in Run(run).metrics()]
    return {f.name: f.read_bytes() for f in newest.glob("*.safetensors")} | {"parts": marker["parts"], "lines": lines}


def test_a_spike_that_lasts_is_gone_back_from_and_its_data_skipped(
    spiked: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        spiky()
        train(spiked, tmp_path / "run")

    assert forked(work) == 0
    run = Run(tmp_path / "run")
    summary = run.summary
    assert summary is not None
    [back] = summary["rewinds"]
    assert back == {"to": 2048, "until": 3072}  # the newest of 512, 1,024, … two steps before the high one at 2,688
    assert "back to the weights of 2,048 tokens" in capfd.readouterr().err
    lines = run.metrics()
    assert [line["tokens"] for line in lines if "rewound_to" in line] == [3072]
    assert [line["tokens"] for line in lines] == [*range(128, 4097, 128)]
    assert max(line["loss"] for line in lines[-8:]) < 10 < lines[-9]["loss"]
    found = effective_time(tmp_path / "run")
    assert found.skipped_tokens == 3072 - 2048
    assert found.lost > 0


def test_a_run_killed_around_a_spike_ends_with_the_same_bits(spiked: TrainConfig, tmp_path: Path) -> None:
    def work(run: Path, steps: int, name: str = "step") -> None:
        spiky()
        kill_at({"step": Trainer, "said": rewind}[name], name, steps + 1)
        train(spiked, run)

    assert forked(lambda: work(tmp_path / "whole", 1000)) == 0
    for steps in (13, 2, 1, 1, 3, 1):  # to the step that ruins the weights
        assert forked(partial(work, tmp_path / "killed", steps)) == -signal.SIGKILL
    for name in ("said", "step"):  # gone back and not yet saved, and two steps behind the spike
        assert forked(partial(work, tmp_path / "killed", {"said": 0, "step": 5}[name], name)) == -signal.SIGKILL
    assert forked(lambda: work(tmp_path / "killed", 1000)) == 0
    assert ending(tmp_path / "killed") == ending(tmp_path / "whole")


def test_a_run_that_can_neither_go_on_nor_back_stops_with_advice(
    spiked: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.accumulate
    monkeypatch.setattr(
        Trainer, "accumulate", lambda self, c, s: original(self, c, s) * (math.nan if c >= 2048 else 1.0)
    )
    with pytest.raises(FloatingPointError, match=r"3 steps in a row; lower schedule\.peak"):
        train(spiked, tmp_path / "run")
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    marker = checkpoint.read_marker(newest)
    assert marker is not None
    assert len(marker["parts"]["guard"]["rewinds"]) == 2
