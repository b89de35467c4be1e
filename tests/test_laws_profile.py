import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t as student

from isoflop.laws import (
    BESIROGLU_2024,
    MUENNIGHOFF_2023,
    Chinchilla,
    DataConstrained,
    KaplanSurface,
    OverTraining,
    PoweredSum,
    SaturatingPowerLaw,
    fit,
    profile,
)

pytestmark = pytest.mark.filterwarnings("error")

PUBLISHED = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "scaling" / "muennighoff" / "fit_set_cells25_26.csv"
)
LAW = BESIROGLU_2024


def sweep(noise, seed=0, budgets=6, sizes=6, span=6.0, law=LAW):
    C = np.repeat(np.geomspace(1e16, 1e20, budgets), sizes)
    N = np.array([LAW.optimal(c).N for c in C]) * np.tile(np.geomspace(1 / span, span, sizes), budgets)
    loss = law.loss(N, C / 6 / N) * np.exp(noise * np.random.default_rng(seed).standard_normal(N.size))
    return {"N": N, "D": C / 6 / N, "loss": loss}


def linearised(fitted, name):
    """Half the 95% interval of a parameter from the covariance of its linearised estimate, with ψ's own variance."""
    place = fitted.bound.model.names.index(name)
    gradient = fitted.bound.model.gradient(fitted.theta[None])[0]
    delta = fitted.problem.delta
    scores = np.clip(fitted.residuals, -delta, delta)
    inside = math.erf(delta / fitted.residual_sd / math.sqrt(2))
    variance = (scores @ scores / fitted.freedom) / inside**2 * np.linalg.inv(gradient.T @ gradient)[place, place]
    unit = fitted.law.parameters()[name] if name == "E" else 1.0  # θ holds its logarithm
    return unit * math.sqrt(variance) * student.ppf(0.975, fitted.freedom)


@pytest.mark.parametrize("name", ["E", "alpha", "beta"])
@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_where_the_objective_is_quadratic_the_interval_is_students(name, noise):
    fitted = fit(sweep(noise), delta=0.1)
    found, half = profile(fitted, name), linearised(fitted, name)
    low, high = found.interval()
    assert found.best - low == pytest.approx(half, rel=0.03)
    assert high - found.best == pytest.approx(half, rel=0.03)


@pytest.mark.parametrize("name", ["E", "alpha", "beta"])
def test_under_a_small_delta_the_interval_is_as_wide_as_theory_says_on_average(name):
    ratios = []
    for seed in range(6):
        fitted = fit(sweep(0.004, seed, budgets=10, sizes=10))
        low, high = profile(fitted, name).interval()
        ratios.append((high - low) / 2 / linearised(fitted, name))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.2)


def test_intervals_hold_the_truth_at_about_their_rate():
    held = []
    for seed in range(16):
        fitted = fit(sweep(0.004, seed, budgets=5))
        for name in ("E", "alpha", "beta"):
            low, high = profile(fitted, name).interval(0.9)
            held.append(low <= LAW.parameters()[name] <= high)
    # Nominal 0.9; the parameters of one fit move together, so this is some sixteen draws.
    assert np.mean(held) >= 0.7


@pytest.fixture(scope="module")
def repeated_data():
    if not PUBLISHED.exists():
        pytest.skip("published data is not beside the repository")
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"N": "params", "D": "tokens", "U": "unique_tokens", "loss": "loss"}
    runs = {symbol: [float(row[name]) for row in rows] for symbol, name in names.items()}
    return fit(runs, replace(MUENNIGHOFF_2023, R_D=math.nan, R_N=math.nan))


def test_a_flat_direction_has_an_interval_without_an_end(repeated_data):
    found = profile(repeated_data, "R_D")
    low, high = found.interval()
    assert low == pytest.approx(5.7, rel=0.05)
    assert high == math.inf
    assert "5.7" in str(found)
    assert "inf" in str(found)
    assert found.best == pytest.approx(95.4, rel=0.01)
    # The published 15.4 and a hundred times as much are as good as each other.
    near = [np.interp(value, found.values, found.statistic) for value in (15.387756, 1500.0)]
    assert max(near) < 2


def test_the_worth_of_parameters_in_excess_has_two_ends(repeated_data):
    low, high = profile(repeated_data, "R_N").interval()
    assert 0 < low < 1.706 < high < 100


def test_a_floor_that_may_be_zero_has_no_lower_end():
    law = Chinchilla(0.0, 40.0, 0.15, 90.0, 0.14)
    found = profile(fit(sweep(0.01, law=law)), "E")
    low, high = found.interval()
    assert low == 0.0
    assert 0 < high < 4
    exact = profile(fit(sweep(0.0, law=law)), "E")
    assert exact.interval()[0] == 0.0


