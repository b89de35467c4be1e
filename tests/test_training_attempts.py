"""The log of effective training time: what a run's time went into, however often it was killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import kill_at

from isoflop import config as configuration
from isoflop.cli import train as command
from isoflop.interrupt import Interrupted
from isoflop.planning.schedule import BatchRamp
from isoflop.training.attempts import effective_time, read
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.saving import Saving
from isoflop.training.supervise import forked, supervise
from isoflop.training.trainer import Trainer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")
Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def dying(config: TrainConfig, run: Path, step: int) -> Callable[[], None]:
    """Work that trains and is killed as its ``step``-th step begins."""

    def work() -> None:
        kill_at(Trainer, "step", step)
        train(config, run)

    return work


def test_time_is_told_apart_to_the_last_second(tmp_path: Path) -> None:
    """Two attempts, the first killed at 400 tokens with a checkpoint at 200, by hand."""
    events = [
        {"event": "start", "time": 1000.0, "tokens": 0, "seconds": 0.0, "building_seconds": 3.0}
        | {"lost_tokens": 0, "lost_seconds": 0.0, "down_seconds": 0.0},
        {"event": "new shape", "tokens": 100},
        {"event": "saved", "tokens": 200, "seconds": 0.5},
        {"event": "start", "time": 1030.0, "tokens": 200, "seconds": 12.0, "building_seconds": 2.0}
        | {"lost_tokens": 200, "lost_seconds": 2.0, "down_seconds": 13.0, "after": "killed"},
        {"event": "new shape", "tokens": 300},
        {"event": "validated", "tokens": 400, "seconds": 0.25},
        {"event": "stop", "time": 1050.0, "tokens": 600, "cause": "finished"},
    ]
    lines = [
        {"tokens": 100 * (i + 1), "seconds": seconds, "batch_tokens": 100, "context": 10}
        for i, seconds in enumerate([11.0, 12.0, 18.0, 19.0, 20.0, 21.0])
    ]
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events) + '{"event": "sto')
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = effective_time(tmp_path, now=1050.0)
    assert found.wall == 50.0
    assert found.compiling == 10.0 + 5.0  # the first steps took 11 and 6 seconds, the others 1
    assert found.productive == 6.0
    assert found.share == 6.0 / 50.0
    assert (found.saving, found.validating, found.building) == (0.5, 0.25, 5.0)
    assert (found.lost, found.lost_tokens, found.down) == (2.0, 200, 13.0)
    assert (found.attempts, found.causes) == (2, {"killed": 1})


def test_what_a_kill_lost_is_known_afterwards(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(batch=BatchRamp(128), saving=Saving(every_tokens=1024))
    assert forked(dying(config, tmp_path, 14)) == -signal.SIGKILL
    time.sleep(0.3)
    began = time.time()
    summary = train(config, tmp_path)
    wall = time.time() - began
    found = effective_time(tmp_path)
    assert (found.attempts, found.causes) == (2, {"killed": 1})
    assert found.lost_tokens == 13 * 128 - 1024
    assert 0 < found.lost < 5
    assert found.down > 0.25
    assert summary["effective_time"]["attempts"] == 2
    assert 0 < summary["effective_time"]["productive"] < summary["effective_time"]["wall"]
    assert summary["effective_time"]["wall"] > wall * 0.9 + 0.25
    starts = [event for event in read(tmp_path) if event["event"] == "start"]
    assert [start["tokens"] for start in starts] == [0, 1024]


def test_an_attempt_says_how_it_ended(tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tiny_config(), tmp_path)
    train(tiny_config(), tmp_path)
    assert [e["cause"] for e in read(tmp_path) if e["event"] == "stop"] == [
        "ZeroDivisionError: division by zero",
        "finished",
    ]
    assert effective_time(tmp_path).causes == {"ZeroDivisionError": 1}


def test_a_run_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is known of its attempts"):
        effective_time(tmp_path)


def test_a_supervised_run_is_started_again_until_it_is_finished(
    tiny_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(checkpoint_seconds=0.0)
    summary = supervise(tmp_path, dying(config, tmp_path, 8))  # 20 steps, seven an attempt
    assert summary == Run(tmp_path).summary
    assert summary["effective_time"]["causes"] == {"killed": 2}
    assert capfd.readouterr().err.count("was ended by SIGKILL; going on from its last checkpoint") == 2


def test_the_command_supervises(tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(configuration.dumps(tiny_config()))
    arguments = [str(tmp_path / "run"), "--config", str(tmp_path / "run.toml"), "--threads", "1"]
    command.main([*arguments, "--supervise", "--json"])
    assert json.loads(capsys.readouterr().out) == Run(tmp_path / "run").summary


def test_a_run_that_dies_without_getting_further_is_given_up(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(checkpoint_seconds=1e9)
    with pytest.raises(RuntimeError, match="SIGKILL 2 times in a row without reaching its next checkpoint"):
        supervise(tmp_path, dying(config, tmp_path, 3), patience=2)


def test_an_error_is_said_and_not_tried_again(
    tiny_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(data=str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError, match="the reason is above"):
        supervise(tmp_path / "run", lambda: train(config, tmp_path / "run"))
    assert capfd.readouterr().err.count("nowhere") == 1


def test_a_stopped_run_is_saved_and_not_started_again(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(checkpoint_seconds=1e9)

    def work() -> None:
        original, stops = Trainer.step, iter([False] * 5 + [True])

        def step(self: Trainer, *arguments: Any) -> Any:
            if next(stops, False):  # once: by the next the supervisor may be gone
                os.kill(os.getppid(), signal.SIGTERM)  # to the supervisor, which hands it on
                time.sleep(0.5)
            return original(self, *arguments)

        Trainer.step = step  # type: ignore[method-assign]
        train(config, tmp_path)

    with pytest.raises(Interrupted):
        supervise(tmp_path, work)
    assert Run(tmp_path).tokens_so_far() > 0
    assert train(config, tmp_path)["effective_time"]["causes"] == {"interrupted": 1}
