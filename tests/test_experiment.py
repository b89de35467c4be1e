"""The whole loop on a tiny budget: the prediction comes first, the score is of it, a stop anywhere changes nothing."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop import cli
from isoflop import config as configuration
from isoflop.experiment import procedure
from isoflop.experiment.budget import sweep_budgets
from isoflop.experiment.procedure import run_experiment
from isoflop.experiment.score import score
from isoflop.experiment.settings import Experiment, Request, derive, largest, resolve
from isoflop.planning.from_sweep import answering, pool
from isoflop.processors import quota, ranks_for
from isoflop.progress import silent
from isoflop.sweeps.grid import SweepConfig
from isoflop.tokens.prepare import PrepareConfig
from isoflop.training.config import TrainConfig
from isoflop.training.speed import Speed, line

SPEED = Speed(base=5e-6, slope=5e-11, compile_seconds=15.0)


def tiny_experiment(folder: Path, corpus: Path) -> Request:
    """Write an experiment of a few seconds, as ``resolve`` would have, and return its request."""
    request = Request(corpus=str(corpus))
    experiment = Experiment(
        request=request,
        budget=4e10,
        prepare=PrepareConfig(str(corpus), vocab_size=300, validation_fraction=0.1),
        sweep=SweepConfig(
            (1e9, 2e9, 4e9), "../tokens", 300, context=32, first_batch=256, centre=0.3, validation_tokens=1024
        ),
        expected_seconds=30.0,
    )
    folder.mkdir()
    (folder / "experiment.toml").write_text(configuration.dumps(experiment))
    return request


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 6))) for _ in range(200)]
    for i in range(60):
        (folder / f"{i}.txt").write_text("\n".join(" ".join(rng.choices(words, k=10)) for _ in range(80)))
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiments") / "whole"
    request = tiny_experiment(folder, corpus)
    outcome = run_experiment(request, folder)
    assert outcome.report.exists()
    return folder


def test_prediction_is_written_before_the_first_step_of_the_flagship(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "again"
    request = tiny_experiment(folder, corpus)
    shutil.copytree(finished / "sweep", folder / "sweep")

    class SeenError(Exception):
        pass

    def train_flagship(config: TrainConfig, run: Path, report: object) -> None:
        assert (run / "plan.json").exists()
        assert not (run / "metrics.jsonl").exists()
        raise SeenError

    monkeypatch.setattr(procedure, "train_flagship", train_flagship)
    with pytest.raises(SeenError):
        run_experiment(request, folder)
    plans = [json.loads((f / "flagship" / "plan.json").read_text()) for f in (folder, finished)]
    assert plans[0]["predicted_loss"] == plans[1]["predicted_loss"]


def test_score_compares_the_plan_with_the_measurement(finished: Path) -> None:
    result = json.loads((finished / "score.json").read_text())
    plan = json.loads((finished / "flagship" / "plan.json").read_text())
    summary = json.loads((finished / "flagship" / "summary.json").read_text())
    assert result["predicted"] == plan["predicted_loss"]
    assert result["measured"] == summary["validation_loss"]
    low, high = plan["interval_95"]
    assert low < plan["predicted_loss"] < high
    assert result["inside"] == (low <= result["measured"] <= high)
    assert summary["flops_6ND"] == pytest.approx(4e10, rel=0.05)
    assert summary["flops_6ND"] >= 9.5 * 4e9


@pytest.mark.parametrize("measured", [1.9, 2.5, 3.5])
def test_verdict_says_on_which_side_a_miss_lies(tmp_path: Path, measured: float) -> None:
    plan = {"predicted_loss": 2.5, "interval_95": [2.0, 3.0], "readings": []}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "summary.json").write_text(json.dumps({"validation_loss": measured, "validation_bpb": 1.0}))
    verdict = score(tmp_path)["verdict"]
    side = "below, outside" if measured < 2 else "above, outside" if measured > 3 else ": inside"
    assert side in verdict
    assert f"{measured:.3f}" in verdict


def test_finished_experiment_runs_nothing_again(finished: Path, corpus: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.glob("*/**/*.json") if p.name in ("summary.json", "plan.json")}
    run_experiment(Request(corpus=str(corpus)), finished)
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("sweep/*/C*/summary.json", marks=pytest.mark.slow),
        pytest.param("flagship/plan.json", marks=pytest.mark.slow),
        pytest.param("flagship/metrics.jsonl", marks=pytest.mark.slow),
    ],
)
def test_killed_experiment_goes_on_and_ends_the_same(finished: Path, corpus: Path, tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "killed"
    request = tiny_experiment(folder, corpus)
    command = [sys.executable, "-m", "isoflop", "quickstart", "--corpus", str(corpus), "--out", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(folder.glob(stage)):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "score.json").exists()
    run_experiment(request, folder)
    ours, theirs = (json.loads((f / "score.json").read_text()) for f in (folder, finished))
    assert ours["predicted"] == theirs["predicted"]
    assert ours["interval_95"] == theirs["interval_95"]
    # The flagship may run with another number of threads here and there, which moves the last bits.
    assert ours["measured"] == pytest.approx(theirs["measured"], rel=1e-3)


def test_other_request_for_the_same_folder_is_refused(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"holds another experiment \(corpus:"):
        resolve(Request(corpus="elsewhere"), finished, silent)


def test_corpus_too_small_for_the_budget_says_how_much_would_fit(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    request = tiny_experiment(folder, corpus)
    experiment = configuration.load(Experiment, folder / "experiment.toml")
    larger = replace(experiment, sweep=replace(experiment.sweep, budgets=(1e13,)))
    (folder / "experiment.toml").write_text(configuration.dumps(larger))
    with pytest.raises(ValueError, match="too small for the budget.*passes over it.*Give more text"):
        run_experiment(request, folder)


def test_budgets_leave_a_factor_of_ten_to_the_flagship() -> None:
    budgets = sweep_budgets(3e14, 512, 256, 40.0, 2048)
    assert max(budgets) == pytest.approx(3e13)
    assert all(b / a == pytest.approx(2) for a, b in zip(budgets, budgets[1:], strict=False))
    with pytest.raises(ValueError, match="give at least"):
        sweep_budgets(1e12, 512, 256, 40.0, 2048)


def test_more_minutes_buy_a_larger_budget_within_the_time() -> None:
    experiments = [largest(Request(minutes=minutes), SPEED) for minutes in (12, 60, 600)]
    assert experiments[0].budget < experiments[1].budget < experiments[2].budget
    for experiment in experiments:
        assert experiment.expected_seconds <= 60 * experiment.request.minutes
    with pytest.raises(ValueError, match="minutes are too few on this machine.*give --minutes"):
        largest(Request(minutes=0.5), SPEED)


def test_contexts_that_do_not_divide_the_first_batch_get_a_larger_one() -> None:
    for budget, context in ((1e17, None), (3e13, 300), (3e15, 2048)):
        sweep = derive(Request(context=context), budget, SPEED).sweep
        assert sweep.first_batch % sweep.context == 0


def test_ranks_are_a_power_of_two_that_the_first_batch_can_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, sequences, expected in ((1, 8, 1), (2, 8, 2), (6, 8, 4), (64, 8, 8), (64, 1, 1)):
        monkeypatch.setattr("isoflop.processors.processors", lambda cores=cores: list(range(cores)))
        assert ranks_for(sequences) == expected


def test_container_quota_limits_the_processors(tmp_path: Path) -> None:
    for text, expected in (("200000 100000", 2), ("max 100000", 2**30), ("nonsense", 2**30)):
        (tmp_path / "cpu.max").write_text(text)
        assert quota(tmp_path / "cpu.max") == expected
    assert quota(tmp_path / "none") == 2**30


def test_dry_run_leaves_nothing_behind(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("isoflop.experiment.settings.measure_speed", lambda *_: SPEED)
        arguments = ["--corpus", str(corpus), "--budget", "3e13", "--out", str(tmp_path / "out"), "--dry-run"]
        assert cli.run("quickstart", arguments) == 0
    assert "flagship   3e+13 FLOPs" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_method_without_answers_is_left_out_of_the_pool() -> None:
    draws = {"surface": np.array([1.0, 2.0, 3.0]), "IsoFLOP": np.array([np.nan, np.nan, 5.0])}
    assert list(answering(draws)) == ["surface"]
    with pytest.raises(ValueError, match="widen the grid"):
        answering({"IsoFLOP": np.array([np.nan])})


def test_pool_takes_half_of_its_draws_from_each_method() -> None:
    pooled = pool({"sure": np.full(10, 2.0), "unsure": np.linspace(3.0, 4.0, 500)})
    assert np.mean(pooled == 2.0) == 0.5


def test_vocabulary_grows_with_the_budget_unless_it_is_given() -> None:
    small, large = (derive(Request(), budget, SPEED).sweep.vocab for budget in (3e13, 3e15))
    assert small < large
    assert derive(Request(vocab=700), 3e13, SPEED).sweep.vocab == 700


def test_speed_line_passes_through_its_two_measurements() -> None:
    speed = line([(1e5, 2e-5, 10.0), (6e5, 7e-5, 12.0)])
    assert speed.seconds_per_token(1e5) == pytest.approx(2e-5)
    assert speed.seconds_per_token(6e5) == pytest.approx(7e-5)
    assert speed.compile_seconds == 12.0
