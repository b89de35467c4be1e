"""Data mixing: the law as a value, its fit, regressions on proxies, the chosen mixture, and RegMix's numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import spearmanr

from isoflop.laws.fitting.mixture import fit_mixture, regress_on_proxies, score, spearman
from isoflop.laws.fitting.optimal_mixture import optimal_mixture, repetition_caps, simulated_mixture
from isoflop.laws.forms.law import Law
from isoflop.laws.forms.mixture import ExponentialMixture
from isoflop.laws.reproduction.regmix import checks

SHARED = Path(__file__).resolve().parents[2] / "shared"
MIXING = SHARED / "data" / "mixing"
DOMAINS = ("web", "code", "books")


def random_law(seed: int, domains: int = 4, targets: int = 3) -> ExponentialMixture:
    rng = np.random.default_rng(seed)
    return ExponentialMixture(
        domains=[f"d{j}" for j in range(domains)],
        targets=[f"v{i}" for i in range(targets)],
        c=rng.uniform(1, 3, targets),
        k=rng.uniform(0.3, 2, targets),
        t=rng.uniform(-3, 1, (targets, domains)),
        s=rng.uniform(0.1, 1, targets),
    )


def mixtures(count: int, domains: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 7]).dirichlet(np.ones(domains), count)


# The law as a value


@given(st.integers(0, 1000))
def test_a_law_survives_json_and_is_equal_by_value(seed):
    law = random_law(seed)
    again = Law.from_json(json.loads(json.dumps(law.to_json())))
    assert again == law
    assert hash(again) == hash(law)
    assert again != random_law(seed + 1)


def test_the_law_is_its_formula():
    law = ExponentialMixture(DOMAINS, ["exam", "chat"], [2, 1], [0.5, 2], [[-1, 0.5, 0], [0, 0, -3]], [0.25, 0.75])
    r = [0.5, 0.3, 0.2]
    exam, chat = 2 + 0.5 * np.exp(-0.5 + 0.15), 1 + 2 * np.exp(-0.6)
    assert law.predict(r) == pytest.approx([exam, chat])
    assert law(r) == pytest.approx(0.25 * exam + 0.75 * chat)
    assert law.predict(np.full((2, 5, 3), 1 / 3)).shape == (2, 5, 2)
    assert law(np.full((2, 5, 3), 1 / 3)).shape == (2, 5)
    assert law.parameters()["t[chat,books]"] == -3
    assert not law.blanks()


def test_laws_print_compactly():
    assert (
        str(ExponentialMixture(DOMAINS, ["L"], [2], [1], [[-1, 0.5, -2]])) == "L = 2 + exp(-1·web + 0.5·code - 2·books)"
    )
    assert str(ExponentialMixture(DOMAINS, ["L"], [0], [3], [[1, 1, 1]])).startswith("L = 3·exp(")
    wide = random_law(0, domains=17, targets=1)
    assert "17 domains, t from" in str(wide)
    many = repr(random_law(0, domains=17, targets=13))
    assert many == "ExponentialMixture[L_i = c_i + k_i·exp(Σ_j t_ij·r_j), 13 targets, 17 domains]"


def test_slopes_are_the_derivatives():
    law, r, h = random_law(3), mixtures(5, 4), 1e-6
    for j, step in enumerate(h * np.eye(4)):
        assert law.slopes(r)[..., j] == pytest.approx(
            (law.predict(r + step) - law.predict(r - step)) / (2 * h), rel=1e-6
        )
        assert law.gradient(r)[..., j] == pytest.approx((law(r + step) - law(r - step)) / (2 * h), rel=1e-6)


def test_what_is_no_mixture_law_is_refused():
    good = {"domains": DOMAINS, "targets": ["L"], "c": [2.0], "k": [1.0], "t": [[1.0, 2.0, 3.0]]}
    for change, sentence in (
        ({"c": [1.0, 2.0]}, "c must be 1 finite numbers"),
        ({"t": [[1.0, 2.0]]}, "t of L must be 3 finite numbers"),
        ({"t": [1.0]}, "t of L must be 3 finite numbers"),
        ({"t": [[1.0, 2.0, 3.0]] * 2}, "t has 2 rows for 1 targets"),
        ({"k": [0.0]}, "k must be positive"),
        ({"s": [-1.0]}, "s not negative"),
        ({"c": [float("nan")]}, "finite"),
        ({"domains": ("web", "web", "books")}, "web more than once"),
        ({"targets": []}, "at least one domain and one target"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ExponentialMixture(**(good | change))
    with pytest.raises(ValueError, match=r"shape \(2,\).*web, code, books"):
        ExponentialMixture(**good).predict([0.5, 0.5])
    data = ExponentialMixture(**good).to_json()
    with pytest.raises(ValueError, match="the data has c, domains"):
        Law.from_json({name: value for name, value in data.items() if name != "t"})
    with pytest.raises(ValueError, match="c is 2"):
        Law.from_json(data | {"c": 2})
    with pytest.raises(ValueError, match="c must be 1 finite numbers"):
        Law.from_json(data | {"c": ["2"]})


# The fit


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_a_fit_of_noiseless_runs_is_exact(seed):
    law, r = random_law(seed), mixtures(60, 4, seed)
    fit = fit_mixture(r, law.predict(r), domains=law.domains, targets=law.targets, shares=law.s)
    assert fit.law.c == pytest.approx(law.c, abs=1e-5)
    assert np.array(fit.law.t) == pytest.approx(np.log(law.k)[:, None] + np.array(law.t), abs=1e-4)
    elsewhere = mixtures(50, 4, seed + 1)
    assert fit.law(elsewhere) == pytest.approx(law(elsewhere), abs=1e-5)
    assert np.abs(fit.residuals).max() < 1e-5


def test_without_a_floor_the_fit_is_log_linear():
    r = mixtures(40, 3)
    losses = np.exp(r @ [1.0, 0.2, 0.7])
    law = fit_mixture(r, losses, floor=False).law
    assert law.c == (0.0,)
    assert np.array(law.t) == pytest.approx(np.array([[1.0, 0.2, 0.7]]), abs=1e-9)
    assert law.domains == ("domain1", "domain2", "domain3")


def test_the_fit_is_robust_and_least_squares_is_not():
    law, r = random_law(1, targets=1), mixtures(80, 4)
    losses = law.predict(r) + np.random.default_rng(0).normal(0, 0.002, (80, 1))
    losses[:4] += 0.5
    elsewhere = mixtures(100, 4, seed=2)
    robust, squares = (fit_mixture(r, losses, delta=delta).law.predict(elsewhere) for delta in (0.01, 1e9))
    truth = law.predict(elsewhere)
    assert np.abs(robust - truth).mean() < 0.01
    assert np.abs(squares - truth).mean() > 3 * np.abs(robust - truth).mean()


def test_intervals_hold_the_truth_and_the_next_run():
    held, held_run, asked = 0, 0, 0
    for seed in range(12):
        law, r, elsewhere = random_law(seed, targets=2), mixtures(60, 4, seed), mixtures(20, 4, seed + 100)
        rng = np.random.default_rng(seed)
        fit = fit_mixture(r, law.predict(r) + rng.normal(0, 0.02, (60, 2)), replicates=60, seed=seed)
        told = fit.prediction(elsewhere)
        truth = law.predict(elsewhere)
        run = truth + rng.normal(0, 0.02, truth.shape)
        held += ((told.confidence[0] <= truth) & (truth <= told.confidence[1])).sum()
        held_run += ((told.interval[0] <= run) & (run <= told.interval[1])).sum()
        asked += truth.size
    assert 0.85 < held / asked < 0.99
    assert 0.85 < held_run / asked < 0.99


def test_intervals_are_seeded_and_come_per_target_and_overall():
    law, r = random_law(0), mixtures(50, 4)
    losses = law.predict(r) + np.random.default_rng(0).normal(0, 0.02, (50, 3))
    one, other, third = (fit_mixture(r, losses, replicates=20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.draws, other.draws)
    assert not np.array_equal(one.draws, third.draws)
    assert one.draws.shape == (20, 3, 5)
    assert np.shape(one.prediction(r[0]).value) == (3,)
    assert np.shape(one.prediction(r[:6]).interval[0]) == (6, 3)
    overall = one.overall(r[0])
    assert overall.value == one.law(r[0])
    assert overall.interval[0] < overall.confidence[0] < overall.value < overall.confidence[1] < overall.interval[1]
    with pytest.raises(ValueError, match="no replicates"):
        fit_mixture(r, losses).prediction(r)


def test_a_fit_says_what_it_cannot_know():
    law, r = random_law(0, domains=3), np.random.default_rng(0).dirichlet([5, 5, 0.05], 7) * [1, 1, 0.1]
    r /= r.sum(axis=1, keepdims=True)
    statuses = " ".join(fit_mixture(r, law.predict(r)).statuses)
    assert "too few runs: 7 for the 4 parameters" in statuses
    assert "no run holds 5% of domain3" in statuses
    straight = mixtures(50, 3)
    linear = straight @ [3.0, 2.0, 2.5] + 0.1 * (straight @ [1.0, -1.0, 0.3]) ** 2 - 0.6 * (straight**2).sum(axis=1)
    assert fit_mixture(straight, linear).statuses == ("the floor of target1 is zero: its runs show no floor",)


def test_runs_that_are_no_mixtures_are_refused():
    law, r = random_law(0, domains=3), mixtures(20, 3)
    y = law.predict(r)
    for weights, losses, sentence in (
        (2 * r, y, "run 0 are negative or sum to 2, not to 1"),
        (r - [1, -1, 0], y, "run 0 are negative"),
        (r, np.where(np.arange(20)[:, None] == 3, np.nan, y), "losses of run 3"),
        (r[:5], y, r"weights \(5, 3\) and losses \(20, 3\)"),
        (r[:4], y[:4], "4 runs cannot determine"),
        (np.c_[r, 0 * r[:, 0]], y, "no run holds any of domain4"),
        (np.c_[r / 2, r / 2], y, "vary in 3 directions only, so 6 domains"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fit_mixture(weights, losses)
    with pytest.raises(ValueError, match="2 domain names for 3 columns"):
        fit_mixture(r, y, domains=["a", "b"])
    with pytest.raises(ValueError, match="delta is 0"):
        fit_mixture(r, y, delta=0)


# Regression on proxies


def test_linear_regression_recovers_a_line_and_ridge_draws_it_to_the_mean():
    r = mixtures(40, 3)
    truth = np.array([[3.0, 2.0, 4.0], [1.0, 5.0, 2.0]])
    line = regress_on_proxies(r, r @ truth.T, "linear")
    assert line.coefficients == pytest.approx(truth)
    assert score(line, r, r @ truth.T).error == pytest.approx([0, 0], abs=1e-12)
    stiff = regress_on_proxies(r, r @ truth.T, "linear", ridge=1e9)
    assert stiff.predict(r) == pytest.approx(np.tile((r @ truth.T).mean(axis=0), (40, 1)), abs=1e-6)


def test_trees_rank_unseen_mixtures_and_are_the_same_twice():
    pytest.importorskip("lightgbm")
    law, r, unseen = random_law(2, targets=2), mixtures(400, 4), mixtures(100, 4, seed=1)
    one, other = (regress_on_proxies(r, law.predict(r), "trees", rounds=400) for _ in range(2))
    assert np.array_equal(one.predict(unseen), other.predict(unseen))
    assert min(score(one, unseen, law.predict(unseen)).spearman) > 0.9
    assert one.predict(unseen[0]).shape == (2,)


def test_missing_lightgbm_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ImportError, match=r"pip install 'isoflop\[mixing\]'"):
        regress_on_proxies(mixtures(30, 3), np.ones(30))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_is_scipys_ties_included(pairs):
    a, b = np.array(pairs, float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_a_score_wants_the_predictors_targets():
    r = mixtures(20, 3)
    line = regress_on_proxies(r, r @ [1.0, 2.0, 3.0], "linear")
    assert score(line, r, r @ [1.0, 2.0, 3.0]).spearman == pytest.approx([1.0])
    with pytest.raises(ValueError, match="knows 1 targets, the losses have 2"):
        score(line, r, np.ones((20, 2)))


# The chosen mixture


def objective(law, r, prior, strength):
    return law(r) + strength * (r * np.log(np.maximum(r, 1e-300) / prior)).sum(axis=-1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from([0.3, 0.5, 1.0]))
def test_no_sampled_mixture_within_the_caps_beats_the_optimum(seed, strength, cap):
    law, prior = random_law(seed, domains=5), mixtures(1, 5, seed + 5)[0]
    best = optimal_mixture(law, prior=prior, strength=strength, caps=cap)
    r = np.array(best.weights)
    assert r.sum() == pytest.approx(1)
    assert (r >= 0).all()
    assert (r <= cap + 1e-12).all()
    assert best.loss == pytest.approx(law(r))
    rng = np.random.default_rng(seed)
    near = np.clip(r + rng.normal(0, 0.02, (2000, 5)), 0, cap)
    tried = np.concatenate([mixtures(5000, 5, seed), rng.dirichlet(np.full(5, 0.2), 5000), near])
    tried /= tried.sum(axis=1, keepdims=True)
    tried = tried[(tried <= cap).all(axis=1)]
    assert len(tried) > 10
    assert objective(law, r, prior, strength) <= objective(law, tried, prior, strength).min() + 1e-7


def test_the_optimum_is_that_of_a_general_solver():
    law, prior = random_law(11, domains=6, targets=5), mixtures(1, 6, 3)[0]
    caps = np.array([0.2, 0.4, 1.0, 0.3, 0.5, 0.25])
    ours = np.array(optimal_mixture(law, prior=prior, strength=0.02, caps=caps).weights)
    solved = minimize(
        lambda r: objective(law, r, prior, 0.02),
        np.full(6, 1 / 6),
        method="SLSQP",
        bounds=[(1e-12, cap) for cap in caps],
        constraints={"type": "eq", "fun": lambda r: r.sum() - 1},
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert ours == pytest.approx(solved.x, abs=2e-3)
    assert objective(law, ours, prior, 0.02) <= solved.fun + 1e-7


def test_the_prior_wins_when_it_is_strong():
    law, prior = random_law(0), np.array([0.1, 0.2, 0.3, 0.4])
    assert optimal_mixture(law, prior=10 * prior, strength=1e4).weights == pytest.approx(prior, abs=1e-3)
    assert optimal_mixture(law, prior=prior, strength=1e4).divergence < 1e-6


def test_a_corner_is_said_and_caps_prevent_it():
    law = ExponentialMixture(DOMAINS, ["L"], [2.0], [1.0], [[-3.0, -1.0, 0.0]])
    free = optimal_mixture(law)
    assert free.weights[0] > 0.999
    assert any("corner: 100.0% web" in s and "repetition_caps" in s for s in free.statuses)
    capped = optimal_mixture(law, caps={"web": 0.6})
    assert capped.weights == pytest.approx([0.6, 0.4, 0], abs=1e-5)
    assert capped.statuses == ("at their caps: web",)
    assert not optimal_mixture(law, strength=1.0).statuses
    assert "web 60.0%, code 40.0%" in str(capped)


def test_repetition_caps_are_epochs_of_what_there_is():
    caps = repetition_caps([1e9, 5e9, 1e12], budget=1e11)
    assert caps == pytest.approx([0.04, 0.2, 1.0])
    law = ExponentialMixture(DOMAINS, ["L"], [2.0], [1.0], [[-3.0, -1.0, 0.0]])
    assert optimal_mixture(law, caps=caps).weights == pytest.approx([0.04, 0.2, 0.76], abs=1e-5)
    assert repetition_caps([1e9], 1e10, epochs=2) == pytest.approx([0.2])
    with pytest.raises(ValueError, match="available tokens must be positive"):
        repetition_caps([0, 1], 10)


def test_questions_without_an_answer_are_refused():
    law = ExponentialMixture(DOMAINS, ["L"], [2.0], [1.0], [[-3.0, -1.0, 0.0]])
    for question, sentence in (
        ({"caps": [0.2, 0.3, 0.1]}, r"caps sum to 0.6.*web 0.2, code 0.3, books 0.1"),
        ({"caps": {"wbe": 0.2}}, "caps are given for wbe; the domains are web, code, books"),
        ({"caps": [0.9, 0.9, -0.1]}, "between 0 and 1"),
        ({"prior": [0.5, 0.5, 0.0]}, "the prior must be positive"),
        ({"prior": [0.5, 0.5]}, "one share for each of 3 domains"),
        ({"strength": -1.0}, "strength is -1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            optimal_mixture(law, **question)


def test_simulation_comes_near_the_optimum_and_keeps_to_the_caps():
    law, prior = random_law(4), np.full(4, 0.25)
    options = {"shares": law.s, "strength": 0.05, "caps": 0.5, "draws": 20_000, "best": 32}
    found = simulated_mixture(law, prior, domains=law.domains, **options)
    best = optimal_mixture(law, strength=0.05, caps=0.5)
    heights = [objective(law, np.array(r), prior, 0.05) for r in (best.weights, found.weights, prior)]
    assert heights[0] < heights[1] < heights[0] + 0.1 * (heights[2] - heights[0])
    assert max(found.weights) <= 0.5
    assert found == simulated_mixture(law, prior, domains=law.domains, **options)
    assert found != simulated_mixture(law, prior, domains=law.domains, seed=1, **options)
    with pytest.raises(ValueError, match="drawn mixtures keep to the caps"):
        simulated_mixture(law, prior, caps=0.2501, draws=1000)


# The paper


@pytest.mark.skipif(not (MIXING / "regmix").exists(), reason="RegMix's runs are not here")
def test_regmix_is_reproduced():
    pytest.importorskip("lightgbm")
    found = checks(MIXING)
    assert len(found) == 11
    assert all(check.reproduced for check in found), [str(check) for check in found if not check.reproduced]
