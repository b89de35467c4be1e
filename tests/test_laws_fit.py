import csv
from pathlib import Path

import numpy as np
import pytest

from isoflop.laws import BESIROGLU_2024, HOFFMANN_2022, Chinchilla, fit
from isoflop.laws.fitting.terms import huber

SHARED = Path(__file__).resolve().parents[2] / "shared"
SURFACES = [
    BESIROGLU_2024,
    HOFFMANN_2022,
    Chinchilla(0.6, 55.0, 0.30, 145.0, 0.31),
    Chinchilla(3.0, 12.0, 0.18, 2e4, 0.55),
    Chinchilla(0.05, 8.0, 0.12, 9.0, 0.10),
    Chinchilla(1.2, 5e5, 0.9, 3e3, 0.4),
]


def fit_surface(N, D, loss, **options):
    return fit({"N": N, "D": D, "loss": loss}, **options)


def grid(law, budgets, sizes=6, span=4.0):
    """Runs at each budget about the law's own optimum, as a sweep would plan them."""
    C = np.repeat(budgets, sizes)
    N = np.array([law.optimal(c).N for c in C]) * np.tile(np.geomspace(1 / span, span, sizes), len(budgets))
    return N, C / 6 / N


@pytest.fixture(scope="module")
def chinchilla_runs():
    path = SHARED / "data/scaling/epoch/svg_extracted_data.csv"
    if not path.exists():
        pytest.skip("published data is not beside the repository")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    N, C, loss = (np.array([float(row[key]) for row in rows]) for key in ("Model Size", "Training FLOP", "loss"))
    return N, C / (6 * N), loss


def test_chinchillas_runs_give_the_optimum_below_the_published_point(chinchilla_runs):
    keep = np.argsort(chinchilla_runs[2])[:-5]
    N, D, loss = (column[keep] for column in chinchilla_runs)
    fit = fit_surface(N, D, loss)

    def height(law):
        return float(huber(np.log(law.loss(N, D)) - np.log(loss), 1e-3).sum())

    # The published point's objective, as far as its printed digits determine it.
    assert height(BESIROGLU_2024) == pytest.approx(0.001018645, abs=2e-7)
    assert fit.objective < height(BESIROGLU_2024) - 3e-7
    assert fit.objective == pytest.approx(height(fit.law), rel=1e-9)
    assert fit.objective == pytest.approx(0.001018274, abs=1e-9)
    assert fit.objective <= height(Chinchilla(1.817221, 477.850, 0.347314, 2143.346, 0.367171))
    assert pytest.approx(1.817221, abs=1e-5) == fit.law.E
    assert pytest.approx(477.850, rel=1e-4) == fit.law.A
    assert pytest.approx(2143.346, rel=1e-4) == fit.law.B
    assert fit.law.alpha == pytest.approx(0.347314, abs=1e-5)
    assert fit.law.beta == pytest.approx(0.367171, abs=1e-5)


def test_chinchillas_standard_errors(chinchilla_runs):
    keep = np.argsort(chinchilla_runs[2])[:-5]
    fit = fit_surface(*(column[keep] for column in chinchilla_runs), replicates=400, seed=42)
    # Published bootstrap errors of E, alpha, beta; 400 replicates know a standard error to about 4 %.
    assert fit.draws[:, [0, 2, 4]].std(axis=0) == pytest.approx([0.02566, 0.01540, 0.02060], rel=0.15)
    low, high = fit.parameter_intervals()["beta"]
    assert low < 0.36585 < high


def test_outliers_that_move_the_answer_are_said(chinchilla_runs):
    fit = fit_surface(*chinchilla_runs)
    assert fit.law.beta == pytest.approx(0.453, abs=1e-3)
    assert pytest.approx(1.891, abs=1e-3) == fit.law.E
    (status,) = [s for s in fit.statuses if s.startswith("outliers")]
    assert "moves E from 1.891" in status
    assert "beta from 0.453" in status


@pytest.mark.parametrize("law", SURFACES, ids=str)
def test_noiseless_surfaces_are_recovered(law):
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(2e6, 2e10, 7), np.geomspace(5e7, 5e12, 7)))
    fit = fit_surface(N, D, law.loss(N, D))
    found, true = np.array([*fit.law.parameters().values()]), np.array([*law.parameters().values()])
    assert found == pytest.approx(true, rel=1e-6)
    assert fit.statuses == ()


def test_units_and_order_of_runs_do_not_matter():
    rng = np.random.default_rng(3)
    N, D = grid(BESIROGLU_2024, np.geomspace(1e16, 1e18, 5))
    loss = BESIROGLU_2024.loss(N, D) * np.exp(0.005 * rng.standard_normal(N.size))
    order = rng.permutation(N.size)
    one = fit_surface(N, D, loss).law
    other = fit_surface(N[order] / 1e6, D[order] / 1e9, loss[order]).law
    assert other.alpha == pytest.approx(one.alpha, rel=1e-6)
    assert other.beta == pytest.approx(one.beta, rel=1e-6)
    assert other.A * 1e6**one.alpha == pytest.approx(one.A, rel=1e-4)
    assert other.loss(1e3, 1e2) == pytest.approx(one.loss(1e9, 1e11), rel=1e-8)


