"""Copies of the metrics hold every step once, whatever was killed and resumed, and can do a run no harm."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isoflop.cli import run as command
from isoflop.interrupt import Interrupted
from isoflop.training import loop, sinks
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.sinks import Sinks, Trackio, sink_names

Make = Callable[..., TrainConfig]


class Recorder:
    """A sink that keeps what it is told, and fails from a step on."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.fails_at, self.closed, self.calls = fails_at, False, 0

    def write(self, step: int, values: dict[str, float]) -> None:
        self.calls += 1
        if step >= self.fails_at:
            raise ConnectionError("the other side is gone")
        self.lines.append((step, values))

    def close(self) -> None:
        self.closed = True


def use(monkeypatch: pytest.MonkeyPatch, made: Callable[[Run, TrainConfig, int], Any]) -> None:
    monkeypatch.setitem(sinks.KINDS, "tensorboard", made)


def killed_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Make the next run stop after so many steps, with its last checkpoint far behind."""
    count = 0
    step = loop.Trainer.step

    def counted(self: Any, stop: bool) -> Any:
        nonlocal count
        count += 1
        if count > steps:
            raise Interrupted("killed")
        return step(self, stop)

    monkeypatch.setattr(loop.Trainer, "step", counted)


def test_sink_is_told_every_line_and_closed(tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Recorder()
    use(monkeypatch, lambda *_: sink)
    train(tiny_config(), tmp_path / "run", log_to=("tensorboard",))
    lines = Run(tmp_path / "run").metrics()
    assert [step for step, _ in sink.lines] == [line["step"] for line in lines]
    assert [values["loss"] for _, values in sink.lines] == [line["loss"] for line in lines]
    assert all("step" not in values for _, values in sink.lines)
    assert sink.closed


def test_sink_that_fails_is_said_once_and_left_out(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = Recorder(fails_at=3)
    use(monkeypatch, lambda *_: sink)
    summary = train(tiny_config(), tmp_path / "run", log_to=("tensorboard",))
    assert summary["tokens"] == 4096
    assert sink.calls == 3
    said = capsys.readouterr().err
    assert said.count("no longer go to tensorboard (ConnectionError: the other side is gone)") == 1


def test_package_that_is_missing_is_named_and_training_goes_on(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    run = Run(tmp_path / "run")
    Sinks(("trackio",), run, tiny_config(), 0).write({"step": 1, "loss": 2.0})
    assert "no longer go to trackio" in capsys.readouterr().err


def test_unknown_sink_is_refused() -> None:
    assert sink_names(["trackio,tensorboard", "trackio"]) == ("trackio", "tensorboard")
    with pytest.raises(ValueError, match="tensorboard or trackio, not to 'wandb'"):
        sink_names(["wandb"])


def events(folder: Path) -> list[tuple[int, float]]:
    """The loss as TensorBoard shows it: event files in order, a restart dropping what it says it repeats."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    seen.Reload()
    return [(point.step, point.value) for point in seen.Scalars("loss")]


@pytest.mark.parametrize("steps", [3, 9])
def test_tensorboard_shows_every_step_once_after_a_resumption(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    pytest.importorskip("tensorboard")
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        killed_after(patch, steps)
        with pytest.raises(Interrupted):
            train(tiny_config(keep=(640,)), path, log_to=("tensorboard",))
    train(tiny_config(keep=(640,)), path, log_to=("tensorboard",))
    lines = Run(path).metrics()
    shown = events(path / "tensorboard")
    assert [step for step, _ in shown] == [line["step"] for line in lines]
    assert [value for _, value in shown] == pytest.approx([line["loss"] for line in lines])


def test_trackio_is_told_every_step_once_after_a_resumption(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "store")
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        killed_after(patch, 9)
        with pytest.raises(Interrupted):
            train(tiny_config(keep=(640,)), path, log_to=("trackio",))
    train(tiny_config(keep=(640,)), path, log_to=("trackio",))
    lines = Run(path).metrics()
    logged = SQLiteStorage.get_logs(Trackio.PROJECT, str(path.resolve()))
    assert sorted(entry["step"] for entry in logged) == [line["step"] for line in lines]


@pytest.mark.slow
def test_ranks_write_to_one_sink(tiny_config: Make, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from isoflop import config as configuration

    (tmp_path / "run.toml").write_text(configuration.dumps(tiny_config()))
    arguments = [str(tmp_path / "run"), "--config", str(tmp_path / "run.toml"), "--ranks", "2"]
    assert command("train", [*arguments, "--log-to", "tensorboard"]) == 0
    shown = events(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in shown] == [line["step"] for line in Run(tmp_path / "run").metrics()]
