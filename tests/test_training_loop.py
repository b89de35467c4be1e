"""A run resumes bit by bit from anywhere, branches from a trunk exactly, and says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isoflop import config as configuration
from isoflop.interrupt import Interrupted
from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.training import checkpoint, loop, objective
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def weights(run: Path) -> dict[str, bytes]:
    """The bytes of the newest checkpoint's tensors."""
    newest = checkpoint.latest(run)
    assert newest is not None
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["tokens"], line["loss"]) for line in Run(run).metrics()]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make the next run believe that it is asked to stop after this many steps."""
    left = iter([False] * (steps - 1))

    class Flag:
        def __enter__(self) -> Callable[[], bool]:
            return lambda: next(left, True)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(loop, "interruptible", Flag)


def test_training_learns_and_leaves_a_complete_run(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(schedule=Schedule(40_960, 0.02, 512, 8192))
    summary = train(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.config == config
    assert run.summary == summary
    assert summary["tokens"] == 40_960 == run.metrics()[-1]["tokens"]
    assert run.metrics()[0]["loss"] > 5.5
    assert summary["validation_loss"] < 3.0
    validations = [line for line in run.metrics() if "validation_loss" in line]
    assert len(validations) == config.validate_times - 1


@pytest.mark.parametrize("steps", [1, 5, 13, 19])
def test_interrupted_run_ends_with_the_same_bits(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    train(tiny_config(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Interrupted, match="the same command goes on"):
            train(tiny_config(), tmp_path / "parts")
    assert Run(tmp_path / "parts").summary is None
    train(tiny_config(), tmp_path / "parts")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_killed_run_goes_on_and_ends_with_the_same_bits(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(schedule=Schedule(65_536, 0.01, 256, 1024), checkpoint_seconds=0.0)
    train(config, tmp_path / "whole")
    (tmp_path / "run.toml").write_text(configuration.dumps(config))
    code = "import sys, torch; torch.set_num_threads(1); from isoflop.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "train", str(tmp_path / "killed"), "--config", str(tmp_path / "run.toml")]
    for kill_at in (20, 60):
        process = subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.DEVNULL)
        metrics = tmp_path / "killed" / "metrics.jsonl"
        while process.poll() is None and (not metrics.exists() or metrics.read_bytes().count(b"\n") < kill_at):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    train(config, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_sigterm_saves_and_leaves_with_the_status_for_again(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(schedule=Schedule(10_000_000, 0.01, 256, 1024), checkpoint_seconds=1e9)
    (tmp_path / "run.toml").write_text(configuration.dumps(config))
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "isoflop", "train", str(run), "--config", str(tmp_path / "run.toml"), "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "the same command goes on" in errors
    newest = checkpoint.latest(run)
    assert newest is not None
    assert int(newest.name) == Run(run).tokens_so_far()


def test_branch_equals_the_run_that_had_its_schedule_from_the_start(tiny_config: Make, tmp_path: Path) -> None:
    decayed = Schedule(3072, 0.01, 256, 1024)
    trunk = tiny_config(schedule=Schedule(4096, 0.01, 256), keep=(2048,))
    branch = tiny_config(schedule=decayed, branch=Branch("../trunk", 2048))
    train(trunk, tmp_path / "trunk")
    train(branch, tmp_path / "branch")
    train(tiny_config(schedule=decayed), tmp_path / "alone")
    assert weights(tmp_path / "branch") == weights(tmp_path / "alone")
    assert losses(tmp_path / "branch") == losses(tmp_path / "alone")[-len(losses(tmp_path / "branch")) :]


def test_branch_whose_past_differs_from_the_trunks_is_refused(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(schedule=Schedule(4096, 0.01, 256), keep=(2048,)), tmp_path / "trunk")
    for changes in ({"schedule": Schedule(3072, 0.02, 256, 1024)}, {"batch": BatchRamp(256)}, {"seed": 1}):
        branch = replace(
            tiny_config(schedule=Schedule(3072, 0.01, 256, 1024), branch=Branch("../trunk", 2048)), **changes
        )
        with pytest.raises(ValueError, match="cannot branch"):
            train(branch, tmp_path / f"branch-{next(iter(changes))}")


def test_accumulated_micro_batches_give_the_gradient_of_the_whole_batch(tiny_config: Make, tmp_path: Path) -> None:
    ends = []
    for micro in (32, 128, 256):
        config = tiny_config(batch=BatchRamp(256), micro_tokens=micro, schedule=Schedule(1024, 0.01))
        run = Run(tmp_path / str(micro))
        run.start(config)
        trainer = Trainer.build(config, run)
        lines = [trainer.step()[0] for _ in range(2)]
        ends.append([lines[-1]["loss"], lines[-1]["gradient_norm"]])
    assert ends[0] == pytest.approx(ends[2], rel=1e-5)
    assert ends[1] == pytest.approx(ends[2], rel=1e-5)


def test_damaged_checkpoint_is_said_and_the_one_before_it_used(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(keep=(1024,))
    train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 12)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    assert checkpoint.latest(tmp_path / "run") == checkpoint.folder(tmp_path / "run", 1024)
    assert "is damaged" in capsys.readouterr().err
    train(config, tmp_path / "run")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def test_half_written_checkpoint_is_not_a_checkpoint(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(keep=(1024,)), tmp_path / "run")
    newest = checkpoint.latest(tmp_path / "run")
    assert newest is not None
    (newest / checkpoint.MARKER).unlink()
    assert checkpoint.latest(tmp_path / "run") == checkpoint.folder(tmp_path / "run", 1024)


def test_only_the_newest_and_the_kept_checkpoints_stay(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(keep=(1024, 2048), checkpoint_seconds=0.0), tmp_path / "run")
    names = [int(path.name) for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert names == [1024, 2048, 4096]


def test_checkpoint_of_another_shape_names_the_first_tensor_that_differs(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config()
    train(config, tmp_path / "small")
    other = replace(config, shape=replace(config.shape, width=32))
    shutil.copytree(tmp_path / "small" / "checkpoints", tmp_path / "large" / "checkpoints")
    with pytest.raises(ValueError, match=r"another model: blocks\.0\.down is"):
        train(other, tmp_path / "large")


def test_directory_of_another_config_is_refused_with_the_field(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "run")
    with pytest.raises(ValueError, match=r"another config \(schedule.peak: 0.01 → 0.02\)"):
        train(tiny_config(schedule=Schedule(4096, 0.02, 256, 1024)), tmp_path / "run")


def test_vocabulary_of_other_tokens_is_refused(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(ValueError, match="--vocab-size 512"):
        train(replace(config, shape=replace(config.shape, vocab=512)), tmp_path / "run")


def test_gradient_that_overflows_never_reaches_the_weights(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    before = trainer.model.embedding.detach().clone()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(FloatingPointError, match="norm inf"):
        trainer.step()
    assert torch.equal(before, trainer.model.embedding)


def test_diverging_run_stops_with_advice(tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = float("nan")
    monkeypatch.setattr(objective, "losses", lambda hidden, *_, **__: (hidden.sum() * nan, torch.tensor(nan)))
    with pytest.raises(FloatingPointError, match=r"lower schedule\.peak"):
        train(tiny_config(), tmp_path / "run")
    assert Run(tmp_path / "run").summary is None


def test_metrics_cut_short_by_a_crash_are_read_up_to_the_last_whole_line(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "run")
    whole = losses(tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"tokens": 99, "lo')
    assert losses(tmp_path / "run") == whole
    assert Run(tmp_path / "run").tokens_so_far() == 4096


@pytest.mark.skipif(os.name != "posix", reason="needs a file-size limit")
def test_full_disk_is_said_and_leaves_the_last_checkpoint_whole(tiny_config: Make, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: both refuse the write in the system call."""
    config = tiny_config(keep=(1024,), schedule=Schedule(1024, 0.01))
    train(config, tmp_path / "run")
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from isoflop.cli import main
main(["train", sys.argv[1], "--config", sys.argv[2]])
"""
    (tmp_path / "more.toml").write_text(configuration.dumps(tiny_config()))
    target = tmp_path / "more"
    shutil.copytree(tmp_path / "run" / "checkpoints", target / "checkpoints")
    arguments = [str(target), str(tmp_path / "more.toml")]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "the disk is full" in result.stderr
    assert checkpoint.latest(target) == checkpoint.folder(target, 1024)
    assert [path.name for path in (target / "checkpoints").iterdir()] == [f"{1024:016d}"]


def test_summary_names_every_convention(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config()
    summary = train(config, tmp_path / "run")
    shape = config.shape
    assert (summary["N_matmul"], summary["N_body"], summary["N_total"]) == (shape.matmul, shape.body, shape.total)
    assert summary["flops_6ND"] == 6 * shape.matmul * 4096 == config.flops
    assert summary["flops_exact"] > summary["flops_6ND"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
