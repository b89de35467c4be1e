"""The speed of this machine is measured as a sweep uses it: every worker's processor busy, all at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from isoflop.planning.ladder import smallest
from isoflop.sweeps import speed


class Measurement:
    """A process that measured 1 ns a parameter and token, and something more on every other processor."""

    alive = most = 0
    seen: list[tuple[int, float]]

    def __init__(self, arguments: list[str], processor: int) -> None:
        file, size, _, _ = arguments
        self.returncode: int | None = None
        Path(file).write_text(json.dumps([float(size), float(size) * 1e-9 + 1e-4 + 1e-6 * processor, 5.0 + processor]))
        Measurement.seen.append((processor, float(size)))
        Measurement.alive += 1
        Measurement.most = max(Measurement.most, Measurement.alive)

    def communicate(self) -> tuple[str, str]:
        Measurement.alive -= 1
        self.returncode = 0
        return "", ""


@pytest.mark.parametrize("workers", [[0], [0, 1], [0, 1, 2, 3, 4]])
def test_every_worker_measures_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: list[int]) -> None:
    Measurement.seen, Measurement.alive, Measurement.most = [], 0, 0
    monkeypatch.setattr(speed, "start_measurement", Measurement)
    found = speed.measure_speed(tmp_path / "out" / "speed.json", 512, 128, workers)
    least = smallest(512, context=128).matmul
    assert {processor for processor, _ in Measurement.seen} == set(workers)
    assert {size for _, size in Measurement.seen} == {3 * least, 15 * least}
    assert Measurement.most == len(workers), "all at the same time, and one after the other on one processor"
    small, large = ([p for p, size in Measurement.seen if size == part * least] for part in (3, 15))
    for size, processors in ((3 * least, small), (15 * least, large)):
        expected = size * 1e-9 + 1e-4 + 1e-6 * sum(processors) / len(processors)
        assert found.seconds_per_token(size) == pytest.approx(expected)
    assert found.compile_seconds == 5.0 + max(workers)
    assert json.loads((tmp_path / "out" / "speed.json").read_text()) == vars(found)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["speed.json"]


def test_a_measurement_that_fails_is_said_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str], processor: int) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", "exit('no room')"], stderr=subprocess.PIPE, text=True)

    monkeypatch.setattr(speed, "start_measurement", fail)
    with pytest.raises(RuntimeError, match="measuring this machine's speed failed: no room"):
        speed.measure_speed(tmp_path / "speed.json", 512, 128, [0, 1])
    assert not list(tmp_path.iterdir())
