"""``isoflop runs`` tells what directories say, however half-written or foreign they are, at a glance."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop import config as configuration
from isoflop.cli import run, runs
from isoflop.planning.schedule import Schedule
from isoflop.training.config import TrainConfig
from isoflop.training.overview import find_runs, overview

Make = Callable[..., TrainConfig]
Capture = pytest.CaptureFixture[str]
HOUR_AGO = time.time() - 3600


def write_run(path: Path, config: TrainConfig, steps: int, offset: float = 0.0) -> Path:
    """A run whose loss at step s is 2 + 4/s + ``offset``, at 1000 tokens per second; last written an hour ago."""
    path.mkdir(parents=True)
    (path / "config.toml").write_text(configuration.dumps(config))
    lines = [
        {"tokens": 128 * s, "step": s, "loss": 2 + 4 / s + offset, "seconds": 0.128 * s} for s in range(1, steps + 1)
    ]
    lines[-1] |= {"seconds/compute": 3.0, "seconds/save": 1.0, "peak_memory": 2e9}
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(path / "metrics.jsonl", (HOUR_AGO, HOUR_AGO))
    return path


def test_run_at_a_glance(tiny_config: Make, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", tiny_config(), 16)
    seen = overview(path)
    assert (seen.state, seen.tokens, seen.total) == ("stopped", 2048, 4096)
    assert seen.tokens_per_second == pytest.approx(1000)
    assert seen.loss == pytest.approx(sum(2 + 4 / s for s in range(1, 17)) / 16)
    assert seen.loss_at(1024, points=1) == pytest.approx(2.5)
    assert seen.seconds_left is None
    with (path / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert overview(path).state == "running"
        assert overview(path).seconds_left == pytest.approx(2.048)
    (path / "summary.json").write_text(json.dumps({"tokens": 4096, "validation_loss": 1.5, "seconds": 9.0}))
    seen = overview(path)
    assert (seen.state, seen.validation_loss, seen.tokens) == ("finished", 1.5, 4096)


def test_fresh_metrics_are_those_of_a_run_on_another_machine(tiny_config: Make, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", tiny_config(), 4)
    os.utime(path / "metrics.jsonl")
    assert overview(path).state == "running"


@pytest.mark.parametrize(
    "ending", ['{"tokens": 99, "lo', "\x00\x00\x00\n", "[1, 2]\n", '{"tokens": NaN, "loss": 1}\n', '{"loss": 3}\n']
)
def test_damaged_lines_are_left_out(tiny_config: Make, tmp_path: Path, ending: str) -> None:
    path = write_run(tmp_path / "run", tiny_config(), 4)
    before = overview(path).curve
    with (path / "metrics.jsonl").open("a") as file:
        file.write(ending)
    os.utime(path / "metrics.jsonl", (HOUR_AGO, HOUR_AGO))
    (path / "summary.json").write_text('{"tokens"')
    assert overview(path).curve == before
    assert overview(path).state == "stopped"


def test_long_run_is_read_at_spots_that_span_it(tiny_config: Make, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", tiny_config(schedule=Schedule(128 * 40_000, 0.01)), 40_000)
    began = time.process_time()
    seen = overview(path)
    assert time.process_time() - began < 0.5
    assert seen.curve[0] == (128, 6.0)
    assert seen.tokens == 128 * 40_000
    assert len(seen.curve) < 4000
    gaps = [b[0] - a[0] for a, b in zip(seen.curve, seen.curve[1:], strict=False)]
    assert max(gaps) < 128 * 40_000 / 40


def test_only_runs_are_found_among_other_folders(tiny_config: Make, tmp_path: Path) -> None:
    first, inner = tmp_path / "a", tmp_path / "sweep" / "column" / "C1"
    write_run(first, tiny_config(), 2)
    write_run(inner, tiny_config(), 2)
    waiting = tmp_path / "b"
    waiting.mkdir()
    (waiting / "config.toml").write_text(configuration.dumps(tiny_config()))
    for name in ("foreign", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text('title = "not a run"\n')
    (first / "checkpoints" / "x").mkdir(parents=True)
    (first / "checkpoints" / "x" / "config.toml").write_text(configuration.dumps(tiny_config()))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find_runs(tmp_path) == [first, waiting, inner]
    assert overview(waiting).state == "waiting"


def test_run_of_another_version_is_listed_with_the_reason(tiny_config: Make, tmp_path: Path, capsys: Capture) -> None:
    path = write_run(tmp_path / "run", tiny_config(), 2)
    with (path / "config.toml").open("a") as file:
        file.write("\nunheard_of = 1\n")
    assert run("runs", [str(tmp_path)]) == 0
    assert "unreadable: config.toml" in capsys.readouterr().out


def test_table_has_a_line_a_run_and_json_the_same(tiny_config: Make, tmp_path: Path, capsys: Capture) -> None:
    write_run(tmp_path / "a", tiny_config(), 32)
    write_run(tmp_path / "b", tiny_config(), 8)
    assert run("runs", [str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(len(line.split("\t")) == len(runs.HEAD) for line in lines)
    assert "stopped at 100%" in lines[0]
    assert "4.1k of 4.1k" in lines[0]
    assert run("runs", [str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["tokens"] for one in told] == [4096, 1024]


def test_two_runs_are_told_apart_at_equal_tokens(tiny_config: Make, tmp_path: Path, capsys: Capture) -> None:
    a = write_run(tmp_path / "a", tiny_config(), 32)
    b = write_run(tmp_path / "b", tiny_config(seed=3, schedule=Schedule(8192, 0.02, 256)), 16, offset=0.25)
    assert run("runs", ["--diff", str(a), str(b)]) == 0
    told = {line.split("\t")[0]: line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()}
    assert told["seed"] == ["0", "3"]
    assert told["schedule.peak"] == ["0.01", "0.02"]
    assert told["schedule.decay_tokens"] == ["1024", "0"]
    assert "batch.first" not in told
    assert told["time: compute"] == ["75.0%", "75.0%"]
    assert told["peak memory, MB"] == ["2,000", "2,000"]
    ours, theirs = map(float, told["loss at 2.05k tokens"])
    assert theirs - ours == pytest.approx(0.25, abs=0.03)


def test_sparkline_falls_with_the_loss_and_holds_a_flat_one() -> None:
    assert runs.sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert runs.sparkline([3.0, 3.0], 8) == "▁▁"
    assert runs.sparkline([]) == ""
    assert len(runs.sparkline(list(range(1000)))) == runs.WIDTH


def test_folder_without_runs_is_said(tmp_path: Path, capsys: Capture) -> None:
    assert run("runs", [str(tmp_path)]) == 1
    assert "no run in or under" in capsys.readouterr().err
    assert run("runs", [str(tmp_path / "nowhere")]) == 1
    assert "there is no directory" in capsys.readouterr().err


def test_watching_ends_when_all_is_done(tiny_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path / "run", tiny_config(), 32)
    monkeypatch.setattr(
        runs.time, "sleep", lambda _: (path / "summary.json").write_text('{"tokens": 4096, "validation_loss": 1.0}')
    )
    assert run("runs", [str(tmp_path), "--watch"]) == 0


def test_listing_needs_no_torch(tiny_config: Make, tmp_path: Path) -> None:
    write_run(tmp_path / "run", tiny_config(), 4)
    code = "import sys; from isoflop.cli import run; run('runs', sys.argv[1:]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
