import csv
from pathlib import Path

import numpy as np
import pytest

from isoflop.laws import BESIROGLU_2024, SaturatingPowerLaw, analyse
from isoflop.laws.fitting.power import fit_power, fit_saturating

SHARED = Path(__file__).resolve().parents[2] / "shared"
BUDGETS = np.geomspace(1e16, 1e18, 5)


def parabolas(budgets, sizes=6, shift=0.0, span=0.6):
    """Runs on exact parabolas whose minima follow D* = 2·C^0.55 and L* = 1.5 + (1e12/C)^0.15.

    ``shift`` (per budget, in log10 D) moves the grid away from the minimum.
    """
    C = np.repeat(budgets, sizes)
    away = np.tile(np.linspace(-span, span, sizes), len(budgets)) + np.repeat(
        np.broadcast_to(shift, len(budgets)), sizes
    )
    D = 2 * C**0.55 * 10**away
    return C, C / 6 / D, D, SaturatingPowerLaw(1.5, 1e12, 0.15)(C) + 0.08 * away**2


def test_llama_3s_figure_gives_its_headline():
    path = SHARED / "data/scaling/llama3/isoflops_points.csv"
    if not path.exists():
        pytest.skip("published data is not beside the repository")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    keys = ("compute_budget", "training_tokens", "validation_loss")
    C, D, loss = (np.array([float(row[key]) for row in rows]) for key in keys)
    analysis = analyse(C, C / (6 * D), D, loss)
    assert len(analysis.curves) == 10
    assert all(curve.usable for curve in analysis.curves)
    assert analysis.tokens.exponent == pytest.approx(0.53678, abs=5e-6)
    assert analysis.tokens.coefficient == pytest.approx(0.29936, abs=5e-6)
    assert analysis.tokens(4.0e25) == pytest.approx(16.55e12, abs=5e9)
    assert analysis.params(4.0e25) == pytest.approx(402.8e9, abs=5e7)
    assert analysis.tokens(3.8e25) == pytest.approx(16.10e12, abs=5e9)
    assert analysis.params(3.8e25) == pytest.approx(393.3e9, abs=5e7)
    at = analysis.tokens_at(4.0e25)
    # The surface fitted to the same points asks for about 10T tokens: the interval must not exclude it.
    assert at.confidence[0] < 10.2e12 < 16.55e12 < at.confidence[1]
    assert any("minima scatter" in status for status in analysis.statuses)


def test_exact_parabolas_give_exact_laws():
    analysis = analyse(*parabolas(BUDGETS), replicates=50)
    assert analysis.statuses == ()
    assert analysis.tokens.exponent == pytest.approx(0.55, rel=1e-9)
    assert analysis.tokens.coefficient == pytest.approx(2, rel=1e-7)
    assert analysis.params.exponent == pytest.approx(0.45, rel=1e-9)
    assert list(analysis.loss.parameters().values()) == pytest.approx([1.5, 1e12, 0.15], rel=1e-5)
    curve = analysis.curves[2]
    assert 6 * curve.N_star * curve.D_star == pytest.approx(1e17)
    x = np.log10(curve.D)
    assert np.polynomial.polynomial.polyval(x, curve.coefficients) == pytest.approx(curve.loss)


def test_runs_within_a_percent_share_a_budget_and_order_does_not_matter():
    C, N, D, loss = parabolas(BUDGETS)
    rng = np.random.default_rng(1)
    order = rng.permutation(C.size)
    jittered = C * (1 + rng.uniform(-0.004, 0.004, C.size))
    analysis = analyse(jittered[order], N[order], D[order], loss[order], replicates=0)
    assert [curve.D.size for curve in analysis.curves] == [6] * 5
    assert analysis.tokens.exponent == pytest.approx(0.55, rel=1e-3)


def test_params_keep_the_convention_of_the_runs():
    C, N, D, loss = parabolas(BUDGETS)
    analysis = analyse(C, 0.7 * N, D, loss, replicates=0)  # such as N without embeddings
    assert analysis.params(1e19) == pytest.approx(0.7 * 1e19 / 6 / analysis.tokens(1e19))


@pytest.mark.parametrize(
    ("shift", "flip", "status"),
    [
        (-0.9, 1, "minimum beyond the smallest model"),
        (0.9, 1, "minimum beyond the largest model"),
        (0.0, -1, "no minimum"),
    ],
)
def test_a_budget_without_a_minimum_is_said_and_left_out(shift, flip, status):
    C, N, D, loss = parabolas(BUDGETS, shift=[0, 0, 0, 0, shift])
    last = C.max() == C
    loss[last] = np.where(flip > 0, loss[last], 6 - loss[last])
    analysis = analyse(C, N, D, loss, replicates=50)
    curve = analysis.curves[4]
    assert curve.status == status
    assert np.isnan([curve.D_star, curve.N_star, curve.loss_star]).all()
    assert not curve.intervals
    assert any(f"C = 1e+18 is left out of the laws: {status}" in said for said in analysis.statuses)
    assert analysis.tokens.exponent == pytest.approx(0.55, rel=1e-9)


def test_fewer_than_three_points_is_a_status():
    C, N, D, loss = parabolas(BUDGETS)
    keep = (C.max() > C) | (np.arange(C.size) >= C.size - 2)
    analysis = analyse(C[keep], N[keep], D[keep], loss[keep], replicates=0)
    assert analysis.curves[4].status == "fewer than 3 points"