def test_weights_count_runs():
    rng = np.random.default_rng(4)
    N, D = grid(BESIROGLU_2024, np.geomspace(1e16, 1e18, 5))
    loss = BESIROGLU_2024.loss(N, D) * np.exp(0.005 * rng.standard_normal(N.size))
    counts = rng.integers(0, 4, N.size)
    counts[0] = 1
    weighted = fit_surface(N, D, loss, weights=counts)
    # Repeated rows are refused as the same run, so that the copies differ by less than anyone could measure.
    copies = [np.repeat(column, counts) for column in (N, D, loss)]
    copies[2] *= 1 + 1e-13 * np.arange(counts.sum())
    repeated = fit_surface(*copies)
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-6)
    assert weighted.law.alpha == pytest.approx(repeated.law.alpha, rel=1e-4)


@pytest.mark.parametrize(("budgets", "sizes"), [(5, 6), (4, 5)])
def test_intervals_hold_the_truth_ten_times_further(budgets, sizes):
    rng = np.random.default_rng(5)
    law, trials = BESIROGLU_2024, 50
    N, D = grid(law, np.geomspace(1e16, 1e18, budgets), sizes)
    target = law.optimal(1e19)
    held = np.zeros(3)
    for trial in range(trials):
        loss = law.loss(N, D) * np.exp(0.0075 * rng.standard_normal(N.size))
        fit = fit_surface(N, D, loss, replicates=80, seed=trial)
        new_run = target.loss * np.exp(0.0075 * rng.standard_normal())
        at = fit.predict(target.N, target.D, level=0.9)
        size = fit.optimal(1e19, level=0.9).N
        held += [
            at.confidence[0] <= target.loss <= at.confidence[1],
            at.interval[0] <= new_run <= at.interval[1],
            size.confidence[0] <= target.N <= size.confidence[1],
        ]
    # Nominal 0.9: fifty draws of it stay within these bounds but for once in hundreds.
    assert np.all(held / trials >= 0.80), held / trials
    assert np.all(held / trials < 1), held / trials


def test_robust_noise_estimate_is_corrected_for_the_parameters():
    rng = np.random.default_rng(6)
    N, D = grid(BESIROGLU_2024, np.geomspace(1e16, 1e18, 5))
    estimates = [
        fit_surface(N, D, BESIROGLU_2024.loss(N, D) * np.exp(0.01 * rng.standard_normal(N.size))).residual_sd
        for _ in range(25)
    ]
    assert np.mean(estimates) == pytest.approx(0.01, rel=0.12)


def test_replicates_are_seeded_and_predictions_take_arrays():
    rng = np.random.default_rng(7)
    N, D = grid(HOFFMANN_2022, np.geomspace(1e16, 1e18, 4))
    loss = HOFFMANN_2022.loss(N, D) * np.exp(0.005 * rng.standard_normal(N.size))
    one, same, other = (fit_surface(N, D, loss, replicates=50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.draws, same.draws)
    assert not np.array_equal(one.draws, other.draws)
    at = one.predict(N[:3], D[:3])
    assert at.value.shape == at.confidence[0].shape == at.interval[1].shape == (3,)
    assert np.all(at.interval[0] <= at.confidence[0])
    assert np.all(at.confidence[1] <= at.interval[1])
    assert at.interval[1][1] == pytest.approx(one.predict(N[1], D[1]).interval[1], rel=1e-12)
    draws = one.draw_losses(N[0], D[0], seed=3)
    assert draws.shape == (50,)
    assert np.array_equal(draws, one.draw_losses(N[0], D[0], seed=3))


def test_flat_directions_are_said():
    rng = np.random.default_rng(8)
    law = BESIROGLU_2024
    N, D = grid(law, np.geomspace(1e16, 3e16, 3), sizes=4, span=1.5)
    loss = law.loss(N, D) * np.exp(0.01 * rng.standard_normal(N.size))
    assert any("not identified" in status for status in fit_surface(N, D, loss).statuses)
    two_sizes = np.where(np.median(N) < N, 2e7, 1e7)
    statuses = fit_surface(two_sizes, D, law.loss(two_sizes, D)).statuses
    assert any("only 2 distinct model sizes" in status for status in statuses)


def test_too_few_points():
    N, D = grid(BESIROGLU_2024, np.array([1e16, 1e17]), sizes=4)
    loss = BESIROGLU_2024.loss(N, D)
    assert any("too few points: 8 runs" in status for status in fit_surface(N, D, loss).statuses)
    with pytest.raises(ValueError, match="5 runs cannot determine 5 parameters"):
        fit_surface(N[:5], D[:5], loss[:5])


def test_bad_input_is_named():
    N, D = grid(BESIROGLU_2024, np.geomspace(1e16, 1e18, 3))
    loss = BESIROGLU_2024.loss(N, D)
    with pytest.raises(ValueError, match="N has 18, D has 17, loss has 18"):
        fit_surface(N, D[1:], loss)
    loss[4] = np.nan
    D[2] = 0.0
    with pytest.raises(ValueError, match=r"D must be positive and finite, but row 2 has 0\.0"):
        fit_surface(N, D, loss)
    D[2] = 1e9
    with pytest.raises(ValueError, match="loss must be positive and finite, but row 4 has nan"):
        fit_surface(N, D, loss)
    loss[4] = 3.0
    with pytest.raises(ValueError, match="weights must be 18"):
        fit_surface(N, D, loss, weights=[1, 2])
    with pytest.raises(ValueError, match="delta is 0"):
        fit_surface(N, D, loss, delta=0)
    with pytest.raises(ValueError, match="replicates is 3"):
        fit_surface(N, D, loss, replicates=3)
    with pytest.raises(ValueError, match="no replicates"):
        fit_surface(N, D, loss).predict(1e9, 1e10)
    with pytest.raises(ValueError, match="the level is 95"):
        fit_surface(N, D, loss, replicates=20).predict(1e9, 1e10, level=95)
