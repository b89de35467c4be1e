"""Two processes that share every batch train the run that one process would, and stop and resume together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop import config as configuration
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.progress import silent
from isoflop.training import checkpoint
from isoflop.training.config import TrainConfig
from isoflop.training.launch import train_with
from isoflop.training.loop import train
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run
from isoflop.training.supervise import supervise
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
TWO = [sorted(os.sched_getaffinity(0))[0]] * 2 if hasattr(os, "sched_getaffinity") else [0, 0]


def test_shares_cut_a_range_without_gap_or_overlap() -> None:
    for count in (1, 2, 3, 8):
        shares = [Ranks(rank, count).share(5, 24) for rank in range(count)]
        assert shares[0][0] == 5
        assert shares[-1][1] == 24
        assert all(a[1] == b[0] for a, b in zip(shares, shares[1:], strict=False))


def prepared(config: TrainConfig, path: Path) -> Path:
    Run(path).start(config)
    return path


def test_two_ranks_train_what_one_process_does(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(batch=BatchRamp(32, (1024,)))  # the first batches are a sequence: one rank has nothing to do
    torch.set_num_threads(1)
    alone = train(config, tmp_path / "one")
    train_with(TWO, prepared(config, tmp_path / "two"), silent)
    together = Run(tmp_path / "two").summary
    assert together is not None
    assert together["threads"] == 2
    assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-4)
    ours, theirs = (Run(tmp_path / name).metrics() for name in ("one", "two"))
    assert [line["tokens"] for line in ours] == [line["tokens"] for line in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)


@pytest.mark.slow
def test_killed_ranks_go_on_to_the_same_bits(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(schedule=Schedule(40_960, 0.01, 256, 1024), checkpoint_seconds=0.0)
    train_with(TWO, prepared(config, tmp_path / "whole"), silent)
    killed = prepared(config, tmp_path / "killed")
    code = "import sys; from pathlib import Path; from isoflop.progress import silent;" + (
        "from isoflop.training.launch import train_with; train_with(eval(sys.argv[2]), Path(sys.argv[1]), silent)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(killed), repr(TWO)])
    while process.poll() is None and Run(killed).tokens_so_far() < 8000:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # the ranks notice that their parent is gone
    assert Run(killed).summary is None
    train_with(TWO, killed, silent)
    ends = [checkpoint.latest(tmp_path / name) for name in ("whole", "killed")]
    for file in ("model.safetensors", "optimizer.safetensors"):
        one, two = ((end / file).read_bytes() for end in ends if end)
        assert one == two


@pytest.mark.slow
def test_a_killed_rank_takes_the_others_with_it_and_the_run_is_started_again(
    tiny_config: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(schedule=Schedule(40_960, 0.01, 256, 1024), checkpoint_seconds=0.0)
    train_with(TWO, prepared(config, tmp_path / "whole"), silent)
    run, left = prepared(config, tmp_path / "run"), [8000]

    def work() -> None:
        def kill_one(_: str, done: int, __: int) -> None:
            if left and done > left[0] and not Run(run).summary:
                listed = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
                os.kill(int(listed[1]), signal.SIGKILL)
                left.clear()

        train_with(TWO, run, kill_one if not (run / "second").exists() else silent)

    def again() -> None:
        try:
            work()
        finally:
            (run / "second").touch()

    summary = supervise(run, again)
    assert summary["effective_time"]["attempts"] == 2
    assert "ended by signal 9 (SIGKILL" in capfd.readouterr().err
    ends = [checkpoint.latest(tmp_path / name) for name in ("whole", "run")]
    one, two = ((end / "optimizer.safetensors").read_bytes() for end in ends if end)
    assert one == two


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks_on_the_same_tokens(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(keep=(2048,))
    torch.set_num_threads(1)
    train(config, tmp_path / "one")
    train_with(TWO, prepared(config, tmp_path / "two"), silent)
    for name in ("one", "two"):  # both as they stood at 2,048 tokens, and the other way round from there on
        (tmp_path / name / "summary.json").unlink()
        for path in checkpoint.folders(tmp_path / name)[1:]:
            shutil.rmtree(path)
    train(config, tmp_path / "two")
    train_with(TWO, tmp_path / "one", silent)
    ours, theirs = (Run(tmp_path / name).metrics() for name in ("one", "two"))
    for a, b in zip(ours, theirs, strict=True):
        assert (a["tokens"], a["step"], a["learning_rate"]) == (b["tokens"], b["step"], b["learning_rate"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_no_rank_looks_at_a_run_before_the_leader_holds_its_lock(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def build(*_: object, **__: object) -> None:
        seen.append("built")
        raise InterruptedError

    monkeypatch.setattr(Ranks, "wait", lambda *_: seen.append("waited"))
    monkeypatch.setattr(Trainer, "build", build)
    with pytest.raises(InterruptedError):
        train(tiny_config(), tmp_path / "run")
    assert seen == ["waited", "built"]


def test_failing_rank_says_why(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(data=str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError, match=r"run failed: .*nowhere"):
        train_with(TWO, prepared(config, tmp_path / "run"), silent)
    assert configuration.difference(Run(tmp_path / "run").config, config) is None