def test_fewer_than_two_usable_budgets_is_an_error_that_says_why():
    runs = parabolas(BUDGETS[:2], shift=[0, 0.9])
    with pytest.raises(ValueError, match=r"not 1 .*1e.16: ok; C = .*beyond the largest model"):
        analyse(*runs)


def test_few_budgets_cannot_tell_the_floor_and_say_so():
    analysis = analyse(*parabolas(BUDGETS[:3]), replicates=50)
    lowest = min(curve.loss_star for curve in analysis.curves)
    assert analysis.loss.floor == pytest.approx(0.45 * lowest)
    assert np.ptp(analysis.loss_draws[:, 0]) > 0.6 * lowest
    assert any("floor of L*(C) is a guess: 3 budgets" in status for status in analysis.statuses)
    two = analyse(*parabolas(BUDGETS[:2]), replicates=50)
    assert any("a power law passes through any two" in status for status in two.statuses)


def test_three_runs_a_budget_measure_no_noise():
    analysis = analyse(*parabolas(BUDGETS, sizes=3), replicates=50)
    assert any("run noise is not measured" in status for status in analysis.statuses)
    assert np.isnan(analysis.run_sd)
    assert not analysis.curves[0].intervals


def test_intervals_hold_the_truth_ten_times_further():
    rng = np.random.default_rng(2)
    law, trials, sizes, target = BESIROGLU_2024, 80, 6, 1e19
    C = np.repeat(BUDGETS, sizes)
    N = np.array([law.optimal(c).N for c in C]) * np.tile(np.geomspace(0.25, 4, sizes), BUDGETS.size)
    D, best = C / 6 / N, law.optimal(target)
    held = np.zeros(4)
    for trial in range(trials):
        loss = law.loss(N, D) * np.exp(0.005 * rng.standard_normal(C.size))
        analysis = analyse(C, N, D, loss, replicates=150, seed=trial)
        tokens, params = analysis.tokens_at(target, 0.9), analysis.params_at(target, 0.9)
        at = analysis.loss_at(target, 0.9)
        new_run = best.loss * np.exp(0.005 * rng.standard_normal())
        held += [
            tokens.confidence[0] <= best.D <= tokens.confidence[1],
            params.confidence[0] <= best.N <= params.confidence[1],
            at.confidence[0] <= best.loss <= at.confidence[1],
            at.interval[0] <= new_run <= at.interval[1],
        ]
    # Nominal 0.9. Excess scatter is estimated from three degrees of freedom: it errs to the wide side.
    assert np.all(held / trials >= 0.80), held / trials


def test_draws_are_seeded_and_agree_with_the_intervals():
    C, N, D, loss = parabolas(BUDGETS)
    loss = loss * np.exp(0.002 * np.random.default_rng(3).standard_normal(C.size))
    one, same, other = (analyse(C, N, D, loss, replicates=200, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.loss_draws, same.loss_draws)
    assert not np.array_equal(one.loss_draws, other.loss_draws)
    at = one.tokens_at(1e19, level=0.8)
    assert np.mean((one.draw_tokens(1e19) >= at.confidence[0]) & (one.draw_tokens(1e19) <= at.confidence[1])) == (
        pytest.approx(0.8, abs=0.02)
    )
    assert at.interval[0] <= at.confidence[0] < at.value < at.confidence[1] <= at.interval[1]
    assert one.draw_losses(1e19, seed=4).shape == one.draw_params(1e19).shape == (200,)
    low, high = one.curves[0].intervals["D"]
    assert low < one.curves[0].D_star < high


def test_bad_input_is_named():
    C, N, D, loss = parabolas(BUDGETS)
    with pytest.raises(ValueError, match=r"row 3 is -1\.0"):
        analyse(C, N, D, np.where(np.arange(C.size) == 3, -1.0, loss))
    with pytest.raises(ValueError, match="C has 29"):
        analyse(C[1:], N, D, loss)
    with pytest.raises(ValueError, match="not a list of numbers"):
        analyse(C, N, ["many"] * C.size, loss)
    with pytest.raises(ValueError, match="replicates is -1"):
        analyse(C, N, D, loss, replicates=-1)
    with pytest.raises(ValueError, match="no replicates"):
        analyse(C, N, D, loss, replicates=0).tokens_at(1e19)
    with pytest.raises(ValueError, match="the budget C is 0"):
        analyse(C, N, D, loss, replicates=20).tokens_at(0)


def test_power_fits_leave_out_points_and_members():
    x = np.geomspace(1e15, 1e19, 6)
    y = np.stack([3 * x**0.5, 3 * x**0.5, 3 * x**0.5])
    y[1, 2] = 1.0
    use = np.ones((3, 6), bool)
    use[1, 2] = False
    use[2, 1:] = False
    laws = fit_power(x, y, use)
    assert laws[:2] == pytest.approx(np.array([[3, 0.5], [3, 0.5]]))
    assert np.isnan(laws[2]).all()


@pytest.mark.parametrize(("floor", "exponent"), [(1.7, 0.15), (0.0, 0.05), (2.5, 0.6)])
def test_saturating_fits_recover_their_law(floor, exponent):
    x = np.geomspace(1e15, 1e19, 6)
    law = SaturatingPowerLaw(floor, 1e16, exponent)
    found = fit_saturating(x, law(x)[None], np.ones((1, 6), bool))[0]
    assert law(1e21) == pytest.approx(SaturatingPowerLaw(*found)(1e21), rel=1e-6)
    assert found[0] == pytest.approx(floor, abs=1e-4)
    assert found[2] == pytest.approx(exponent, rel=1e-4)
