"""What the less common forms do beyond the properties that all published laws share."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.laws import BESIROGLU_2024, HOFFMANN_2022, Chinchilla, Law, LossSurface
from isoflop.laws.forms.counting import PEARCE_2024, EmbeddingBridge
from isoflop.laws.forms.distillation import BUSBRIDGE_2025_SUPERVISED, Distillation, PoweredSum
from isoflop.laws.forms.farseer import Farseer
from isoflop.laws.forms.kaplan import (
    KAPLAN_2020,
    KAPLAN_2020_BATCH,
    KAPLAN_2020_CRITICAL_BATCH,
    KAPLAN_2020_ENOUGH_DATA,
    KAPLAN_2020_LOSS_OF_C,
    KAPLAN_2020_SIZE,
    KAPLAN_2020_STEPS,
    KAPLAN_2020_TOKENS,
    KAPLAN_2020_UPDATES,
    PF_DAY,
    TradeOff,
)
from isoflop.laws.forms.lifetime import lifetime
from isoflop.laws.forms.overtraining import GADRE_2024_C4, GADRE_2024_REDPAJAMA, OverTraining
from isoflop.laws.forms.repetition import MUENNIGHOFF_2023, DataConstrained, DataConstrainedSurface

# Plausible numbers, nobody's fit.
FARSEER = Farseer(a1=-0.01, b1=-1.0, alpha=0.1, a2=5.0, b2=7.0, beta=-0.1, a3=8.0, b3=0.6, gamma=-0.15)
STUDENT = Distillation(c0=2.5, c1=500.0, d1=1.3, f1=0.09, A=2200.0, alpha=0.32, B=24000.0, beta=0.64, gamma=0.76)
REPEATED = MUENNIGHOFF_2023.at(2e11)
SURFACES = {"farseer": FARSEER, "repeated": REPEATED}
BLANK_FORMS = [Farseer(), Distillation(), DataConstrained(), DataConstrainedSurface(), OverTraining(), PoweredSum()]


@pytest.mark.parametrize("law", [FARSEER, STUDENT, REPEATED], ids=str)
def test_a_form_goes_to_json_and_back(law):
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law


@pytest.mark.parametrize("form", BLANK_FORMS, ids=lambda form: form.kind)
def test_a_blank_form_prints_its_letters(form):
    assert form.blanks() == tuple(form.parameters())
    assert "nan" not in str(form)
    assert "{" not in str(form)


@pytest.mark.parametrize("name", SURFACES)
def test_slopes_are_the_derivatives_of_the_loss(name):
    law, h = SURFACES[name], 1e-5
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e12, 6), np.geomspace(1e9, 1e13, 5)))
    by_size, by_tokens = law.slopes(N, D)
    numeric = (law.loss(N * (1 + h), D) - law.loss(N * (1 - h), D)) / (2 * h * N)
    # Where nearly nothing is left to gain, a difference of losses has no digits left.
    assert by_size * N == pytest.approx(numeric * N, rel=1e-4, abs=1e-9)
    numeric = (law.loss(N, D * (1 + h)) - law.loss(N, D * (1 - h))) / (2 * h * D)
    assert by_tokens * D == pytest.approx(numeric * D, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", SURFACES)
def test_questions_of_a_surface_agree_with_its_loss(name):
    law = SURFACES[name]
    for N, D in ((1e8, 3e9), (7e9, 1e12)):
        loss = float(law.loss(N, D))
        assert law.tokens_for(loss, N) == pytest.approx(D, rel=1e-6)
        assert law.params_for(loss, D) == pytest.approx(N, rel=1e-6)
    best = law.optimal(1e22)
    assert pytest.approx(1e22) == 6 * best.N * best.D
    for step in (0.9, 1.1):
        assert law.loss(best.N * step, best.D / step) > best.loss
    assert pytest.approx(1e22, rel=1e-5) == law.cheapest(best.loss).C


@pytest.mark.parametrize(
    "law", [BUSBRIDGE_2025_SUPERVISED, KAPLAN_2020, GADRE_2024_C4], ids=["powered sum", "kaplan", "over-training"]
)
def test_closed_answers_are_those_of_the_general_searches(law):
    assert pytest.approx(LossSurface.optimal(law, 1e21).N, rel=1e-5) == law.optimal(1e21).N
    loss = float(law.loss(3e9, 1e11))
    assert law.tokens_for(loss, 3e9) == pytest.approx(LossSurface.tokens_for(law, loss, 3e9), rel=1e-9)
    assert law.params_for(loss, 1e11) == pytest.approx(LossSurface.params_for(law, loss, 1e11), rel=1e-9)
    assert pytest.approx(LossSurface.cheapest(law, loss).C, rel=1e-6) == law.cheapest(loss).C


# Kaplan et al. 2020


def test_kaplan_surface_has_pure_power_laws_as_its_limits():
    assert KAPLAN_2020.loss(1e9, 1e60) == pytest.approx((6.4e13 / 1e9) ** 0.076)
    assert KAPLAN_2020.loss(1e60, 1e10) == pytest.approx((1.8e13 / 1e10) ** 0.103)


def test_kaplan_constants_agree_with_one_another():
    C = np.array([0.1, 1.0, 10.0]) * PF_DAY
    assert 6 * KAPLAN_2020_SIZE(C) * KAPLAN_2020_BATCH(C) * KAPLAN_2020_UPDATES(C) == pytest.approx(C, rel=0.05)
    # At the critical batch twice the least tokens are seen.
    assert 2 * C / (6 * KAPLAN_2020_SIZE(C)) == pytest.approx(KAPLAN_2020_TOKENS(C), rel=0.15)
    assert KAPLAN_2020_CRITICAL_BATCH.batch(KAPLAN_2020_LOSS_OF_C(C)) == pytest.approx(KAPLAN_2020_BATCH(C), rel=0.05)
    steps, batch = KAPLAN_2020_STEPS, KAPLAN_2020_CRITICAL_BATCH
    exponent = 1 / (1 / steps.alpha_S + 1 / batch.alpha_B + 1 / steps.alpha_N)
    assert exponent == pytest.approx(KAPLAN_2020_LOSS_OF_C.exponent, abs=0.003)
    N = np.array([1e8, 1e9, 1e10])
    overfitting = KAPLAN_2020.loss(N, KAPLAN_2020_ENOUGH_DATA(N)) / KAPLAN_2020.loss(N, 1e60) - 1
    assert overfitting == pytest.approx(0.02, abs=0.002)


def test_a_training_curve_is_inverted_and_has_a_floor():
    law, h = KAPLAN_2020_STEPS, 1e-6
    loss = law.loss(1e8, 2e4)
    assert law.steps_for(loss, 1e8) == pytest.approx(2e4)
    assert law.steps_for(float(law.loss(1e8, 1e60)) * 0.999, 1e8) == math.inf
    by_size, by_steps = law.slopes(1e8, 2e4)
    assert by_size == pytest.approx((law.loss(1e8 * (1 + h), 2e4) - loss) / (1e8 * h), rel=1e-4)
    assert by_steps == pytest.approx((law.loss(1e8, 2e4 * (1 + h)) - loss) / (2e4 * h), rel=1e-4)


@given(st.floats(1.0, 1e8), st.floats(1.0, 1e12), st.floats(1.0, 1e10))
def test_steps_and_tokens_trade_along_a_hyperbola(least_steps, least_tokens, batch):
    trade = TradeOff(least_steps, least_tokens)
    steps, tokens = trade.steps(batch), trade.tokens(batch)
    assert tokens == pytest.approx(steps * batch)
    excess = trade.critical_batch / batch, batch / trade.critical_batch
    assert steps == pytest.approx(least_steps * (1 + excess[0]))
    assert tokens == pytest.approx(least_tokens * (1 + excess[1]))
    assert excess[0] * excess[1] == pytest.approx(1)


def test_the_critical_batch_doubles_both_costs_and_grows_as_the_loss_falls():
    law = KAPLAN_2020_CRITICAL_BATCH
    trade = law.trade_off(3.0, 1e4)
    assert trade.critical_batch == pytest.approx(law.batch(3.0)) == pytest.approx(1.12e6, rel=0.01)
    assert trade.steps(trade.critical_batch) == pytest.approx(2e4)
    assert trade.tokens(trade.critical_batch) == pytest.approx(2 * trade.least_tokens)
    assert law.loss(law.batch(2.5)) == pytest.approx(2.5)
    assert law.batch(2.0) > law.batch(3.0)
    with pytest.raises(ValueError, match="the loss and the number of steps must be positive"):
        law.trade_off(0.0, 1e4)


# Muennighoff et al. 2023


def test_repeats_are_worth_what_the_paper_says():
    law = MUENNIGHOFF_2023
    assert law.worth(1) == 1
    assert law.worth(0.5) == 0.5
    assert law.worth(4) / 4 == pytest.approx(0.93, abs=0.005)
    assert law.worth(16) / 16 == pytest.approx(0.66, abs=0.005)
    assert law.worth(1e6) == pytest.approx(1 + law.R_D)
    assert law.effective_tokens(1e11, 25e9) == pytest.approx(25e9 * law.worth(4))


def test_without_repetition_the_law_is_chinchilla_up_to_its_optimal_size():
    law, plain = MUENNIGHOFF_2023, MUENNIGHOFF_2023.chinchilla()
    best = plain.optimal(1e21)
    sizes = best.N * np.array([0.01, 0.5, 0.999])
    assert law.loss(sizes, best.D, best.D) == pytest.approx(plain.loss(sizes, best.D))
    assert law.loss(3 * best.N, best.D, best.D) > plain.loss(3 * best.N, best.D)
    assert pytest.approx(best.N, rel=1e-4) == law.optimal(1e21, 1e14).N


def test_scarce_data_ask_for_a_smaller_model_and_more_epochs():
    law, C, U = MUENNIGHOFF_2023, 9.2e21, 25e9
    repeated, plain = law.optimal(C, U), law.chinchilla().optimal(C)
    assert repeated.N < 0.85 * plain.N
    assert 6.5 < plain.D / U < 7 < 9 < repeated.D / U < 10
    assert law.loss(plain.N, plain.D, U) > repeated.loss > plain.loss


@given(st.floats(1e7, 1e11), st.floats(1e8, 1e13), st.floats(1e8, 1e13), st.sampled_from(["N", "D", "U"]))
def test_more_of_anything_never_hurts(N, D, U, what):
    grown = {"N": N, "D": D, "U": U}
    grown[what] *= 1.5
    assert MUENNIGHOFF_2023.loss(**grown) <= MUENNIGHOFF_2023.loss(N, D, U) + 1e-12


@given(st.floats(1e7, 1e11), st.floats(1e8, 1e13))
def test_the_loss_is_continuous_where_repetition_begins(N, U):
    law = MUENNIGHOFF_2023
    assert law.loss(N, U * (1 - 1e-9), U) == pytest.approx(law.loss(N, U * (1 + 1e-9), U), abs=1e-7)


def test_a_loss_beyond_all_repetition_is_said_to_be_so():
    law, U = MUENNIGHOFF_2023, 1e9
    end = float(law.loss(1e9, 1e30, U))
    assert law.tokens_for(end - 1e-6, 1e9, U) == math.inf
    assert law.compute_for(end - 1e-6, 1e9, U) == math.inf
    assert law.tokens_for(end + 1e-3, 1e9, U) > 20 * U
    assert law.params_for(float(law.loss(1e9, 1e10, U)), 1e10, U) == pytest.approx(1e9, rel=1e-6)
    with pytest.raises(ValueError, match=r"no budget reaches a loss of 2\.0: .* U = 1e\+09"):
        law.cheapest(2.0, U)
    with pytest.raises(ValueError, match="U must be positive"):
        law.at(0.0)


# Gadre et al. 2024


def test_the_over_training_law_is_the_papers_formula():
    law = GADRE_2024_C4
    N, M = 4e8, np.array([5.0, 20.0, 640.0])
    a, beta, b, E = law.a, law.beta, law.b, law.E
    assert law.loss(N, M * N) == pytest.approx(a * N**b + beta * 6 ** (b / 2) * (M * N) ** b + E, rel=1e-14)
    C = 6 * N * M * N
    assert law.loss_of(C, M) == pytest.approx(law.loss(N, M * N), rel=1e-14)
    assert law.loss(N, M * N) - E - a * N**b == pytest.approx(beta * (C * M) ** (b / 2), rel=1e-12)


def test_over_trained_curves_are_parallel_and_the_best_ratio_is_the_same_at_every_budget():
    law = GADRE_2024_REDPAJAMA
    for M in (5.0, 20.0, 640.0):
        fall = (law.loss_of(1e22, M) - law.E) / (law.loss_of(1e18, M) - law.E)
        assert fall == pytest.approx(1e4 ** (law.b / 2))
    best = [law.optimal(C).tokens_per_parameter for C in (1e18, 1e24)]
    assert best[0] == pytest.approx(best[1])


# Sardana & Frankle 2023


@pytest.mark.parametrize(
    "law", [BESIROGLU_2024, GADRE_2024_C4, FARSEER, BUSBRIDGE_2025_SUPERVISED, MUENNIGHOFF_2023.at(1e10)], ids=str
)
def test_the_cheapest_life_is_the_lowest_of_all_sizes(law):
    served = 1e12
    found = lifetime(law, served, C=1e21)
    assert found.loss == law.optimal(1e21).loss
    assert law.loss(found.N, found.D) == pytest.approx(found.loss)
    sizes = np.geomspace(found.N / 3, found.optimal.N * 1.5, 400)
    totals = [6 * N * law.tokens_for(found.loss, N) + 2 * N * served for N in sizes]
    assert found.total <= min(totals) * (1 + 1e-9)
    assert sizes[int(np.argmin(totals))] == pytest.approx(found.N, rel=0.02)
    assert found.total == pytest.approx(found.training + found.inference)
    assert 0 < found.saving < 1


def test_the_example_of_the_paper_saves_what_the_paper_says():
    # A 7B model instead of a 13B one of the same quality, for 2e12 tokens to serve: 1.7e22 FLOPs, 17%.
    law = Chinchilla(E=1.69, A=406.4, alpha=0.336, B=410.7, beta=0.283)
    D = 13e9 * (law.optimal(4.5e22).tokens_per_parameter)
    found = lifetime(law, 2e12, C=6 * 13e9 * D)
    assert pytest.approx(13e9, rel=0.01) == found.optimal.N
    assert pytest.approx(7e9, rel=0.02) == found.N
    assert found.saving == pytest.approx(0.17, abs=0.005)
    assert found.optimal.C + 2 * found.optimal.N * 2e12 - found.total == pytest.approx(1.7e22, abs=0.05e22)


def test_a_model_that_serves_nothing_is_compute_optimal_and_one_that_serves_more_is_smaller():
    idle = lifetime(BESIROGLU_2024, 0.0, loss=2.2)
    assert pytest.approx(BESIROGLU_2024.cheapest(2.2).N) == idle.N
    assert idle.saving == pytest.approx(0)
    lives = [lifetime(BESIROGLU_2024, served, loss=2.2) for served in (1e10, 1e12, 1e14)]
    assert idle.N > lives[0].N > lives[1].N > lives[2].N > BESIROGLU_2024.params_for(2.2, 1e30)
    assert "less than compute-optimal" in str(lives[1])


@pytest.mark.parametrize(
    ("served", "target", "said"),
    [
        (1e12, {}, "either the loss to reach or the training budget"),
        (1e12, {"loss": 2.2, "C": 1e21}, "either the loss to reach or the training budget"),
        (-1.0, {"loss": 2.2}, "tokens to be served must be zero or more"),
        (math.inf, {"loss": 2.2}, "tokens to be served must be zero or more"),
        (1e12, {"loss": 1.0}, "no budget reaches a loss of 1.0"),
    ],
)
def test_a_lifetime_that_cannot_be_planned_is_refused(served, target, said):
    with pytest.raises(ValueError, match=said):
        lifetime(BESIROGLU_2024, served, **target)


# Pearce & Song 2024


@given(st.floats(1.0, 1e6), st.floats(10.0, 1e14))
def test_counting_with_and_without_embeddings_are_inverse(omega, N_E):
    bridge = EmbeddingBridge(omega)
    assert bridge.non_embedding(bridge.total(N_E)) == pytest.approx(N_E, rel=1e-12)


def test_compute_follows_the_count():
    N_E, D = np.array([1e6, 1e10]), 1e11
    N = PEARCE_2024.total(N_E)
    assert PEARCE_2024.total_compute(6 * N_E * D, N_E) == pytest.approx(6 * N * D)
    assert PEARCE_2024.non_embedding_compute(6 * N * D, N) == pytest.approx(6 * N_E * D)
    assert pytest.approx([5.7491, 1.010232], rel=1e-5) == N / N_E  # 1 + 47491 / N_E^(2/3)


@pytest.mark.parametrize("surface", [HOFFMANN_2022, BESIROGLU_2024], ids=["hoffmann", "besiroglu"])
def test_the_size_that_kaplan_would_find_is_the_lowest_point_of_its_isoflop(surface):
    for N_E in (1e4, 1e6, 1e9):
        C_E = PEARCE_2024.budget_of(surface, N_E)
        sizes = N_E * np.geomspace(0.5, 2, 2001)
        losses = surface.loss(PEARCE_2024.total(sizes), C_E / 6 / sizes)
        assert sizes[np.argmin(losses)] == pytest.approx(N_E, rel=2e-3)
        h = 1e-4
        budgets = PEARCE_2024.budget_of(surface, N_E * np.exp([-h, h]))
        assert PEARCE_2024.local_exponent(surface, N_E) == pytest.approx(2 * h / np.log(budgets[1] / budgets[0]))


def test_small_models_counted_without_embeddings_show_kaplans_exponent():
    for surface in (HOFFMANN_2022, BESIROGLU_2024):
        alpha, beta = surface.alpha, surface.beta
        truth = beta / (alpha + beta)
        assert truth < 0.52
        assert PEARCE_2024.measured_exponent(surface) == pytest.approx(0.77, abs=0.03)  # Kaplan et al.: .73
        assert PEARCE_2024.measured_exponent(surface, 1e12, 1e15) == pytest.approx(truth, abs=0.003)
        # In the smallest models embeddings are all of N, which goes as the cube root of N_E.
        assert PEARCE_2024.local_exponent(surface, 1e-3) == pytest.approx(beta / (beta + alpha / 3), abs=1e-4)


# Busbridge et al. 2025


def test_a_sum_to_the_power_of_one_is_chinchilla():
    law = PoweredSum(*BESIROGLU_2024.parameters().values(), gamma=1.0)
    N, D = np.array([1e8, 1e10]), np.array([[1e10], [1e12]])
    assert law.loss(N, D) == pytest.approx(BESIROGLU_2024.loss(N, D))
    assert pytest.approx(BESIROGLU_2024.optimal(1e21).N) == law.optimal(1e21).N


def test_a_powered_sum_does_not_fall_to_its_floor():
    law = BUSBRIDGE_2025_SUPERVISED
    assert law.tokens_for(law.E, 1e9) == math.inf
    assert law.params_for(law.E - 1, 1e9) == math.inf
    with pytest.raises(ValueError, match=r"the floor of .* is 1\.22"):
        law.cheapest(law.E)


def test_a_students_loss_is_the_printed_formula_and_its_teacher_can_be_too_good():
    law, supervised = STUDENT, BUSBRIDGE_2025_SUPERVISED
    N, D, teacher = 1e9, 1e11, 2.1
    gap = teacher / (1.3 * supervised.loss(N, D))
    reach = (2200 / N**0.32 + 24000 / D**0.64) ** 0.76
    expected = teacher + teacher**-2.5 * (1 + gap ** (1 / 0.09)) ** (-500 * 0.09) * reach
    assert law.loss(N, D, teacher, supervised) == pytest.approx(expected)
    best = law.best_teacher(N, D, supervised, 1.3, 3.0)
    assert 1.3 < best < supervised.loss(N, D)
    for other in (best * 0.97, best * 1.03):
        assert law.loss(N, D, other, supervised) > law.loss(N, D, best, supervised)
    assert law.best_teacher(1e8, 1e10, supervised, 1.3, 3.0) > best  # a weaker student wants a weaker teacher
    with pytest.raises(ValueError, match="two positive bounds, not 3.0 and 1.3"):
        law.best_teacher(N, D, supervised, 3.0, 1.3)


# Farseer


def test_farseer_with_a_steady_data_term_has_chinchillas():
    law = replace(FARSEER, a1=0.0, a2=0.0)
    fall = law.loss(1e9, 1e10) - law.loss(1e9, 1e12)
    assert fall == pytest.approx(math.exp(7) * (1e10 ** -math.exp(-1) - 1e12 ** -math.exp(-1)))
    assert fall == pytest.approx(law.loss(1e11, 1e10) - law.loss(1e11, 1e12))


def test_farseer_without_a_floor_spends_in_the_valley():
    # All three terms keep falling in N, so the best of all is a huge model on next to no tokens.
    law = Farseer(a1=-0.12, b1=0.42, alpha=0.12, a2=88.0, b2=-5.3, beta=-0.1, a3=-0.02, b3=0.1, gamma=0.17)
    best = law.optimal(1e21)
    assert law.loss(1.3e14, 1.3e6) < best.loss
    assert 1 < best.tokens_per_parameter < 1e5
    for step in (0.9, 1.1):
        assert law.loss(best.N * step, best.D / step) > best.loss


def test_farseer_says_what_cannot_be_reached():
    floor = float(FARSEER.loss(1e9, 1e300))
    assert FARSEER.tokens_for(floor * 0.99, 1e9) == math.inf
    assert FARSEER.params_for(0.1, 1e12) == math.inf
    with pytest.raises(ValueError, match="has 0.1 as its lowest loss"):
        FARSEER.cheapest(0.1)
    with pytest.raises(ValueError, match="wants all of one side"):
        replace(FARSEER, a3=0.0, a2=0.0, a1=0.0).optimal(1e21)  # nothing depends on N
