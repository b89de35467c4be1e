"""Published numbers of repeated data and over-training, recomputed from the published runs."""

from pathlib import Path

import numpy as np
import pytest

from isoflop.laws.forms.overtraining import GADRE_2024_REDPAJAMA
from isoflop.laws.forms.repetition import MUENNIGHOFF_2023
from isoflop.laws.reproduction import gadre, muennighoff

SHARED = Path(__file__).resolve().parents[2] / "shared"
FOLDER = SHARED / "data" / "scaling"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published runs are not here")


@pytest.mark.parametrize("paper", [gadre, muennighoff], ids=["gadre", "muennighoff"])
def test_every_published_number_is_reproduced(paper):
    checks = paper.checks(FOLDER)
    assert len(checks) >= 4
    assert [str(check) for check in checks if not check.reproduced] == []


def test_repetition_has_a_lower_optimum_than_the_published_one_on_a_flat_ridge():
    runs = muennighoff.read(FOLDER)
    published = muennighoff.objective(MUENNIGHOFF_2023, runs)
    best = muennighoff.lowest(runs)
    lowest = muennighoff.objective(best, runs)
    assert lowest == pytest.approx(0.0158047, abs=1e-7)
    assert pytest.approx(95.4, abs=0.1) == best.R_D
    assert pytest.approx(1.706, abs=0.002) == best.R_N
    ridge = {R_D: muennighoff.profile(runs, R_D) for R_D in (5, 15, 30, 100, 300)}
    heights = {R_D: muennighoff.objective(law, runs) for R_D, law in ridge.items()}
    assert pytest.approx(1.68, abs=0.005) == ridge[100].R_N
    assert heights[100] == pytest.approx(0.0158053, abs=5e-8)
    assert all(lowest <= heights[R_D] < lowest * 1.0025 for R_D in (15, 30, 100, 300))
    assert heights[5] > lowest * 1.02
    assert lowest < published


def test_the_seventeen_tasks_are_the_ones_averaged_in_the_testbed():
    rows = gadre.testbed(FOLDER)
    names = [name for name in rows[0] if name.startswith("err_") and not name.startswith("err_avg")]
    errors = np.array([[float(row[name]) for name in names] for row in rows])
    average = np.array([float(row["err_avg_subset"]) for row in rows])
    weights, _, rank, _ = np.linalg.lstsq(errors, average)
    assert rank == len(names) == 46
    assert len(gadre.TASKS) == 17
    assert weights == pytest.approx([float(name[4:] in gadre.TASKS) / 17 for name in names], abs=1e-9)


def test_five_small_runs_predict_the_far_over_trained_large_ones():
    rows = gadre.testbed(FOLDER)
    law = gadre.fit_loss(gadre.runs(rows, "rpj", gadre.LOSS_RUNS))
    assert law.b == pytest.approx(GADRE_2024_REDPAJAMA.b, rel=1e-6)
    large = [row for row in rows if row["dataset_name"] == "rpj" and float(row["N"]) > 1e9]
    assert len(large) == 3
    for row in large:
        assert law.loss(float(row["N"]), float(row["D"])) == pytest.approx(float(row["loss_c4_val"]), rel=0.0075)
