"""A sweep fills its grid once, cheaply by branching, goes on after a kill, and its laws can be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.planning.schedule import agree
from isoflop.progress import silent
from isoflop.sweeps.executor import flops_done, run_sweep
from isoflop.sweeps.fit import fit_results
from isoflop.sweeps.grid import SweepConfig, cells, columns, sizes
from isoflop.sweeps.layout import laid_out, lay_out
from isoflop.sweeps.results import Results, Row, read_results
from isoflop.training.run import Run

CONFIG = SweepConfig((3e11, 6e11, 1.2e12, 2.4e12), "../tokens", 512, context=128)


@pytest.fixture(scope="module")
def tiny_sweep(tiny_tokens: Path) -> SweepConfig:
    """Three budgets of about a second each."""
    budgets, data = (1e9, 2e9, 4e9), str(tiny_tokens)
    return SweepConfig(budgets, data, 300, context=32, first_batch=256, centre=0.3, validation_tokens=512)


@pytest.fixture(scope="module")
def whole(tiny_sweep: SweepConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny sweep, trained without being disturbed."""
    sweep = tmp_path_factory.mktemp("sweeps") / "whole"
    run_sweep(tiny_sweep, sweep, silent)
    return sweep


def test_every_budget_meets_sizes_on_both_sides_of_its_centre() -> None:
    for budget in CONFIG.budgets:
        middle = (budget / 6 / CONFIG.centre) ** 0.5
        mine = [cell.shape.matmul for cell in cells(CONFIG) if cell.budget == budget]
        assert len(mine) >= 4
        assert min(mine) < middle < max(mine)


def test_sizes_are_spaced_as_asked() -> None:
    ratios = np.diff(np.log([shape.matmul for shape in sizes(CONFIG)]))
    assert ratios.max() < 2 * np.log(CONFIG.spacing)


def test_a_column_of_branches_costs_less_than_sixty_percent_of_the_plain_grid() -> None:
    many = replace(CONFIG, budgets=tuple(3e11 * 2**i for i in range(6)))
    branched, plain = (sum(c.flops for c in columns(replace(many, method=m))) for m in ("branch", "plain"))
    assert branched < 0.6 * plain


def test_every_branch_agrees_with_its_trunk_and_ends_on_its_budget() -> None:
    for column in columns(CONFIG):
        (_, trunk), *branches = column.runs
        assert len(branches) == sum(cell.shape == column.shape for cell in cells(CONFIG))
        for name, run in branches:
            assert run.branch is not None
            assert run.branch.tokens in trunk.keep
            assert agree(trunk.schedule, run.schedule, run.branch.tokens)
            assert trunk.batch == run.batch
            budget = float(name.rsplit("/C", 1)[1])
            assert 1 <= run.flops / budget < 1.02


def test_plain_cells_are_cosines_to_a_tenth() -> None:
    runs = [run for column in columns(replace(CONFIG, method="plain")) for _, run in column.runs]
    assert len(runs) == len(cells(CONFIG))
    assert {(run.schedule.kind, run.schedule.floor, run.branch) for run in runs} == {("cosine", 0.1, None)}


def test_sweep_trains_every_cell_once(tiny_sweep: SweepConfig, whole: Path) -> None:
    results = read_results(whole)
    assert len(results.rows) == len(cells(tiny_sweep))
    assert results.missing == 0
    done, total = flops_done(laid_out(whole), whole)
    assert done == pytest.approx(total)
    stamps = [(whole / row.path / "summary.json").stat().st_mtime_ns for row in results.rows]
    run_sweep(tiny_sweep, whole, silent)
    assert stamps == [(whole / row.path / "summary.json").stat().st_mtime_ns for row in results.rows]


@pytest.mark.slow
def test_killed_sweep_goes_on_to_the_same_results(tiny_sweep: SweepConfig, whole: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from isoflop import config; from isoflop.progress import silent;"
        "from isoflop.sweeps.executor import run_sweep; from isoflop.sweeps.grid import SweepConfig;"
        "run_sweep(config.load(SweepConfig, Path(sys.argv[1])), Path(sys.argv[2]), silent)"
    )
    sweep = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(whole / "sweep.toml"), str(sweep)])
    while process.poll() is None and len(list(sweep.glob("*/C*/summary.json"))) < 3:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(list(sweep.glob("*/C*/summary.json")))
    assert 3 <= finished < len(cells(tiny_sweep))
    run_sweep(tiny_sweep, sweep, silent)
    assert read_results(sweep).loss.tolist() == read_results(whole).loss.tolist()


