"""A run killed with SIGKILL at any point, between the files of a checkpoint included, ends with the bits of one that
was not. The kill comes from inside, at an exact line, in a fork of the test's process: no sleeping and no luck."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kills import kill_at
from safetensors import SafetensorError

from isoflop import files
from isoflop.files import DiskFullError
from isoflop.planning.schedule import BatchRamp, ContextRamp, Schedule
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.training import checkpoint, loop
from isoflop.training.attempts import effective_time
from isoflop.training.config import TrainConfig
from isoflop.training.guard import Guard
from isoflop.training.loop import train
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.saving import Saving
from isoflop.training.supervise import forked
from isoflop.training.trainer import Trainer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and kills")
Make = Callable[..., TrainConfig]
BOUNDARIES = {"batch": 512, "context": 1024, "blend": 1536}  # tokens; a step ends at each
DURING_A_SAVE = {
    "between the files": (checkpoint, "checksum"),
    "before the sync": (files, "sync"),
    "before the old ones go": (checkpoint, "retain"),
    "while the old ones go": (checkpoint.shutil, "rmtree"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, write_tokens: Callable[..., Path]) -> tuple[Source, Source]:
    folder, rng = tmp_path_factory.mktemp("two"), random.Random(0)
    for name, low in (("low", 0), ("high", 100)):
        write_tokens(folder / name, [[low + rng.randrange(60) for _ in range(50)] for _ in range(200)], 30)
    return Source("low", str(folder / "low")), Source("high", str(folder / "high"))


@pytest.fixture
def staged(tiny_config: Make, two: tuple[Source, Source]) -> TrainConfig:
    """Everything that changes during a run changes in it, and the guard keeps watch: 20 steps."""
    return tiny_config(
        data="",
        schedule=Schedule(2048, 0.01, 256, 512),
        batch=BatchRamp(64, (BOUNDARIES["batch"],)),
        context=ContextRamp(16, (BOUNDARIES["context"],)),
        mixture=Mixture(two, (Blend(0, {"low": 3, "high": 1}), Blend(BOUNDARIES["blend"], {"low": 1, "high": 5}))),
        checkpoint_seconds=0.0,
        guard=Guard(threshold=50.0, window=8, high=40.0),
        saving=Saving(keep_last=2),
    )


def state(run: Path) -> dict[str, Any]:
    """Everything that the newest checkpoint holds but for the time, and the metrics likewise."""
    newest = checkpoint.latest(run)
    assert newest is not None
    marker = checkpoint.read_marker(newest)
    assert marker is not None
    clocked = ("seconds", "tokens_per_second", "peak_memory", "mfu")
    lines = [{k: v for k, v in line.items() if not k.startswith(clocked)} for line in Run(run).metrics()]
    tensors = {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}
    return tensors | {"parts": marker["parts"], "metrics": lines, "at": (marker["tokens"], marker["step"])}


def killed(config: TrainConfig, run: Path, owner: Any, name: str, calls: int) -> None:
    """Train in a fork that SIGKILL ends when ``owner.name`` is called for the ``calls``-th time."""

    def work() -> None:
        kill_at(owner, name, calls)
        train(config, run)

    assert forked(work) == -signal.SIGKILL


@pytest.fixture(scope="module")
def remembered() -> dict[str, Any]:
    return {}


@pytest.fixture
def whole(staged: TrainConfig, tmp_path: Path, remembered: dict[str, Any]) -> dict[str, Any]:
    """What the run that nothing disturbs ends with."""
    if not remembered:
        train(staged, tmp_path / "whole")
        remembered.update(state(tmp_path / "whole"))
    return remembered


def test_kills_at_random_steps_and_at_every_boundary_change_no_bit(
    staged: TrainConfig, whole: dict[str, Any], tmp_path: Path
) -> None:
    ends = [line["tokens"] for line in whole["metrics"]]
    assert set(BOUNDARIES.values()) < set(ends)
    at_boundaries = [ends.index(tokens) + 1 for tokens in BOUNDARIES.values()]
    for moment in ("step", "save"):  # in the step that ends at the boundary, and after it before it is saved
        for number, kill in enumerate([*at_boundaries, random.Random(moment).randrange(1, 20)]):
            run = tmp_path / f"{moment}-{number}"
            killed(staged, run, Trainer, moment, kill)
            assert Run(run).summary is None
            train(staged, run)
            assert state(run) == whole, (moment, kill)


@pytest.mark.parametrize("moment", DURING_A_SAVE)
def test_a_kill_during_a_save_loses_that_save_and_nothing_else(
    moment: str, staged: TrainConfig, whole: dict[str, Any], tmp_path: Path
) -> None:
    owner, name = DURING_A_SAVE[moment]
    for calls in (3, 20):
        run = tmp_path / str(calls)
        killed(staged, run, owner, name, calls)
        half = list((run / "checkpoints").glob(f".*{files.TEMPORARY}"))
        train(staged, run)
        assert state(run) == whole, (moment, calls, half)
        assert not list((run / "checkpoints").glob(f".*{files.TEMPORARY}"))


def test_a_run_killed_again_and_again_gets_there(staged: TrainConfig, whole: dict[str, Any], tmp_path: Path) -> None:
    for _ in range(0, len(whole["metrics"]) - 3, 3):
        killed(staged, tmp_path / "run", Trainer, "step", 4)
    train(staged, tmp_path / "run")
    assert state(tmp_path / "run") == whole


@pytest.mark.parametrize("loss", ["file", "marker", "truncated"])
def test_whatever_a_checkpoint_lacks_it_is_said_and_the_one_before_used(
    loss: str, staged: TrainConfig, whole: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(staged, tmp_path / "run", Trainer, "step", 12)
    older, newest = checkpoint.folders(tmp_path / "run")
    if loss == "file":
        (newest / "optimizer.safetensors").unlink()
    elif loss == "marker":
        marker = newest / checkpoint.MARKER
        marker.write_text(marker.read_text().replace('"skipped": 0', '"skipped": 1'))
    else:
        os.truncate(newest / "model.safetensors", 1000)
    assert checkpoint.latest(tmp_path / "run") == older
    assert "is damaged" in capsys.readouterr().err
    train(staged, tmp_path / "run")
    assert state(tmp_path / "run") == whole


def test_a_part_that_a_checkpoint_never_held_is_named(
    tiny_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run.start(tiny_config())
    trainer = Trainer.build(tiny_config(), run)
    trainer.step()
    path = checkpoint.save(tmp_path, trainer.progress, {n: p for n, p in trainer.parts.items() if n != "guard"})
    checkpoint.load(path, trainer.parts)
    assert "knows nothing of the guard" in capsys.readouterr().err
    checkpoint.load_weights(path, trainer.model)
    assert not capsys.readouterr().err


def test_a_complete_checkpoint_is_never_replaced(tiny_config: Make, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.start(tiny_config())
    trainer = Trainer.build(tiny_config(), run)
    trainer.step()
    path = checkpoint.save(tmp_path, trainer.progress, trainer.parts)
    before = (path / checkpoint.MARKER).stat().st_ino
    assert checkpoint.save(tmp_path, trainer.progress, trainer.parts) == path
    assert (path / checkpoint.MARKER).stat().st_ino == before
    os.truncate(path / "model.safetensors", 1000)
    checkpoint.save(tmp_path, trainer.progress, trainer.parts)
    assert checkpoint.latest(tmp_path) == path


@pytest.mark.parametrize("background", ["never", "always"])
def test_a_full_disk_stops_the_run_with_the_last_checkpoint_whole(
    background: str, staged: TrainConfig, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = checkpointed_in(staged, background)
    original, left = checkpoint.save_file, iter(range(7))

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if next(left, None) is None:
            path.write_bytes(b"half")
            raise SafetensorError(
                f"I/O error: No space left on device (os error {errno.ENOSPC})"
            )  # as the library says
        original(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(DiskFullError, match="the disk is full"):
            train(config, tmp_path / "run")
    assert len(checkpoint.folders(tmp_path / "run")) == 2
    assert all(checkpoint.read_marker(path) for path in checkpoint.folders(tmp_path / "run"))
    train(config, tmp_path / "run")
    assert state(tmp_path / "run") == whole


def checkpointed_in(config: TrainConfig, background: str) -> TrainConfig:
    return replace(config, saving=replace(config.saving, background=background))


def test_checkpoints_written_in_the_background_hold_the_moment_they_were_asked_for(
    staged: TrainConfig, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = checkpointed_in(staged, "always")
    original, at_work = checkpoint.save_file, threading.Lock()

    def slow(*arguments: Any) -> None:
        assert at_work.acquire(blocking=False)  # one save at a time
        time.sleep(0.02)  # while training goes on and changes what is being saved
        original(*arguments)
        at_work.release()

    monkeypatch.setattr(checkpoint, "save_file", slow)
    killed(config, tmp_path / "run", Trainer, "step", 13)
    assert checkpoint.folders(tmp_path / "run")
    train(config, tmp_path / "run")
    assert state(tmp_path / "run") == whole


def test_checkpoints_by_tokens_stay_and_the_newest_beside_them(tiny_config: Make, tmp_path: Path) -> None:
    saving = Saving(keep_every_tokens=1000, keep_last=2)
    train(tiny_config(saving=saving, batch=BatchRamp(128, (1024,))), tmp_path / "run")
    names = [int(path.name) for path in checkpoint.folders(tmp_path / "run")]
    assert names == [1024, 2048, 3072, 4096]  # the first steps to reach 1,000, 2,000 and so on
    saving = Saving(every_tokens=1000, keep_last=2)
    train(tiny_config(saving=saving), tmp_path / "newest")
    assert [int(path.name) for path in checkpoint.folders(tmp_path / "newest")] == [3072, 4096]


def test_training_draws_no_random_numbers_of_the_process(staged: TrainConfig, tmp_path: Path) -> None:
    def states() -> tuple[object, str, bytes]:
        legacy = np.random.get_state()  # noqa: NPY002 - the one that everybody shares
        return random.getstate(), repr(legacy), torch.get_rng_state().numpy().tobytes()

    before = states()
    train(staged, tmp_path / "run")
    assert states() == before


def test_any_number_of_ranks_reads_the_same_tokens_in_the_same_order(staged: TrainConfig, tmp_path: Path) -> None:
    """Also where their number changes on the way: a batch is a function of the tokens before it alone."""
    run = Run(tmp_path)
    run.start(staged)
    trainer = Trainer.build(staged, run)
    for consumed in staged.batch.steps(2048):
        size = staged.batch.at(consumed)
        batches = []
        for count in (1, 2, 3):
            shares = []
            for rank in range(count):
                trainer.ranks = Ranks(rank, count)
                shares += [tokens.numpy() for tokens in trainer.micro_batches(consumed, size)]
            batches.append(np.concatenate(shares))
        assert batches[0].shape[0] * (batches[0].shape[1] - 1) == size
        assert all(np.array_equal(batches[0], other) for other in batches[1:])
    trainer.ahead.close()


def test_user_signal_saves_and_goes_on(tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, steps, saved = Trainer.step, [0], []

    def step(self: Trainer, *arguments: Any) -> Any:
        steps[0] += 1
        if steps[0] == 5:
            os.kill(os.getpid(), signal.SIGUSR1)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(loop.Trainer, "save", lambda self: saved.append(self.progress.step))
    summary = train(tiny_config(checkpoint_seconds=1e9), tmp_path / "run")
    assert summary["tokens"] == 4096
    assert saved == [6, summary["steps"]]  # the wish is read before a step and obeyed after it


def test_a_second_signal_ends_the_run_at_once(tiny_config: Make, tmp_path: Path) -> None:
    def work() -> None:
        original = Trainer.step

        def step(self: Trainer, *arguments: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *arguments)

        Trainer.step = step  # type: ignore[method-assign]
        loop.Trainer.save = lambda self: os.kill(os.getpid(), signal.SIGTERM)  # type: ignore[method-assign]
        train(tiny_config(), tmp_path / "run")

    assert forked(work) == -signal.SIGTERM
    shutil.rmtree(tmp_path / "run")


def test_checkpoints_in_memory_outlive_the_process_and_go_once_the_disk_has_newer_ones(
    staged: TrainConfig, whole: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "memory").mkdir()
    saving = Saving(memory=str(tmp_path / "memory"), memory_seconds=0.0, every_tokens=1024, keep_last=2)
    config = replace(staged, saving=saving, checkpoint_seconds=1e9)
    killed(config, tmp_path / "run", Trainer, "step", 18)  # 17 steps done, the last on the disk at 1,024 tokens
    [scratch] = (tmp_path / "memory").iterdir()
    kept = Run(tmp_path / "run").tokens_so_far()
    assert [int(path.name) for path in checkpoint.folders(scratch)] == [kept]
    assert kept > 1024 == int(checkpoint.folders(tmp_path / "run")[-1].name)
    train(config, tmp_path / "run")
    assert effective_time(tmp_path / "run").lost_tokens == 0
    assert state(tmp_path / "run") == whole
    assert not list((tmp_path / "memory").iterdir())
