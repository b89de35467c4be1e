"""Limited data under any law: as the data-constrained law has it, and as its runs allow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.laws import BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED, GADRE_2024_C4, MUENNIGHOFF_2023, PoweredSum
from isoflop.planning import repetition
from isoflop.planning.repetition import drawn_worth, matched, worth


@given(st.floats(6, 14), st.floats(-3, 2))
def test_repeated_tokens_are_worth_what_the_data_constrained_law_says(log_unique: float, log_passes: float) -> None:
    unique, D = 10**log_unique, 10 ** (log_unique + log_passes)
    assert float(worth(D, unique)) == pytest.approx(float(MUENNIGHOFF_2023.effective_tokens(D, unique)))
    assert float(worth(D, unique)) <= D * (1 + 1e-12)


def test_the_doubt_about_repeats_spans_the_profile_interval_of_its_constant() -> None:
    unique, passes = 1e9, 8.0
    drawn = drawn_worth(passes * unique, unique, 2000)
    least, most = np.quantile(drawn, [0.025, 0.975])
    assert least == pytest.approx(float(worth(passes * unique, unique, 5.7)), rel=0.06)
    assert most == pytest.approx(passes * unique, rel=0.02)
    assert (drawn_worth(1e8, 1e9, 5) == 1e8).all()


@given(st.floats(6, 13), st.floats(6, 13), st.floats(6, 13))
def test_for_chinchillas_form_it_is_muennighoffs_law(log_N: float, log_D: float, log_unique: float) -> None:
    N, D, unique = 10**log_N, 10**log_D, 10**log_unique
    ours = repetition.loss(MUENNIGHOFF_2023.chinchilla(), N, D, unique)
    assert float(ours) == pytest.approx(float(MUENNIGHOFF_2023.loss(N, D, unique)), rel=1e-12)


@pytest.mark.parametrize("law", [BESIROGLU_2024, BUSBRIDGE_2025_SUPERVISED, GADRE_2024_C4])
@pytest.mark.parametrize("C", [1e18, 1e22, 1e26])
def test_matched_size_is_that_of_the_budget_whose_best_tokens_they_are(law: PoweredSum, C: float) -> None:
    best = law.optimal(C)
    assert float(matched(law, best.D)) == pytest.approx(best.N, rel=1e-5)


def test_unlimited_data_leave_a_law_as_it_is() -> None:
    N, D = np.array([1e8, 1e10]), np.array([1e12, 1e9])
    assert (repetition.loss(BESIROGLU_2024, N, D, math.inf) == BESIROGLU_2024.loss(N, D)).all()
