"""A run is trained by all of the machine, and the same whichever way it was started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from isoflop.planning.parallel import Parallel
from isoflop.processors import processors
from isoflop.training.config import TrainConfig
from isoflop.training.launch import cause, ranks_of, together, train_here
from isoflop.training.rank import FAILED

Make = Callable[..., TrainConfig]


def test_processes_are_as_many_as_the_last_batch_feeds(tiny_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()  # batches of four sequences, then of eight
    for count, expected in ((1, 1), (2, 2), (3, 2), (4, 4), (64, 8)):
        monkeypatch.setattr("isoflop.processors.processors", lambda count=count: list(range(count)))
        assert ranks_of(config) == expected
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert ranks_of(config) == 1


def test_layout_that_splits_the_model_has_the_processes_it_needs(
    tiny_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layout, expected in ((Parallel(tensor=4), 4), (Parallel(replicate=3, shard=2), 6), (Parallel(pipeline=2), 2)):
        monkeypatch.setattr("isoflop.training.launch.processors", lambda: [0, 1])
        assert ranks_of(tiny_config(parallel=layout)) == expected
    monkeypatch.setattr("isoflop.training.launch.processors", lambda: list(range(9)))
    assert ranks_of(tiny_config(parallel=Parallel(shard=2, tensor=2))) == 8


def test_more_processes_than_processors_are_refused(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would only wait for each other"):
        train_here(tiny_config(), tmp_path / "run", ranks=len(processors()) + 1)


def test_a_finished_run_returns_at_once_however_it_was_trained(tiny_config: Make, tmp_path: Path) -> None:
    alone = train_here(tiny_config(), tmp_path / "run", ranks=1)
    assert train_here(tiny_config(), tmp_path / "run", ranks=min(2, len(processors()))) == alone


@pytest.mark.parametrize(
    ("code", "status"), [("pass", 0), ("import os, sys; sys.exit(3 * int(os.environ['RANK']))", 3)]
)
def test_ranks_end_together_with_the_first_status_that_is_not_zero(code: str, status: int) -> None:
    assert together([sys.executable, "-c", code], [processors()[0]] * 2) == status


def test_a_rank_that_fails_takes_the_others_with_it() -> None:
    code = "import os, time; os.environ['RANK'] == '0' and time.sleep(600); raise SystemExit(4)"
    assert together([sys.executable, "-c", code], [processors()[0]] * 2) == 4


def test_the_cause_is_what_was_said_first_in_this_attempt(tmp_path: Path) -> None:
    log = tmp_path / "ranks.log"
    log.write_text(before := f"{FAILED}of another day\n")
    log.write_text(f"{before}isoflop: a warning\n{FAILED}the disk is full\n{FAILED}Connection closed by peer\n")
    assert cause([1, 1], log, len(before)) == "the disk is full"
    assert cause([1, -15], log, log.stat().st_size) == f"see {log}"
    assert cause([1, -9], log, len(before)) == "a process was ended by signal 9 (SIGKILL; out of memory?)"
    assert cause([70, -15], log, len(before)).startswith("a step did not end; what each process was doing is in")


def test_a_run_needs_a_process(tiny_config: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one process, not 0"):
        train_here(tiny_config(), tmp_path / "run", ranks=0)
