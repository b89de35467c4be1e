"""What is asked of a fit: every form back, flat directions, roll-forward, which run next, two methods together."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from isoflop import laws

SCALING = Path(__file__).resolve().parents[2] / "shared/data/scaling"
FORMS = [
    laws.OverTraining(1.5, 114.0, 190.0, -0.24),
    laws.PoweredSum(1.2, 3355.0, 0.41, 18186.0, 0.43, 0.45),
    laws.PoweredSum(1.7, 480.0, 0.35, 2000.0, 0.36, 1.0),
    laws.KaplanSurface(6.4e13, 0.076, 1.8e13, 0.103),
]


def sweep(law, budgets, sizes=6, span=4.0):
    C = np.repeat(budgets, sizes)
    N = np.array([law.optimal(c).N for c in C]) * np.tile(np.geomspace(1 / span, span, sizes), len(budgets))
    return {"N": N, "D": C / 6 / N, "C": C, "loss": np.asarray(law.loss(N, C / 6 / N))}


def noisy(runs, seed, sd=0.005):
    return runs | {"loss": runs["loss"] * np.exp(sd * np.random.default_rng(seed).standard_normal(len(runs["loss"])))}


def published(name):
    path = SCALING / name
    if not path.exists():
        pytest.skip("published data is not beside the repository")
    return laws.read_runs(path)


@pytest.mark.parametrize("law", FORMS, ids=repr)
def test_noiseless_runs_give_the_form_back(law):
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(2e6, 2e10, 7), np.geomspace(5e7, 5e12, 7)))
    found = laws.fit({"N": N, "D": D, "loss": law.loss(N, D)}, type(law))
    assert found.law.loss(N, D) == pytest.approx(law.loss(N, D), rel=1e-6)
    assert [*found.law.parameters().values()] == pytest.approx([*law.parameters().values()], rel=1e-4)


@pytest.mark.parametrize("law", [laws.SaturatingPowerLaw(1.7, 3e9, 0.15), laws.PowerLaw(30.0, -0.05)], ids=repr)
def test_noiseless_laws_of_one_variable_are_given_back(law):
    C = np.geomspace(1e17, 1e22, 12)
    found = laws.fit({"N": np.sqrt(C), "C": C, "loss": law(C)}, type(law), x="C")
    assert [*found.law.parameters().values()] == pytest.approx([*law.parameters().values()], rel=1e-5)


def test_what_a_law_has_already_is_held_to_the_last_digit():
    runs = noisy(sweep(laws.BESIROGLU_2024, np.geomspace(1e17, 1e19, 5)), 0)
    found = laws.fit(runs, laws.Chinchilla(E=1.7, alpha=0.3), replicates=50)
    assert (found.law.E, found.law.alpha) == (1.7, 0.3)
    assert found.parameter_intervals().keys() == {"A", "B", "beta"}
    tied = laws.fit(runs, laws.PoweredSum(gamma=1.0))
    assert tied.objective == pytest.approx(laws.fit(runs).objective, rel=1e-6)


def test_a_flat_direction_has_an_interval_without_an_end():
    held = {k: v for k, v in laws.MUENNIGHOFF_2023.parameters().items() if k not in ("R_D", "R_N")}
    found = laws.fit(published("muennighoff/fit_set_cells25_26.csv"), laws.DataConstrained(**held))
    assert found.objective == pytest.approx(0.0158047, abs=1e-7)
    low, high = laws.profile(found, "R_D").interval()
    assert 5 < low < 6.5
    assert math.isinf(high)


def test_a_profile_is_lowest_at_the_fit_and_its_intervals_nest():
    found = laws.fit(noisy(sweep(laws.BESIROGLU_2024, np.geomspace(1e17, 1e19, 5)), 1))
    profile = laws.profile(found, "beta")
    assert profile.values[np.argmin(profile.statistic)] == pytest.approx(found.law.beta)
    (low, high), (lower, higher) = profile.interval(0.5), profile.interval(0.95)
    assert lower < low < found.law.beta < high < higher


def test_runs_that_are_held_out_are_never_seen():
    runs = sweep(laws.BESIROGLU_2024, np.geomspace(1e17, 1e19, 5))
    truth = laws.validate(noisy(runs, 2), [laws.Chinchilla], replicates=20)
    other = noisy(runs, 2)
    other["loss"][-6:] *= 1.1  # the largest budget alone
    changed = laws.validate(other, [laws.Chinchilla], replicates=20)
    for before, after in zip(truth.holdouts, changed.holdouts, strict=True):
        moved = np.subtract(before.errors, after.errors)
        expected = np.log(1.1) if before.held_out > 9e18 else 0.0
        if before.form == "Chinchilla":
            assert moved == pytest.approx(np.full(len(moved), expected), abs=1e-9)


def test_the_right_form_rolls_forward_best():
    curved = laws.PoweredSum(E=0.6, A=7.4e5, alpha=0.75, B=1.9e6, beta=0.65, gamma=0.23)
    validation = laws.validate(
        noisy(sweep(curved, np.geomspace(5e11, 1.6e13, 6)), 3, 0.002), [laws.Chinchilla, laws.PoweredSum], replicates=40
    )
    errors = {score.form: score.error for score in validation.scores}
    assert errors["PoweredSum"] < errors["Chinchilla"] / 2
    assert "IsoFLOP minima" in errors


def test_the_run_that_is_ranked_first_narrows_the_decision_most():
    runs = noisy(sweep(laws.BESIROGLU_2024, np.geomspace(1e17, 1e18, 4)), 4)
    found, target = laws.fit(runs, replicates=400), 1e20
    N, D = laws.candidates_at([1e17, 1e18, 1e19], found, sizes=3, span=4.0)
    ranking = laws.rank_candidates(found, N, D, target)

    def width(fit):
        low, high = np.quantile(np.log(fit.draw_optimum(target)[0]), [0.025, 0.975])
        return high - low

    def after(candidate, repeats=3):
        """The interval's width with the candidate's measurement, averaged over its noise."""
        rng = np.random.default_rng(5)
        widths = []
        for _ in range(repeats):
            loss = laws.BESIROGLU_2024.loss(candidate.N, candidate.D) * np.exp(0.005 * rng.standard_normal())
            row = {"N": candidate.N, "D": candidate.D, "C": candidate.C, "loss": loss}
            more = {name: np.append(column, row[name]) for name, column in runs.items()}
            widths.append(width(laws.fit(more, replicates=300)))
        return np.mean(widths)

    assert after(ranking[0]) < after(ranking[-1])
    assert after(ranking[0]) < 0.95 * width(found)
    assert ranking[0].width < ranking[-1].width <= 1.0
    with pytest.raises(ValueError, match="no candidate is affordable"):
        laws.rank_candidates(found, N, D, target, most=1.0)


def test_llama_3s_two_methods_disagree_and_it_is_said():
    comparison = laws.compare(published("llama3/isoflops_points.csv"), 3.8e25, replicates=200)
    assert comparison.D.value == pytest.approx(16.10e12, rel=2e-3)
    assert comparison.ratio > 1.5
    assert "DISAGREE" in comparison.statement
    assert "One more curve at 3 to 10 times 1e+22 FLOPs" in comparison.statement


def test_methods_that_agree_say_so():
    runs = sweep(laws.BESIROGLU_2024, np.geomspace(1e18, 1e20, 5), span=1.5)
    assert "agree" in laws.compare(runs, 3e20, replicates=50).statement


def test_results_can_be_sent_to_another_process_and_print_shortly():
    runs = noisy(sweep(laws.BESIROGLU_2024, np.geomspace(1e18, 1e20, 4)), 6)
    comparison = laws.compare(runs, 3e20, replicates=30)
    again = pickle.loads(pickle.dumps(comparison))
    assert again.surface.optimal(1e21).N == comparison.surface.optimal(1e21).N
    for value in (comparison, comparison.surface, comparison.isoflop, comparison.surface.runs):
        assert len(repr(value)) < 250
