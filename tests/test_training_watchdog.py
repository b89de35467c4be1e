"""A step that hangs leaves its stacks and ends the process; compiling, validating and saving may take their time."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from isoflop.training import watchdog
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.supervise import forked
from isoflop.training.trainer import Trainer
from isoflop.training.validation import Validation
from isoflop.training.watchdog import HUNG, Watchdog, stacks_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")
Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def hanging(hang: Callable[[], object], config: TrainConfig, run: Path) -> Callable[[], None]:
    """Work that trains and hangs in its fifth step."""

    def work() -> None:
        original, left = Trainer.accumulate, iter(range(4))

        def accumulate(self: Trainer, *arguments: Any) -> Any:
            if next(left, None) is None:
                hang()
            return original(self, *arguments)

        Trainer.accumulate = accumulate  # type: ignore[method-assign]
        watchdog.GRACE = 0.5
        train(config, run)

    return work


def wait_for_what_never_comes() -> None:
    time.sleep(60)


def hold_everything() -> None:
    ctypes.PyDLL(None).sleep(60)  # does not let go of the interpreter


def test_a_hang_ends_the_process_and_says_where_it_was(
    tiny_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(hang_seconds=3.0)
    assert forked(hanging(wait_for_what_never_comes, config, tmp_path)) == HUNG
    stacks = stacks_of(tmp_path, 0).read_text()
    assert "no step for 3 seconds" in stacks
    assert "in wait_for_what_never_comes" in stacks
    assert "the stacks of all threads are in" in capfd.readouterr().err
    summary = train(config, tmp_path)
    assert summary["tokens"] == 4096
    assert not stacks_of(tmp_path, 0).exists()


def test_a_hang_that_lets_no_thread_run_is_ended_too(tiny_config: Make, tmp_path: Path) -> None:
    assert forked(hanging(hold_everything, tiny_config(hang_seconds=1.0), tmp_path)) == 1
    assert "in hold_everything" in stacks_of(tmp_path, 0).read_text()


def test_the_first_step_of_a_shape_and_validations_may_take_their_time(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    accumulate, measure = Trainer.accumulate, Validation.measure

    def slow_as_the_batch_grows(self: Trainer, consumed: int, size: int) -> Any:
        if size == 256 and "batch" not in seen:
            seen.append("batch")
            time.sleep(2.5)
        return accumulate(self, consumed, size)

    def slow_at_first(*arguments: Any) -> Any:
        if "validation" not in seen:
            seen.append("validation")
            time.sleep(2.5)
        return measure(*arguments)

    monkeypatch.setattr(Trainer, "accumulate", slow_as_the_batch_grows)
    monkeypatch.setattr(Validation, "measure", slow_at_first)
    monkeypatch.setattr(os, "_exit", lambda status: seen.append("hung"))
    assert train(tiny_config(hang_seconds=2.0, validate_times=2), tmp_path)["tokens"] == 4096
    assert seen == ["batch", "validation"]


def test_the_limit_follows_the_slowest_step_and_is_never_short(tmp_path: Path) -> None:
    dog = Watchdog(tmp_path / "stacks")
    assert dog.limit == watchdog.LEAST
    dog.slowest = 100.0
    assert dog.limit == 3000.0
    dog.close()
    assert not (tmp_path / "stacks").exists()
