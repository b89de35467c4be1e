import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.laws import BESIROGLU_2024, Chinchilla, Law, PowerLaw, SaturatingPowerLaw
from isoflop.laws.fitting.downstream import TwoStepFit, fit_log_linear, fit_two_step
from isoflop.laws.fitting.fit import fit
from isoflop.laws.fitting.score import fit_score
from isoflop.laws.forms.downstream import (
    OLMO_LADDER_MMLU,
    ExponentialError,
    LogLinear,
    LogSigmoid,
    ScoreLaw,
    Sigmoid,
    TwoStep,
)
from isoflop.laws.reproduction import olmo

SCALING = Path(__file__).resolve().parents[2] / "shared/data/scaling"
SCORES = [
    Sigmoid(-0.65, 6.0, 0.8, 0.92),
    Sigmoid(-0.5, 14.0, 1.1, 1.0),
    Sigmoid(-0.75, 3.0, 0.5, 0.98),
    LogSigmoid(-0.1, 9.0, 0.9),
    LogSigmoid(-0.02, 60.0, 1.0),
    LogSigmoid(-0.4, 3.0, 1.3),
    ExponentialError(0.85, 1.5, 1.5),
    ExponentialError(0.6, 0.5, 0.5),
    ExponentialError(0.97, 6.0, 4.0),
]
LOSSES = np.linspace(0.6, 1.6, 40)


