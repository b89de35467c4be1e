"""Progress says how far and how long, as plain lines where there is no terminal."""

from __future__ import annotations

import pytest

from isoflop import progress
from isoflop.progress import Lines, spoken


@pytest.mark.parametrize(
    ("seconds", "words"), [(45.4, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-1, "0 s"), (89.6, "1 min 30 s")]
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_lines_come_every_ten_seconds_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = Lines()
    for second in range(31):
        clock[0] = float(second)
        report("sweep", second, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sweep: 10%, 1 min 30 s left", "sweep: 20%, 80 s left", "sweep: 30%, 70 s left"]


def test_no_estimate_is_made_from_the_first_percent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    report = Lines()
    report("sweep", 0, 1000)
    clock[0] = 20.0
    report("sweep", 5, 1000)
    assert capsys.readouterr().err == "sweep: 0%\n"
