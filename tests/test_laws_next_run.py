import numpy as np
import pytest
from scipy.stats import spearmanr

from isoflop.laws import BESIROGLU_2024, Chinchilla, PoweredSum, SaturatingPowerLaw, candidates_at, fit, rank_candidates

pytestmark = pytest.mark.filterwarnings("error")

LAW, NOISE, BUDGET, REPLICATES = BESIROGLU_2024, 0.005, 1e20, 150


def sweep():
    """Five budgets of six sizes about the optimum."""
    C = np.repeat(np.geomspace(1e16, 1e18, 5), 6)
    N = np.array([LAW.optimal(c).N for c in C]) * np.tile(np.geomspace(1 / 4, 4, 6), 5)
    return N, C / 6 / N


def measure(N, D, rng):
    return LAW.loss(N, D) * np.exp(NOISE * rng.standard_normal(np.shape(N)))


@pytest.fixture(scope="module")
def fitted():
    N, D = sweep()
    runs = {"N": N, "D": D, "loss": measure(N, D, np.random.default_rng(0))}
    return fit(runs, replicates=400)


def candidates():
    """A repeat of the cheapest run, sizes about the largest budget's optimum, and sizes about that of ten times it."""
    N, D = sweep()
    C = np.array([6 * N[0] * D[0], *[1e18] * 3, *[1e19] * 4])
    sizes = np.array([1, 1 / 6, 6, 1, 1 / 8, 8, 30]) * np.array([LAW.optimal(c).N for c in C[1:]])
    n = np.append(N[0], sizes)
    return n, C / 6 / n


def spreads(fitted):
    """How much the replicates scatter in log N* and in log loss at the target, outer hundredths pulled in."""
    target = LAW.optimal(BUDGET)
    draws = np.stack([fitted.draw_optimum(BUDGET)[0], fitted.draw_means(target.N, target.D)], axis=-1)
    return np.clip(np.log(draws), *np.quantile(np.log(draws), [0.01, 0.99], axis=0)).std(axis=0)


def promised_widths(fitted, n, d):
    """The ratios that are predicted for each candidate: (candidates, N and loss)."""
    places = {pair: i for i, pair in enumerate(zip(n, d, strict=True))}
    widths = np.empty((len(n), 2))
    for column, decision in enumerate(("N", "loss")):
        for candidate in rank_candidates(fitted, n, d, BUDGET, decision=decision):
            widths[places[candidate.N, candidate.D], column] = candidate.width
    return widths


def measured_widths(runs, fitted, n, d, rng, times=3):
    """Do each candidate's run, refit, and see what is left of the scatter: (candidates, N and loss)."""
    widths = np.empty((times, len(n), 2))
    for t in range(times):
        for i, extra in enumerate(zip(n, d, strict=True)):
            columns = {**dict(zip("ND", extra, strict=True)), "loss": measure(*extra, rng)}
            more = {name: np.append(column, columns[name]) for name, column in runs.items()}
            widths[t, i] = spreads(fit(more, replicates=REPLICATES, seed=fitted.seed)) / spreads(fitted)
    return widths.mean(axis=0)


def test_what_a_run_is_promised_to_do_is_what_it_does():
    (N, D), (n, d) = sweep(), candidates()
    promised, measured = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        runs = {"N": N, "D": D, "loss": measure(N, D, rng)}
        fitted = fit(runs, replicates=REPLICATES, seed=seed)
        promised.append(promised_widths(fitted, n, d))
        measured.append(measured_widths(runs, fitted, n, d, rng))
    promised, measured = np.mean(promised, axis=0), np.mean(measured, axis=0)
    for column in (0, 1):
        assert spearmanr(promised[:, column], measured[:, column])[0] > 0.75
        # A refit scatters by some percent itself: it estimates the noise anew.
        assert np.abs(promised[:, column] - measured[:, column]).mean() < 0.07
    best_for_loss = np.argmin(promised[:, 1])
    assert measured[best_for_loss, 1] == measured[:, 1].min()
    assert measured[best_for_loss, 1] < 0.8


def test_a_repeat_of_a_cheap_run_ranks_below_what_reaches_beyond(fitted):
    n, d = candidates()
    for decision in ("N", "loss"):
        ranked = [candidate.N for candidate in rank_candidates(fitted, n, d, BUDGET, decision=decision)]
        assert ranked.index(n[0]) > ranked.index(n[5])
    at_optimum, aside = n[4], n[5]  # the loss is told by a run at the optimum, the size by runs aside of it
    by_loss, by_size = (
        [candidate.N for candidate in rank_candidates(fitted, n, d, BUDGET, decision=decision)]
        for decision in ("loss", "N")
    )
    assert by_loss[0] == at_optimum
    assert by_size.index(aside) < by_size.index(at_optimum)


