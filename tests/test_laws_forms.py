import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.laws import (
    BESIROGLU_2024,
    HOFFMANN_2022,
    LLAMA3_TOKENS,
    Chinchilla,
    Law,
    PowerLaw,
    SaturatingPowerLaw,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
laws = st.one_of(
    st.builds(PowerLaw, numbers, numbers),
    st.builds(SaturatingPowerLaw, numbers, numbers, numbers),
    st.builds(Chinchilla, numbers, numbers, numbers, numbers, numbers),
)
positive = st.floats(0.05, 2.0)


@given(laws)
def test_json_round_trip_is_exact(law):
    data = json.loads(json.dumps(law.to_json()))
    assert Law.from_json(data) == law
    assert type(law).from_json(data) == law


def test_json_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"power-law.*chinchilla"):
        Chinchilla.from_json(LLAMA3_TOKENS.to_json())
    with pytest.raises(ValueError, match="'cubic' cannot be read"):
        Law.from_json({"kind": "cubic"})
    with pytest.raises(ValueError, match="coefficient, exponent; the data has coefficient"):
        Law.from_json({"kind": "power-law", "coefficient": 1.0})
    with pytest.raises(ValueError, match="exponent is '2'"):
        Law.from_json({"kind": "power-law", "coefficient": 1.0, "exponent": "2"})


def test_a_law_has_finite_parameters_or_blanks():
    with pytest.raises(ValueError, match="beta is inf"):
        Chinchilla(1.0, 1.0, 0.3, 1.0, math.inf)
    form = Chinchilla(E=1.7)
    assert form.blanks() == ("A", "alpha", "B", "beta")
    assert str(form) == "L = 1.7 + A/N^α + B/D^β"
    with pytest.raises(ValueError, match="no value for A, alpha, B, beta"):
        form.to_json()


@given(A=st.floats(1, 1e4), alpha=positive, B=st.floats(1, 1e4), beta=positive, C=st.floats(1e12, 1e27))
def test_the_optimum_spends_the_budget_and_no_neighbour_is_better(A, alpha, B, beta, C):
    law = Chinchilla(1.7, A, alpha, B, beta)
    best = law.optimal(C)
    assert pytest.approx(C) == 6 * best.N * best.D
    terms = [A * best.N**-alpha, B * best.D**-beta]
    # At the optimum the two terms' derivatives along the budget cancel: αA/N^α = βB/D^β.
    assert alpha * terms[0] == pytest.approx(beta * terms[1], rel=1e-9)
    for step in (0.9, 1.1):
        assert A * (best.N * step) ** -alpha + B * (best.D / step) ** -beta > sum(terms) * (1 - 1e-12)


def test_the_optimum_needs_a_budget_and_both_terms():
    with pytest.raises(ValueError, match="budget C must be positive and finite, not -1"):
        BESIROGLU_2024.optimal(-1.0)
    with pytest.raises(ValueError, match="no compute-optimal point"):
        Chinchilla(1.7, 0.0, 0.3, 400.0, 0.3).optimal(1e20)


def test_laws_evaluate_scalars_and_arrays_alike():
    N, D = np.array([1e8, 1e9]), np.array([[2e9], [2e10]])
    losses = HOFFMANN_2022.loss(N, D)
    assert losses.shape == (2, 2)
    assert losses[1, 0] == HOFFMANN_2022.loss(1e8, 2e10)
    law = SaturatingPowerLaw(1.7, 1e9, 0.3)
    assert law(1e9) == pytest.approx(2.7)
    assert law(np.array([1e9, 1e10]))[1] == law(1e10)


def test_laws_print_their_formula():
    assert str(PowerLaw(2.0, 0.5)) == "y = 2 · x^0.5"
    assert str(SaturatingPowerLaw(1.5, 3e8, 0.25)) == "L = 1.5 + (3e+08 / x)^0.25"
    assert str(Chinchilla(1.8, 480.0, 0.35, 2100.0, 0.37)) == "L = 1.8 + 480/N^0.35 + 2100/D^0.37"


def test_published_laws_give_the_numbers_they_are_known_for():
    assert LLAMA3_TOKENS(4.0e25) == pytest.approx(16.55e12, rel=1e-3)
    # Hoffmann et al.'s Table A3, approach 3: the optimum of Gopher's budget has about 40B parameters.
    assert pytest.approx(40e9, rel=0.05) == HOFFMANN_2022.optimal(5.76e23).N
    # Besiroglu et al.: the refit returns to about twenty tokens per parameter there.
    best = BESIROGLU_2024.optimal(5.76e23)
    assert 15 < best.D / best.N < 25
