"""Intervals hold what they say: against scipy, published examples, and repeated sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from isoflop.evaluation.intervals import difference, mcnemar, mean, newcombe, ratio, share, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 10), (10, 10), (81, 263), (999, 1000)])
def test_a_shares_interval_is_wilsons(hits: int, count: int) -> None:
    theirs = stats.binomtest(hits, count).proportion_ci(method="wilson")
    figure = share([True] * hits + [False] * (count - hits))
    assert (figure.value, figure.count) == (hits / count, count)
    assert (figure.low, figure.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_items_that_come_in_copies_count_once() -> None:
    outcomes = [True, False, True, True, False, True, True, False] * 5
    copies = [outcome for outcome in outcomes for _ in range(4)]
    clustered = share(copies, [number // 4 for number in range(len(copies))])
    alone = share(outcomes)
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high))
    assert clustered.count == 160
    assert share(outcomes, range(len(outcomes))) == alone
    assert share([True] * 40, [number // 4 for number in range(40)]).low == share([True] * 10).low


def test_the_difference_of_paired_shares_is_newcombes() -> None:
    # Both right, only the second, only the first, neither: every cell counted by hand into his formula.
    both, second, first, neither = 36, 14, 2, 8
    a = np.repeat([1.0, 0, 1, 0], [both, second, first, neither])
    b = np.repeat([1.0, 1, 0, 0], [both, second, first, neither])
    n, p, q = 60, 50 / 60, 38 / 60
    (lp, up), (lq, uq) = wilson(p, n), wilson(q, n)
    phi = (36 * 8 - 14 * 2 - 30) / math.sqrt(50 * 10 * 38 * 22)
    low = math.sqrt((p - lp) ** 2 - 2 * phi * (p - lp) * (uq - q) + (uq - q) ** 2)
    high = math.sqrt((up - p) ** 2 - 2 * phi * (up - p) * (q - lq) + (q - lq) ** 2)
    figure = newcombe(a, b)
    assert (figure.value, figure.low, figure.high) == pytest.approx((p - q, p - q - low, p - q + high))
    assert difference(a.tolist(), b.tolist()).p == pytest.approx(stats.binomtest(14, 16).pvalue)


def test_models_that_answer_alike_still_have_an_interval() -> None:
    same = [1.0, 0.0] * 20
    found = difference(same, same)
    assert found.p == 1.0 == mcnemar(0, 0)
    assert found.figure.value == 0
    assert found.figure.low < 0 < found.figure.high


def test_intervals_of_differences_hold_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    cells, held = np.array([0.5, 0.2, 0.1, 0.2]), 0
    for _ in range(400):
        drawn = generator.choice(4, 80, p=cells)
        figure = newcombe((drawn % 2 == 0).astype(float), (drawn < 2).astype(float))
        held += figure.low <= 0.1 <= figure.high
    assert 0.92 <= held / 400 <= 0.99


def test_a_mean_is_resampled_by_clusters_the_same_every_time() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(3, 2, 200)
    figure = mean(values.tolist())
    spread = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert figure.value == pytest.approx(values.mean())
    assert figure.high - figure.low == pytest.approx(2 * spread, rel=0.1)
    assert mean(values.tolist()) == figure
    copies = mean(np.repeat(values, 3).tolist(), np.repeat(np.arange(200), 3).tolist())
    assert (copies.low, copies.high) == pytest.approx((figure.low, figure.high))


def test_a_ratio_weighs_by_what_is_below() -> None:
    assert ratio([1.0, 9.0], [1.0, 3.0]).value == 2.5
    assert ratio([1.0], [2.0]).low == -math.inf


def test_nothing_is_a_figure_that_says_nothing_and_unlike_lengths_are_refused() -> None:
    assert (share([]).low, share([]).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="same items"):
        difference([1.0], [1.0, 0.0])