def test_widths_are_shares_in_order_and_values_are_per_flop(fitted):
    ranked = rank_candidates(fitted, *candidates(), BUDGET)
    widths = [candidate.width for candidate in ranked]
    assert widths == sorted(widths)
    assert 0 < widths[0] < widths[-1] <= 1
    for candidate in ranked:
        assert pytest.approx(6 * candidate.N * candidate.D) == candidate.C
        assert candidate.value == pytest.approx((1 - candidate.width**2) / candidate.C)


def slopes(function):
    """The derivatives of a function of a law by E, log A, α, log B and β."""
    E, A, alpha, B, beta = LAW.parameters().values()
    here = np.array([E, np.log(A), alpha, np.log(B), beta])
    laws = [
        Chinchilla(e, np.exp(a), al, np.exp(b), be)
        for e, a, al, b, be in here + 1e-6 * np.vstack([np.eye(5), -np.eye(5)])
    ]
    values = np.array([function(law) for law in laws])
    return (values[:5] - values[5:]) / 2e-6


def test_where_laws_are_nearly_straight_the_promise_is_that_of_linear_design():
    (N, D), (n, d) = sweep(), candidates()
    noise = 1e-5 * np.random.default_rng(2).standard_normal(N.size)
    fitted = fit({"N": N, "D": D, "loss": LAW.loss(N, D) * np.exp(noise)}, delta=0.1, replicates=2000)
    design = slopes(lambda law: np.log(law.loss(N, D)))
    extra = slopes(lambda law: np.log(law.loss(n, d)))
    target = LAW.optimal(BUDGET)
    decisions = slopes(lambda law: np.log([law.optimal(BUDGET).N, law.loss(target.N, target.D)]))
    expected = np.empty((len(n), 2))
    before = np.linalg.inv(design @ design.T)
    for i, row in enumerate(extra.T):
        after = np.linalg.inv(design @ design.T + np.outer(row, row))
        for j, g in enumerate(decisions.T):
            expected[i, j] = np.sqrt((g @ after @ g) / (g @ before @ g))
    assert promised_widths(fitted, n, d) == pytest.approx(expected, abs=0.05)


def test_what_cannot_be_afforded_is_left_out(fitted):
    n, d = candidates()
    assert len(rank_candidates(fitted, n, d, BUDGET)) == 8
    affordable = rank_candidates(fitted, n, d, BUDGET, most=2e18)
    assert len(affordable) == 4
    assert max(candidate.C for candidate in affordable) < 2e18
    with pytest.raises(ValueError, match="no candidate is affordable"):
        rank_candidates(fitted, n, d, BUDGET, most=1e10)


def test_proposals_surround_the_optimum_of_each_budget(fitted):
    n, d = candidates_at([1e18, 1e19], fitted, sizes=5, span=3.0)
    assert np.repeat([1e18, 1e19], 5) == pytest.approx(6 * n * d)
    for budget, sizes in zip((1e18, 1e19), n.reshape(2, 5), strict=True):
        assert sizes[2] == pytest.approx(np.median(fitted.draw_optimum(budget)[0]))
        assert sizes[4] / sizes[0] == pytest.approx(9.0)
    assert len(rank_candidates(fitted, n, d, BUDGET)) == 10


def test_any_form_of_size_and_data_can_ask(fitted):
    n, d = candidates()
    curved = fit(fitted.runs, PoweredSum(gamma=1.0), replicates=400)
    assert promised_widths(curved, n, d) == pytest.approx(promised_widths(fitted, n, d), abs=0.03)


def test_faulty_questions_are_answered_in_sentences(fitted):
    n, d = candidates()
    with pytest.raises(ValueError, match="decision is 'D'; it is 'N' or 'loss'"):
        rank_candidates(fitted, n, d, BUDGET, decision="D")
    with pytest.raises(ValueError, match="N must be positive and finite"):
        rank_candidates(fitted, -n, d, BUDGET)
    with pytest.raises(ValueError, match="budgets must be positive"):
        candidates_at([1e18, -1.0], fitted)
    with pytest.raises(ValueError, match="no replicates"):
        rank_candidates(fit(fitted.runs), n, d, BUDGET)
    with pytest.raises(ValueError, match="not a law of N and D"):
        rank_candidates(fit(fitted.runs, SaturatingPowerLaw, x="C", replicates=20), n, d, BUDGET)