@pytest.mark.parametrize("law", SCORES, ids=str)
def test_slopes_are_the_derivatives_of_the_score(law):
    h = 1e-6
    assert law.slope(LOSSES) == pytest.approx((law(LOSSES + h) - law(LOSSES - h)) / (2 * h), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("law", SCORES, ids=str)
def test_inverses_undo_the_score_and_are_not_a_number_where_no_loss_will_do(law):
    known = LOSSES[LOSSES > 0.8]  # nearer to a perfect score its last digits no longer tell the loss
    assert law.inverse(law(known)) == pytest.approx(known, rel=1e-6)
    assert np.isnan(law.inverse(1.0 if isinstance(law, ExponentialError) else [1.0, 1.1])).all()


def test_a_sigmoid_is_the_formula_it_prints_and_survives_the_far_ends():
    law = Sigmoid(-0.65, 6.0, 0.8, 0.92)
    assert str(law) == "score = -0.65 / (1 + exp(-6·(L - 0.8))) + 0.92"
    assert law(1.1) == pytest.approx(-0.65 / (1 + np.exp(-6 * (1.1 - 0.8))) + 0.92)
    assert law([-1e6, 1e6]) == pytest.approx([0.92, 0.27])
    assert np.isnan(law.inverse([0.27, 0.92])).all()
    bent = LogSigmoid(-0.1, 9.0, 0.9)
    assert bent(1.1) == pytest.approx(1 - -0.1 * np.log(1 - 1 / (1 + np.exp(-9 * (1.1 - 0.9)))))
    assert bent(1e6) == pytest.approx(1 - 0.1 * 9 * (1e6 - 0.9))


def test_a_line_in_log_compute():
    law, h = LogLinear(2.6, -0.09), 1e-5
    assert law(1e20) == pytest.approx(2.6 - 0.09 * 20)
    assert law.slope(1e20) == pytest.approx((law(1e20 * (1 + h)) - law(1e20 * (1 - h))) / (2e20 * h), rel=1e-6)
    assert law.inverse(law([1e18, 1e25])) == pytest.approx([1e18, 1e25], rel=1e-9)


CHAINS = [
    TwoStep(BESIROGLU_2024, Sigmoid(-0.7, 2.0, 2.2, 0.95)),
    TwoStep(SaturatingPowerLaw(0.5, 1e18, 0.15), LogSigmoid(-0.1, 9.0, 0.9)),
    TwoStep(PowerLaw(60.0, -0.09), ExponentialError(0.85, 2.0, 1.5)),
    TwoStep(LogLinear(2.6, -0.09), SCORES[0]),
    OLMO_LADDER_MMLU,
]


@pytest.mark.parametrize("law", CHAINS, ids=str)
def test_the_compute_for_a_score_gives_that_score(law):
    for C in (1e20, 3e23):
        score = law.predict(C)
        assert law.compute_for(score) == pytest.approx(C, rel=1e-5)
        assert score == pytest.approx(float(law.second(law.loss(C))))


@pytest.mark.parametrize("law", [*SCORES, LogLinear(2.6, -0.09), *CHAINS], ids=str)
def test_json_round_trips(law):
    data = json.loads(json.dumps(law.to_json()))
    assert Law.from_json(data) == law
    assert type(law).from_json(data) == law


def test_a_surface_in_the_chain_takes_its_own_optimum():
    law = CHAINS[0]
    best = BESIROGLU_2024.optimal(1e22)
    assert law.predict(1e22) == pytest.approx(law.predict(best.N, best.D))
    assert law.predict(best.N * 2, best.D / 2) < law.predict(1e22)


def test_a_chain_names_the_parameters_of_both_laws():
    form = TwoStep(Chinchilla(E=1.7), Sigmoid(b=1.0))
    assert form.blanks()[:2] == ("first.A", "first.alpha")
    assert "second.b" not in form.blanks()
    assert str(form) == "score = a / (1 + exp(-k·(L - L0))) + 1 with L = 1.7 + A/N^α + B/D^β"
    with pytest.raises(ValueError, match="no value for A, alpha, B, beta"):
        form.to_json()


def test_questions_that_a_chain_cannot_answer():
    surface, curve = CHAINS[0], CHAINS[1]
    with pytest.raises(ValueError, match="no loss gives a score of 0.96"):
        surface.compute_for(0.96)
    with pytest.raises(ValueError, match="no budget reaches a loss of 0.9175"):
        surface.compute_for(0.9)
    with pytest.raises(ValueError, match="no budget reaches a score of 0.999"):
        curve.compute_for(0.999)
    with pytest.raises(ValueError, match="not 2 numbers"):
        curve.predict(1e9, 1e11)
    with pytest.raises(ValueError, match="must give a loss"):
        TwoStep(SCORES[0], SCORES[0])
    with pytest.raises(ValueError, match="must give a score"):
        TwoStep(BESIROGLU_2024, PowerLaw(1.0, 1.0))
    with pytest.raises(ValueError, match="two laws, first and second; the data has first"):
        Law.from_json({"kind": "two-step", "first": BESIROGLU_2024.to_json()})
    with pytest.raises(ValueError, match="'power-law' cannot be read"):
        Law.from_json({"kind": "two-step", "first": BESIROGLU_2024.to_json(), "second": PowerLaw(1, 1).to_json()})


@pytest.mark.parametrize("truth", SCORES, ids=str)
@pytest.mark.parametrize("count", [8, 60])
def test_noiseless_points_give_the_law_back(truth, count):
    losses = np.linspace(0.55, 1.7, count)
    assert (truth(losses) >= 0).all()
    fit = fit_score(losses, truth(losses), type(truth))
    assert list(fit.law.parameters().values()) == pytest.approx(list(truth.parameters().values()), rel=2e-4)
    assert fit.residual_sd < 1e-6


@settings(deadline=None)
@given(
    a=st.floats(0.3, 0.75),
    k=st.floats(2.0, 30.0),
    L0=st.floats(0.7, 1.5),
    scale=st.floats(0.1, 50.0),
    seed=st.integers(0),
)
def test_no_search_from_the_truth_ends_lower_and_units_do_not_matter(a, k, L0, scale, seed):
    from scipy.optimize import least_squares

    truth = Sigmoid(-a, k, L0, 0.95)
    scores = np.clip(truth(LOSSES) + np.random.default_rng(seed).normal(0, 0.02, LOSSES.size), 0, 1)
    fit, scaled = fit_score(LOSSES, scores), fit_score(LOSSES * scale, scores)
    # The box of the fit is on both ends, a + b and b; least_squares knows boxes of parameters only.
    other = least_squares(
        lambda p: Sigmoid.score(LOSSES, p[1] - p[0], np.exp(p[2]), p[3], p[0]) - scores,
        [0.95, 0.95 - a, np.log(k), L0],
        bounds=([0, 0, -3, -10], [1, 1, 5.5, 10]),
    )
    assert np.sum(fit.residuals**2) <= 2 * other.cost * (1 + 1e-6)
    assert 0 <= fit.law.b <= 1
    assert 0 <= fit.law.a + fit.law.b <= 1
    assert scaled.law(LOSSES * scale) == pytest.approx(fit.law(LOSSES), abs=1e-5)


def test_fits_say_what_the_points_do_not_show():
    noise = np.random.default_rng(0).normal(0, 0.01, LOSSES.size)
    high = LOSSES + 0.4

    def said(losses, scores, form=Sigmoid, **options):
        return " | ".join(fit_score(losses, np.clip(scores, 0, 1), form, **options).statuses)

    assert said(LOSSES - 0.2, Sigmoid(-0.65, 9.0, 0.8, 0.92)(LOSSES - 0.2) + noise) == ""
    assert "end at low loss" in said(high, SCORES[0](high) + noise)
    assert "end at high loss" in said(LOSSES[:10], SCORES[0](LOSSES[:10]) + noise[:10])
    assert "end at high loss, 0.8" in said(LOSSES[:20], ExponentialError(0.85, 1.5, 1.5)(LOSSES[:20]), ExponentialError)
    assert "wrong way: the scores do not fall" in said(LOSSES, 0.3 + 0.2 * LOSSES)
    assert "wrong way: the errors do not rise" in said(LOSSES, 0.9 - 0.2 * LOSSES, ExponentialError)
    assert "at chance: the best point, 0.264" in said(LOSSES, 0.251 - 0.001 * LOSSES + noise, chance=0.25)
    assert "flat" in said(LOSSES, 0.251 - 0.001 * LOSSES + noise)
    assert "k is at the edge of its range: the points look like a sharp" in said(LOSSES, np.where(LOSSES > 1, 0.2, 0.8))
    assert "too few points: 6 for 4 parameters" in said(LOSSES[::7], SCORES[0](LOSSES[::7]))
    assert "intervals from 4 runs are rough" in said(LOSSES, SCORES[0](LOSSES), groups=np.arange(40) % 4)
    chain = fit_two_step(fit_log_linear(*line_runs(), replicates=20), LOSSES, SCORES[0](LOSSES) + noise)
    assert chain.statuses_at(1e19) == ()
    assert "below every point's (0.6): its score is extrapolated" in chain.statuses_at(1e24)[0]
    assert "above every point's" in chain.statuses_at(1e10)[0]


def test_a_line_in_log_compute_says_when_the_losses_bend():
    C, loss = line_runs()
    assert fit_log_linear(C, loss).statuses == ()
    assert "bend away" in fit_log_linear(C, loss + 0.02 * np.log10(C / C[0]) ** 2).statuses[0]
    assert "wrong way" in fit_log_linear(C, loss[::-1]).statuses[0]


def line_runs(sd=0.01, seed=0, count=10):
    C = np.geomspace(1e17, 1e20, count)
    return C, LogLinear(2.6, -0.09)(C) + np.random.default_rng(seed).normal(0, sd, count)


def test_a_line_in_log_compute_is_least_squares_and_its_intervals_hold():
    C, loss = line_runs()
    slope, level = np.polyfit(np.log10(C), loss, 1)
    assert list(fit_log_linear(C, loss).law.parameters().values()) == pytest.approx([level, slope])
    truth, inside = LogLinear(2.6, -0.09)(1e23), []
    for seed in range(200):
        fit = fit_log_linear(*line_runs(seed=seed), replicates=200, seed=seed)
        new = truth + np.random.default_rng(1000 + seed).normal(0, 0.01)
        p = fit.predict(1e23)
        inside.append((p.confidence[0] < truth < p.confidence[1], p.interval[0] < new < p.interval[1]))
    assert np.mean(inside, axis=0) == pytest.approx([0.95, 0.95], abs=0.045)


@pytest.mark.parametrize(
    ("losses", "scores", "options", "message"),
    [
        ([1, 2, 3], [0.5, 0.4], {}, r"shape \(3,\) and scores \(2,\)"),
        (LOSSES, 100 * SCORES[0](LOSSES), {}, "scores must be shares between 0 and 1, but row 0 is 76.95"),
        (
            np.where(LOSSES > 1, np.nan, LOSSES),
            SCORES[0](LOSSES),
            {},
            "losses must be finite and not negative, but row",
        ),
        (LOSSES[:4], SCORES[0](LOSSES[:4]), {}, "4 points at 4 different losses"),
        (np.ones(9), np.linspace(0.2, 0.8, 9), {}, "9 points at 1 different losses"),
        (LOSSES, SCORES[0](LOSSES), {"form": ScoreLaw}, "ScoreLaw is no law of a score; give one of Sigmoid"),
        (LOSSES, SCORES[0](LOSSES), {"groups": ["a", "b"]}, "one label for each of the 40 points"),
        (LOSSES, SCORES[0](LOSSES), {"groups": ["a"] * 40, "replicates": 20}, "all points are of one group"),
        (LOSSES, SCORES[0](LOSSES), {"replicates": 5}, "replicates is 5"),
        (3 + LOSSES / 1e4, 0.1 + LOSSES / 5, {"form": ExponentialError}, "k is inf"),
    ],
)
def test_points_that_cannot_be_fitted_are_refused(losses, scores, options, message):
    with pytest.raises(ValueError, match=message):
        fit_score(losses, scores, **options)


def test_steps_that_cannot_be_chained_or_predicted_are_refused():
    C, loss = line_runs()
    with pytest.raises(ValueError, match="take three runs, two C"):
        fit_log_linear([1e20, 1e20, 1e20], [1.0, 1.1, 1.0])
    with pytest.raises(ValueError, match="loss must be positive"):
        fit_log_linear(C, -loss)
    with pytest.raises(ValueError, match="no replicates"):
        fit_log_linear(C, loss).predict(1e20)
    score = fit_score(LOSSES, SCORES[0](LOSSES))
    with pytest.raises(ValueError, match="no replicates"):
        score.predict(1.0)
    with pytest.raises(ValueError, match="first step has 20 replicates and the second 0"):
        TwoStepFit(fit_log_linear(C, loss, replicates=20), score)


def ladder(seed, sd_loss=0.004, sd_score=0.006):
    """16 runs of 10 evaluations; loss and score of a run's last one, and all of them with the run's own offset."""
    rng = np.random.default_rng(seed)
    N = np.repeat(np.geomspace(2e8, 1.3e9, 4), 4)
    D = 20 * N * np.tile([1.0, 2.0, 5.0, 10.0], 4)
    surface, second = OLMO_LADDER_MMLU.first, Sigmoid(-0.65, 6.0, 0.8, 0.9)
    share = np.linspace(0.1, 1, 10)
    losses = surface.loss(N[:, None], D[:, None] * share) * np.exp(rng.normal(0, sd_loss, (16, 10)))
    offsets = rng.normal(0, sd_score, (16, 1))
    scores = second(losses) + offsets + rng.normal(0, sd_score, (16, 10))
    return TwoStep(surface, second), N, D, losses, np.clip(scores, 0, 1), np.repeat(np.arange(16), 10)


def chained(seed, replicates=100, **noise):
    truth, N, D, losses, scores, runs = ladder(seed, **noise)
    first = fit({"N": N, "D": D, "loss": losses[:, -1]}, replicates=replicates, seed=seed)
    return truth, fit_two_step(first, losses.ravel(), scores.ravel(), groups=runs, seed=seed)


def test_the_intervals_of_a_chain_hold_the_truth():
    inside = []
    for seed in range(24):
        truth, chain = chained(seed, replicates=60)
        target = 7e9, 5e11
        p = chain.predict(*target)
        (low, high), (least, most) = p.confidence, p.interval
        assert least <= low <= p.value <= high <= most
        inside.append(low < truth.predict(*target) < high)
    assert np.mean(inside) >= 0.85


def test_the_doubt_of_the_first_step_goes_into_the_second():
    def width(interval):
        return float(interval[1] - interval[0])

    _, exact = chained(0, sd_loss=1e-4)
    _, rough = chained(0, sd_loss=8e-3)
    target = 7e9, 5e11
    loss = exact.law.loss(*target)
    assert width(exact.predict(*target).confidence) < 1.3 * width(exact.second.predict(loss).confidence)
    alone = width(rough.second.predict(rough.law.loss(*target)).confidence)
    assert width(rough.predict(*target).confidence) > 1.5 * alone
    # The noise of one run's loss moves its score by the slope.
    steep = abs(float(rough.second.law.slope(rough.law.loss(*target))))
    assert width(rough.predict(*target).interval) > 2 * steep * 0.008 * rough.law.loss(*target)


def test_a_seed_gives_the_same_chain_and_budgets_are_spent_at_the_optimum():
    (_, one), (_, two) = chained(3), chained(3)
    assert one.predict(7e9, 5e11) == two.predict(7e9, 5e11)
    assert not np.array_equal(one.second.draws, chained(4)[1].second.draws)
    best = one.law.first.optimal(1e22)
    assert one.predict(1e22) == one.predict(best.N, best.D)


def test_resampling_runs_widens_what_their_common_offsets_blur():
    _, _, _, losses, scores, runs = ladder(1, sd_score=0.02)
    alike = np.sort(losses.ravel()), np.clip(SCORES[0](np.sort(losses.ravel())), 0, 1)
    grouped, single = (fit_score(losses.ravel(), scores.ravel(), groups=g, replicates=200) for g in (runs, None))
    widths = [np.subtract(*fit.predict(0.95).confidence[::-1]) for fit in (grouped, single)]
    assert widths[0] > 1.2 * widths[1]
    assert np.ptp(fit_score(*alike, groups=runs, replicates=50).draw_means(0.9)) < 1e-6


@pytest.fixture(scope="module")
def olmo_ladder():
    if not (SCALING / "olmo-ladder").exists():
        pytest.skip("published data is not beside the repository")
    return olmo.read_ladder(SCALING / "olmo-ladder")


def test_what_olmos_authors_print_is_reproduced(olmo_ladder):
    found = olmo.checks(SCALING)
    assert len(found) == 1 + 8 * 8
    assert [str(check) for check in found if not check.reproduced] == []
    printed = {check.quantity: check.published for check in found}
    errors = [printed[f"{task}, error of the prediction"] for task in TASKS[:3]]
    assert errors == pytest.approx([0.007, 0.025, 0.175], abs=5e-4)
    assert printed["mmlu_avg_test_5shot, task loss"] == pytest.approx(0.74883, abs=5e-6)
    assert printed["mmlu_avg_test_5shot, task loss predicted"] == pytest.approx(0.75016, abs=5e-6)


TASKS = ["mmlu_avg_test_5shot", "hellaswag_val_5shot", "arc_challenge_test_5shot"]


def test_the_published_chain_is_that_of_the_data(olmo_ladder):
    runs, target = olmo_ladder
    law = OLMO_LADDER_MMLU
    loss, task = olmo.task_loss(TASKS[0]), TASKS[0]
    assert olmo.fit_loss(runs, loss, Chinchilla()).law.parameters() == pytest.approx(law.first.parameters(), rel=1e-4)
    assert olmo.fit_accuracy(runs, loss, task).law.parameters() == pytest.approx(law.second.parameters(), rel=1e-4)
    assert law.predict(target.N, target.D) == pytest.approx(0.51268, abs=5e-6)


def test_intervals_hold_the_13b_models_scores_where_the_ladder_is_smooth_and_miss_arc_challenge(olmo_ladder):
    runs, target = olmo_ladder

    def holds(task):
        first = olmo.fit_loss(runs, olmo.task_loss(task), Chinchilla(), replicates=60)
        chain = TwoStepFit(first, olmo.fit_accuracy(runs, olmo.task_loss(task), task, replicates=60))
        low, high = chain.predict(target.N, target.D).interval
        return low < target.final(olmo.accuracy(task)) < high

    assert [holds(task) for task in TASKS] == [True, True, False]


def test_without_a_perfect_point_the_upper_end_is_not_seen(olmo_ladder):
    runs, _ = olmo_ladder
    fit = olmo.fit_accuracy(runs, olmo.task_loss(TASKS[0]), TASKS[0], perfect=False)
    assert "the end at low loss, 0.565, is not seen" in fit.statuses[0]
    assert olmo.fit_accuracy(runs, olmo.task_loss(TASKS[0]), TASKS[0]).law.b == pytest.approx(1.0)
