"""Budgets under constraints: each binds where it should, says so, and the answer is the best that it leaves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.laws import BESIROGLU_2024, MUENNIGHOFF_2023, lifetime
from isoflop.planning import repetition
from isoflop.planning.allocation import Limits, allocate, alternatives, cheapest_over_life
from isoflop.planning.evidence import evidence

LAW, TOKENS_ONLY = evidence("BESIROGLU_2024"), evidence("LLAMA3_TOKENS")
budgets = st.floats(18, 26).map(lambda x: 10**x)


def test_llama_3s_own_case_gives_405b() -> None:
    free = allocate(TOKENS_ONLY, 3.8e25, Limits())
    assert pytest.approx(16.10e12, rel=1e-3) == free.D
    assert pytest.approx(393.3e9, rel=1e-3) == free.N
    bound = allocate(TOKENS_ONLY, 3.8e25, Limits(unique=15.6e12, epochs=1))
    assert pytest.approx(15.6e12) == bound.D
    assert pytest.approx(405.98e9, rel=1e-3) == bound.N
    assert "15.6T tokens are at hand and LLAMA3_TOKENS alone would take 16.1T" in bound.binding[0]
    headline = allocate(TOKENS_ONLY, 4.0e25, Limits())
    assert pytest.approx((402.8e9, 16.55e12), rel=1e-3) == (headline.N, headline.D)


@given(budgets)
def test_without_limits_it_is_the_laws_optimum(C: float) -> None:
    choice = allocate(LAW, C, Limits())
    best = BESIROGLU_2024.optimal(C)
    assert pytest.approx((best.N, best.D), rel=1e-9) == (choice.N, choice.D)
    assert choice.binding == ()
    assert choice.unspent <= 1e-9 * C


@settings(max_examples=40, deadline=None)
@given(budgets, st.floats(-3, 1), st.floats(1, 30), st.floats(-2, 1.5))
def test_no_other_size_within_the_limits_is_better(C: float, scarce: float, epochs: float, demand: float) -> None:
    best = BESIROGLU_2024.optimal(C)
    limits = Limits(unique=best.D * 10**scarce, epochs=epochs, served=best.D * 10**demand)
    choice = allocate(LAW, C, limits)
    assert choice.training + choice.serving <= C * (1 + 1e-9)
    assert limits.most_tokens * (1 + 1e-9) >= choice.D

    def loss(N: np.ndarray) -> np.ndarray:
        D = np.clip((C / N - 2 * limits.served) / 6, 1.0, limits.most_tokens)
        return repetition.loss(BESIROGLU_2024, N, D, limits.fresh)

    others = choice.N * np.geomspace(0.05, 20, 400)
    reached = float(loss(np.array([choice.N]))[0])
    assert reached <= loss(others[others < C / (2 * limits.served)]).min() + 1e-9


def test_serving_makes_models_smaller_and_its_share_is_said() -> None:
    sizes = [allocate(LAW, 1e22, Limits(served=served)).N for served in (0, 1e11, 1e12, 1e13)]
    assert sizes == sorted(sizes, reverse=True)
    (reason,) = allocate(LAW, 1e22, Limits(served=1e12)).binding
    assert "serving 1T tokens takes" in reason
    with pytest.raises(ValueError, match="knows no loss off its optimum"):
        allocate(TOKENS_ONLY, 1e22, Limits(served=1e12))


def test_cheapest_over_life_is_sardanas() -> None:
    limits = Limits(served=1e12)
    found = cheapest_over_life(LAW, allocate(LAW, 1e22, limits))
    theirs = lifetime(BESIROGLU_2024, 1e12, C=1e22)
    assert found is not None
    assert pytest.approx((theirs.N, theirs.total)) == (found.N, found.C)
    assert cheapest_over_life(LAW, allocate(LAW, 1e22, Limits())) is None


def test_data_that_is_repeated_is_bought_until_parameters_are_cheaper() -> None:
    few = allocate(LAW, 1e22, Limits(unique=1e10, epochs=100))
    assert 1e10 < few.D < 1e12
    assert "passes over them" in few.binding[0]
    # The same rule for repeats, with excess parameters priced less: sizes are near, not equal.
    assert pytest.approx(MUENNIGHOFF_2023.optimal(1e22, 1e10).N, rel=0.8) == few.N


def test_what_cannot_be_spent_is_said() -> None:
    choice = allocate(LAW, 1e22, Limits(unique=1e10, most_params=3e9, most_reason="it must fit a card"))
    assert (choice.N, choice.D) == (3e9, 4e10)
    assert choice.unspent == pytest.approx(1e22 - 6 * 3e9 * 4e10)
    assert any("93% of the budget cannot be spent" in reason for reason in choice.binding)
    assert any("it must fit a card: 3B parameters at most" in reason for reason in choice.binding)


def test_given_size_and_tokens_are_kept() -> None:
    size, tokens = allocate(LAW, 1e22, Limits(params=7e9)), allocate(LAW, 1e22, Limits(tokens=1e12))
    assert size.N == 7e9
    assert pytest.approx(1e22 / 6 / 7e9) == size.D
    assert tokens.D == 1e12
    assert pytest.approx(1e22 / 6e12) == tokens.N
    # Baichuan 2: 1e23 FLOPs on 7B parameters are 2.38T tokens.
    assert pytest.approx(2.38e12, rel=1e-3) == allocate(LAW, 1e23, Limits(params=7e9)).D


@pytest.mark.parametrize(("limits", "words"), [
    ({"params": 7e9, "tokens": 1e12}, "take 4.2e.22 FLOPs.*allows 1.67B parameters on those tokens, or.*238B"),
    ({"params": 7e9, "served": 1e13}, "more than the budget.*250M parameters are possible"),
    ({"tokens": 1e12, "unique": 1e10}, "100.0 passes.*give --epochs 100, or at most 40B"),
    ({"params": 7e9, "most_params": 3e9, "most_reason": "it must fit 12 GB"}, "it must fit 12 GB; 3B .*possible"),
])  # fmt: skip
def test_contradictions_name_what_binds_and_the_nearest_that_is_possible(limits: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        allocate(LAW, 1e22, Limits(**limits))  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"unique": 0.0}, {"epochs": 0.0}, {"tokens": 0.0}, {"params": math.nan}])
def test_limits_that_leave_nothing_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="leave nothing to plan with"):
        Limits(**limits)


def test_price_of_another_size_is_the_laws_and_the_plan_is_cheapest() -> None:
    choice = allocate(LAW, 1e22, Limits())
    found = alternatives(LAW, choice, Limits())
    assert [a.factor for a in found] == [0.25, 0.5, 1, 2, 4]
    assert all(a.price > 0 for a in found if a.factor != 1)
    for a in found:
        assert pytest.approx(choice.training) == 6 * a.N * a.D
        tokens = a.same_loss * choice.training / 6 / a.N
        assert float(BESIROGLU_2024.loss(a.N, tokens)) == pytest.approx(BESIROGLU_2024.optimal(1e22).loss, rel=1e-9)
    assert alternatives(TOKENS_ONLY, choice, Limits()) == ()


def test_a_loss_that_the_tokens_at_hand_cannot_reach_is_infinitely_dear() -> None:
    limits = Limits(unique=184e9, epochs=1)
    quarter = alternatives(LAW, allocate(LAW, 1e22, limits), limits)[0]
    assert quarter.same_loss == math.inf
