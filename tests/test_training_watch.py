"""A run says how fast it is and where its time goes, next to nothing is spent on that, and no bit depends on it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop.planning.schedule import Schedule
from isoflop.training import clock as clock_module
from isoflop.training import watch as watch_module
from isoflop.training.checkpoint import Progress
from isoflop.training.clock import Clock
from isoflop.training.config import TrainConfig
from isoflop.training.garbage import collect, held_garbage
from isoflop.training.loop import train
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer
from isoflop.training.watch import Watch

Make = Callable[..., TrainConfig]
CPU = torch.device("cpu")


@pytest.fixture
def every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SECONDS", 0.0)


class Stream:
    """Marks of a device that lags: each is passed once ``now`` has come to it."""

    def __init__(self) -> None:
        self.queued = self.now = 0.0

    def mark(self) -> float:
        return self.queued

    def passed(self, mark: float) -> bool:
        return mark <= self.now

    def between(self, first: float, second: float) -> float:
        assert max(first, second) <= self.now
        return second - first


def test_activities_never_overlap_and_add_up_to_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Stream()
    hand.now = float("inf")
    monkeypatch.setattr(clock_module, "HostMarks", lambda: hand)
    clock = Clock(CPU)
    hand.queued += 1
    with clock("compute"):
        hand.queued += 2
        with clock("data"):
            hand.queued += 4
        hand.queued += 8
    assert clock.read() == {"other": 1.0, "compute": 10.0, "data": 4.0}
    hand.queued += 16
    assert clock.read() == {"other": 16.0}


def test_clock_of_this_processor_is_its_own() -> None:
    began = time.perf_counter()
    clock = Clock(CPU)
    with clock("data"):
        time.sleep(0.02)
    seconds = clock.read()
    assert 0.02 <= seconds["data"] <= sum(seconds.values()) <= time.perf_counter() - began


def test_activity_that_fails_gives_the_clock_back() -> None:
    clock = Clock(CPU)
    with pytest.raises(OSError, match="gone"), clock("compute"), clock("data"):
        raise OSError("gone")
    clock.read()
    time.sleep(0.01)
    assert set(clock.read()) == {"other"}


def test_reading_waits_for_no_device_and_loses_none_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr(clock_module, "HostMarks", lambda: stream)
    clock = Clock(CPU)
    with clock("compute"):
        stream.queued += 5
    with clock("optimise"):
        stream.queued += 3
    stream.now = 6.0
    assert clock.read() == {"other": 0.0, "compute": 5.0}
    stream.now = 8.0
    assert clock.read() == {"optimise": 3.0, "other": 0.0}


@pytest.mark.usefixtures("every_line")
def test_lines_hold_speed_memory_and_the_time_of_every_activity(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(checkpoint_seconds=0.0, schedule=Schedule(1024, 0.01)), tmp_path / "run")
    lines = Run(tmp_path / "run").metrics()
    for line in lines:
        assert line["peak_memory"] > 1e8
        assert {"seconds/data", "seconds/compute", "seconds/optimise"} <= line.keys()
    assert all("seconds/save" in line for line in lines[1:])
    validated = [i for i, line in enumerate(lines) if "validation_loss" in line]
    assert validated
    assert all(lines[i]["seconds/validate"] > 0 for i in validated)
    for before, line in zip(lines, lines[1:], strict=False):
        steps = sum(line[f"seconds/{a}"] for a in ("data", "compute", "communicate", "optimise"))
        assert steps <= (line["seconds"] - before["seconds"]) * 1.05 + 1e-3
        rate = (line["tokens"] - before["tokens"]) / (line["seconds"] - before["seconds"])
        assert line["tokens_per_second"] == pytest.approx(rate, rel=0.1)


def test_short_steps_are_watched_once_a_second(tiny_config: Make, tmp_path: Path) -> None:
    train(tiny_config(), tmp_path / "run")
    lines = Run(tmp_path / "run").metrics()
    assert sum("peak_memory" in line for line in lines) <= lines[-1]["seconds"] + 2


def test_mfu_is_exact_flops_over_the_peak_of_all_workers(tiny_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "SECONDS", 0.0)
    monkeypatch.setattr(watch_module, "peak", lambda *_: 1e8)
    config = tiny_config()
    watch = Watch(config, CPU, torch.float32, workers=2)
    watch.begin(Progress(1024, 4, 10.0))
    found = watch.figures(Progress(3072, 6, 12.0))
    assert found["mfu"] == pytest.approx(config.shape.flops_per_token * 2048 / 2.0 / 2e8, abs=1e-4)
    assert found["tokens_per_second"] == 1024


def test_run_taken_back_to_a_checkpoint_begins_its_figures_anew(
    tiny_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "SECONDS", 0.0)
    watch = Watch(tiny_config(), CPU, torch.float32, 1)
    watch.begin(Progress(2048, 8, 20.0))
    assert watch.figures(Progress(1024, 4, 10.0)) == {}
    assert watch.figures(Progress(1280, 5, 11.0))["tokens_per_second"] == 256


def test_device_that_nobody_knows_has_no_mfu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "machine", lambda: None)
    assert watch_module.peak(CPU, "fp32") is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    assert watch_module.peak(torch.device("cuda", 0), "bf16") == pytest.approx(989.4e12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Abacus 9000")
    assert watch_module.peak(torch.device("cuda", 0), "bf16") is None


def test_watching_costs_less_than_half_a_percent_of_short_steps(tiny_config: Make) -> None:
    """A second of steps of 10 ms, the shortest that a sweep trains: their marks, and the figures at its end."""
    watch, costs = Watch(tiny_config(), CPU, torch.float32, 1), []
    for _ in range(5):
        watch.begin(Progress(0, 0, 0.0))
        began = time.perf_counter()
        for step in range(1, 101):
            for _ in range(4):
                with watch.clock("compute"):
                    pass
            if step == 100:
                watch._told = 0.0
            assert bool(watch.figures(Progress(step, step, step / 100))) == (step == 100)
        costs.append(time.perf_counter() - began)
    assert min(costs) < 0.005


def test_collector_is_held_while_steps_run_and_free_again_after(
    tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, stop: seen.append(gc.isenabled()) or step(self, stop))
    train(tiny_config(schedule=Schedule(1024, 0.01)), tmp_path / "run")
    assert set(seen) == {False}
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_garbage_made_meanwhile_goes_where_the_loop_pauses() -> None:
    with held_garbage():
        cycle: list[object] = [torch.zeros(4)]
        cycle.append(cycle)
        name = id(cycle)
        del cycle
        assert any(id(found) == name for found in gc.get_objects())
        collect()
        assert not any(id(found) == name for found in gc.get_objects())