def test_directory_of_another_sweep_is_refused(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    lay_out(replace(tiny_sweep, budgets=(4e9,)), tmp_path / "sweep")
    with pytest.raises(ValueError, match=r"holds another sweep \(budgets"):
        run_sweep(tiny_sweep, tmp_path / "sweep", silent)


def test_budget_too_small_for_any_model_is_refused(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a budget of 1e.06 FLOPs has 0 sizes"):
        lay_out(replace(tiny_sweep, budgets=(1e6, 4e9)), tmp_path / "sweep")


def test_results_are_those_of_the_directories_whatever_the_ladder_says_now(
    tiny_sweep: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tiny_sweep, tmp_path / "sweep")
    before = [column.runs for column in laid_out(tmp_path / "sweep")]
    monkeypatch.setattr("isoflop.sweeps.grid.shape_for", lambda *_, **__: pytest.fail("the grid was computed again"))
    lay_out(tiny_sweep, tmp_path / "sweep")
    assert [column.runs for column in laid_out(tmp_path / "sweep")] == before
    assert read_results(tmp_path / "sweep").missing == len([r for runs in before for r in runs if "/C" in r[0]])


def test_folder_without_a_sweep_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sweep"):
        read_results(tmp_path)


def test_workers_are_at_least_one(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one worker, not 0"):
        run_sweep(tiny_sweep, tmp_path / "sweep", silent, workers=0)


def test_failed_worker_says_why(tiny_sweep: SweepConfig, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with status 1: .*nowhere"):
        run_sweep(replace(tiny_sweep, data=str(tmp_path / "nowhere")), tmp_path / "sweep", silent)


def synthetic(noise: float = 0.003) -> Results:
    """Results that obey a known surface, on the grid of CONFIG."""
    rng = np.random.default_rng(0)
    rows = []
    for cell in cells(CONFIG):
        shape, tokens = cell.shape, int(cell.tokens)
        loss = 1.5 + 300 / shape.matmul**0.5 + 500 / tokens**0.45
        loss *= np.exp(noise * rng.standard_normal())
        row = Row(cell.name, cell.budget, shape.matmul, shape.body, shape.total, tokens, loss, loss, cell.budget, 1.0)
        rows.append(row)
    return Results(tuple(rows), 0)


def test_laws_fitted_to_a_known_surface_hold_its_optimum() -> None:
    fit = fit_results(synthetic(), replicates=200)
    low, high = np.quantile(fit.surfaces["matmul"].draw_optimum(1.2e12)[0], [0.025, 0.975])
    A, a, B, b = 300, 0.5, 500, 0.45
    truth = (a * A / (b * B)) ** (1 / (a + b)) * (1.2e12 / 6) ** (b / (a + b))
    assert low < truth < high
    assert fit.isoflop is not None
    assert fit.to_json()["isoflop"]["curves"][0]["budget"] == pytest.approx(3e11)


def test_budget_without_a_minimum_is_named() -> None:
    results = synthetic(0.0)
    rising = [replace(r, loss=r.loss if r.budget != 6e11 else 3 + r.N_matmul / 1e6) for r in results.rows]
    fit = fit_results(Results(tuple(rising), 2), replicates=50)
    assert any("C = 6e+11" in status and "left out" in status for status in fit.statuses)
    assert any("2 cells" in status for status in fit.statuses)


@pytest.mark.slow
def test_orphaned_worker_stops_with_its_parent(tiny_tokens: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the parent's death is signalled on Linux only")
    config = SweepConfig(
        (1e12,), str(tiny_tokens), 300, context=32, first_batch=256, centre=300.0, validation_tokens=512
    )
    code = (
        "import sys; from pathlib import Path; from isoflop import config; from isoflop.progress import silent;"
        "from isoflop.sweeps.executor import run_sweep; from isoflop.sweeps.grid import SweepConfig;"
        "run_sweep(config.load(SweepConfig, Path(sys.argv[1])), Path(sys.argv[2]), silent)"
    )
    sweep = tmp_path / "sweep"
    lay_out(config, sweep)
    process = subprocess.Popen([sys.executable, "-c", code, str(sweep / "sweep.toml"), str(sweep)])
    runs = [Run(sweep / name) for column in columns(config) for name, _ in column.runs]
    while process.poll() is None and not any(run.tokens_so_far() for run in runs):
        time.sleep(0.05)
    process.kill()
    process.wait()
    time.sleep(3)
    before = [run.tokens_so_far() for run in runs]
    assert any(before)
    assert all(run.summary is None for run in runs)
    time.sleep(1)
    assert before == [run.tokens_so_far() for run in runs]