def test_a_floor_above_the_lowest_loss_keeps_its_upper_end():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e9, 60)
    runs = {"N": x, "D": 20 * x, "loss": (2 + 5 * (x / 1e6) ** -1.5) * np.exp(0.02 * rng.standard_normal(60))}
    fitted = fit(runs, SaturatingPowerLaw, x="N")
    assert fitted.law.floor > runs["loss"].min()
    low, high = profile(fitted, "floor").interval()
    assert low < fitted.law.floor < high < 2.2


@pytest.mark.parametrize(
    ("form", "name"),
    [(Chinchilla, "beta"), (PoweredSum, "gamma"), (OverTraining, "E"), (Chinchilla(E=1.8), "alpha")],
    ids=["Chinchilla", "PoweredSum", "OverTraining", "known floor"],
)
def test_the_lowest_point_is_the_fit_and_intervals_nest(form, name):
    fitted = fit(sweep(0.003, 2), form)
    found = profile(fitted, name)
    assert found.best == fitted.law.parameters()[name]
    assert found.statistic[np.argmin(np.abs(found.values - found.best))] == 0
    assert np.all(found.statistic >= 0)
    assert np.all(np.diff(found.values) > 0)
    ends = [found.interval(level) for level in (0.5, 0.8, 0.95, 0.999)]
    for (low, high), (lower, higher) in zip(ends[:-1], ends[1:], strict=True):
        assert lower <= low < found.best < high <= higher


def test_every_point_is_a_fit_with_the_parameter_held():
    runs = sweep(0.003, 4)
    fitted = fit(runs)
    found = profile(fitted, "alpha")
    inside = np.flatnonzero((found.statistic > 0.5) & (found.statistic < 60))[::4]
    rises = np.array([fit(runs, Chinchilla(alpha=found.values[i])).objective - fitted.objective for i in inside])
    factors = found.statistic[inside] / rises
    assert len(inside) > 3
    assert factors == pytest.approx(np.full(len(inside), factors.mean()), rel=1e-4)


def test_only_the_proportions_of_weights_matter():
    runs = sweep(0.003, 5)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 36)
    ends = [profile(fit(runs, weights=scale * weights), "beta").interval() for scale in (1.0, 7.0)]
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
    for scale in (1.0, 7.0):
        even = profile(fit(runs, weights=np.full(36, scale)), "beta").interval()
        assert even == pytest.approx(profile(fit(runs), "beta").interval(), rel=1e-4)


@pytest.mark.parametrize("name", ["E", "alpha", "beta"])
def test_noiseless_runs_leave_no_doubt(name):
    found = profile(fit(sweep(0.0)), name)
    low, high = found.interval()
    true = LAW.parameters()[name]
    assert low <= true * (1 + 1e-9)
    assert true * (1 - 1e-9) <= high
    assert high / low - 1 < 1e-3
    assert np.all(np.isfinite(found.statistic))


def test_what_cannot_be_profiled_is_said_with_what_can():
    fitted = fit(sweep(0.003))
    with pytest.raises(ValueError, match="A cannot be profiled; of this fit these can: E, alpha, beta$"):
        profile(fitted, "A")
    with pytest.raises(ValueError, match="gamma cannot be profiled; of this fit these can: E, alpha, beta$"):
        profile(fitted, "gamma")
    with pytest.raises(ValueError, match="E cannot be profiled; of this fit these can: alpha, beta$"):
        profile(fit(sweep(0.003), Chinchilla(E=1.8)), "E")
    with pytest.raises(ValueError, match="Nc cannot be profiled; of this fit these can: none$"):
        profile(fit(sweep(0.003), KaplanSurface), "Nc")
    with pytest.raises(ValueError, match="the level is 95; give a share"):
        profile(fitted, "E").interval(95)


def test_lives_are_profiled_over_all_their_range():
    runs = sweep(0.002) | {"U": sweep(0.002)["D"] / np.tile([1, 4, 16], 12)}
    held = DataConstrained(*LAW.parameters().values())
    runs["loss"] = DataConstrained(*LAW.parameters().values(), R_D=8.0, R_N=3.0).loss(runs["N"], runs["D"], runs["U"])
    runs["loss"] *= np.exp(0.002 * np.random.default_rng(1).standard_normal(36))
    found = profile(fit(runs, held), "R_D")
    low, high = found.interval()
    assert 4 < low < 8.0 < high < 16
    assert found.values[0] < 0.02
    assert found.values[-1] > 5e5
