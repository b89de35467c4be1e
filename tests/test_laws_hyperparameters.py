"""Products of powers and the rules made of them, the gradient noise scale, and Step Law's data."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.laws.fitting.powers import fit_powers
from isoflop.laws.forms.hyperparameters import (
    DEEPSEEK_BATCH,
    DEEPSEEK_FLOPS_PER_TOKEN,
    DEEPSEEK_TOKENS,
    MARIN_BETA2,
    MARIN_LEARNING_RATE,
    MINICPM_BATCH,
    NANOCHAT_BATCH,
    NANOCHAT_LEARNING_RATE,
    NANOCHAT_WEIGHT_DECAY,
    OLMO_CORE_BATCH,
    OLMO_CORE_LEARNING_RATE,
    STEP_LAW_BATCH,
    STEP_LAW_LEARNING_RATE,
    PowerProduct,
    Proportion,
)
from isoflop.laws.forms.law import Law
from isoflop.laws.forms.noise import NoiseScale, gradient_noise
from isoflop.laws.reproduction import steplaw

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "scaling"
needs_data = pytest.mark.skipif(not (DATA / "steplaw").is_dir(), reason="Step Law's data are not here")

power = st.floats(-3, 3)
size = st.floats(1e3, 1e15)


# Products of powers.


@given(N=power, D=power, C=power, B=power, coefficient=st.floats(1e-3, 1e3))
def test_a_product_survives_json_and_prints_only_what_matters(N, D, C, B, coefficient):
    law = PowerProduct(coefficient=coefficient, N=N, D=D, C=C, B=B)
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    assert {name: f"{name}^" in str(law) for name in "NDCB"} == {name: bool(getattr(law, name)) for name in "NDCB"}


def test_a_rule_prints_as_it_is_written():
    assert str(PowerProduct(coefficient=1.79, N=-0.713, D=0.307)) == "y = 1.79·N^-0.713·D^0.307"
    assert str(PowerProduct(D=0.5)) == "y = ?·D^0.5"
    assert str(Proportion(D=0.383)) == "y ∝ D^0.383"
    assert PowerProduct(D=0.5).blanks() == ("coefficient",)


@given(N=size, D=size, N_power=power.filter(lambda p: abs(p) > 0.05), D_power=power)
def test_the_inverse_undoes_the_rule_and_the_slope_is_its_derivative(N, D, N_power, D_power):
    law, h = PowerProduct(coefficient=2.0, N=N_power, D=D_power), 1e-5
    y = law(N=N, D=D)
    assert math.log(law.inverse("N", y, D=D)) == pytest.approx(math.log(N), rel=1e-9)
    difference = (law(N=N * (1 + h), D=D) - law(N=N * (1 - h), D=D)) / (2 * h * N)
    assert law.slope("N", N=N, D=D) == pytest.approx(difference, rel=1e-4)


def test_quantities_broadcast_and_others_may_be_given():
    N, D = np.array([1e8, 1e9]), np.array([[1e10], [1e11]])
    rates = STEP_LAW_LEARNING_RATE(N=N, D=D, C=6 * N * D, width=768)
    assert rates.shape == (2, 2)
    assert rates[1, 0] == pytest.approx(STEP_LAW_LEARNING_RATE(N=1e8, D=1e11))
    assert isinstance(STEP_LAW_BATCH(D=1e10), float)


def test_what_is_missing_unknown_or_impossible_is_said():
    with pytest.raises(ValueError, match="depends on N: give it by name"):
        STEP_LAW_LEARNING_RATE(D=1e10)
    with pytest.raises(ValueError, match="batch is no quantity of a rule; those are N, D, C, L, B, width"):
        STEP_LAW_BATCH(D=1e10, batch=3)
    with pytest.raises(ValueError, match="D must be positive"):
        STEP_LAW_BATCH(D=-1)
    with pytest.raises(ValueError, match="does not depend on N"):
        STEP_LAW_BATCH.inverse("N", 1e6, D=1e10)


def test_a_proportion_goes_through_a_measured_point():
    law = NANOCHAT_BATCH.through(2**19, D=2e9)
    assert law(D=2e9) == pytest.approx(2**19)
    assert law(D=4e9) / law(D=2e9) == pytest.approx(2**0.383)
    assert NANOCHAT_LEARNING_RATE.through(0.02, B=2**19)(B=2**21) == pytest.approx(0.04)
    assert NANOCHAT_WEIGHT_DECAY.through(0.1, B=2**19, D=1e9)(B=2**21, D=4e9) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="depends on D"):
        NANOCHAT_BATCH.through(2**19)


def test_rules_have_the_values_that_their_authors_used():
    # OLMo-core: 160 sequences of 2,048 tokens and half of .0047 at 108 million parameters.
    assert OLMO_CORE_BATCH(N=108e6) == pytest.approx(160 * 2048)
    assert OLMO_CORE_LEARNING_RATE(N=108e6) == pytest.approx(0.00235)
    assert OLMO_CORE_LEARNING_RATE(N=8 * 108e6) == pytest.approx(0.00235 / 2)
    assert MARIN_LEARNING_RATE(B=256, width=1024) == pytest.approx(0.33 * 16 / 1024)
    # The memory of squared gradients is the same number of tokens for every batch.
    assert MARIN_BETA2(512) == pytest.approx(MARIN_BETA2(128) ** 4)
    assert MARIN_BETA2.inverse(MARIN_BETA2(300)) == pytest.approx(300)
    assert MARIN_BETA2.slope(300) == pytest.approx((MARIN_BETA2(300.1) - MARIN_BETA2(299.9)) / 0.2, rel=1e-6)


def test_deepseeks_model_and_data_multiply_to_the_budget():
    for C in (1e18, 1e22, 1e25):
        assert DEEPSEEK_FLOPS_PER_TOKEN(C=C) * DEEPSEEK_TOKENS(C=C) == pytest.approx(C, rel=1e-3)


def test_batches_in_tokens_are_of_one_order_of_magnitude():
    """The rules disagree about a run of 1e9 parameters by a factor of 4.4; a batch in sequences would by thousands."""
    N, D = 1e9, 2e10
    batches = [STEP_LAW_BATCH(D=D), OLMO_CORE_BATCH(N=N), DEEPSEEK_BATCH(C=6 * N * D), MINICPM_BATCH(L=2.8)]
    assert max(batches) < 10 * min(batches)


def test_nanochats_three_rules_keep_the_averaging_time_of_adamw():
    """B/(lr · weight decay · D), the share of the run that the weights average over, is to stay the same."""
    lr = NANOCHAT_LEARNING_RATE.through(0.02, B=2**19)
    decay = NANOCHAT_WEIGHT_DECAY.through(0.1, B=2**19, D=1e9)
    first, second = (B / (lr(B=B) * decay(B=B, D=D) * D) for B, D in ((2**19, 1e9), (2**23, 3e11)))
    assert first == pytest.approx(second)


# Fitting.


def grid(rows, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(18, 22, rows)), np.exp(rng.uniform(22, 26, rows)), rng


@pytest.mark.parametrize("rows", [4, 20, 100])
def test_a_noiseless_rule_is_found_exactly(rows):
    N, D, _ = grid(rows)
    fit = fit_powers(STEP_LAW_LEARNING_RATE(N=N, D=D), N=N, D=D, replicates=50)
    assert fit.law.exponents() == pytest.approx(STEP_LAW_LEARNING_RATE.exponents())
    assert fit.law.coefficient == pytest.approx(STEP_LAW_LEARNING_RATE.coefficient)
    prediction = fit.predict(N=1e12, D=1e13)
    assert prediction.interval == pytest.approx([STEP_LAW_LEARNING_RATE(N=1e12, D=1e13)] * 2)


@pytest.mark.parametrize(("rows", "trials"), [(8, 120), (60, 120)])
def test_intervals_hold_the_truth_as_often_as_they_say(rows, trials):
    truth = PowerProduct(coefficient=2.0, N=-0.7, D=0.3)
    far = {"N": math.exp(24), "D": math.exp(28)}
    held = np.zeros(3)
    for trial in range(trials):
        N, D, rng = grid(rows, trial)
        fit = fit_powers(truth(N=N, D=D) * np.exp(rng.normal(0, 0.3, rows)), N=N, D=D, replicates=200, seed=trial)
        low, high = fit.exponent_intervals()["D"]
        mean = fit.predict(**far)
        new = truth(**far) * math.exp(rng.normal(0, 0.3))
        held += [
            low <= 0.3 <= high,
            mean.confidence[0] <= truth(**far) <= mean.confidence[1],
            mean.interval[0] <= new <= mean.interval[1],
        ]
    assert np.all(held / trials > 0.88)
    assert np.all(held / trials < 1)


def test_replicates_follow_their_seed():
    N, D, rng = grid(12)
    y = STEP_LAW_LEARNING_RATE(N=N, D=D) * np.exp(rng.normal(0, 0.2, 12))
    first, again, other = (fit_powers(y, N=N, D=D, replicates=50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)
    assert fit_powers(y, N=N, D=D).law == first.law


def test_predictions_have_the_shape_of_what_was_asked():
    N, D, rng = grid(30)
    fit = fit_powers(np.exp(rng.normal(0, 0.2, 30)), N=N, D=D, replicates=100)
    prediction = fit.predict(N=[1e9, 1e10], D=[[1e11], [1e12], [1e13]])
    assert prediction.value.shape == prediction.interval[0].shape == (3, 2)
    assert np.all(prediction.interval[0] <= prediction.confidence[0])
    with pytest.raises(ValueError, match="no replicates"):
        fit_powers(N, D=D).predict(D=1e12)


def test_rows_that_cannot_determine_a_rule_are_refused():
    N, D, _ = grid(10)
    with pytest.raises(ValueError, match="do not tell N and D apart"):
        fit_powers(D, N=N, D=20 * N)
    with pytest.raises(ValueError, match="tokens is no quantity of a rule"):
        fit_powers(N, tokens=D)
    with pytest.raises(ValueError, match="3 rows cannot determine 3 numbers"):
        fit_powers(D[:3], N=N[:3], D=D[:3])
    with pytest.raises(ValueError, match="D must be positive and finite, but row 0 is -1"):
        fit_powers(N, D=[-1.0, *D[1:]])


# Gradient noise.


def test_both_estimates_are_unbiased_whether_or_not_the_small_batch_is_part_of_the_big_one():
    rng = np.random.default_rng(0)
    spread = np.array([0.5, 1.0, 2.0, 3.0])
    gradient = np.array([0.3, -0.2, 0.1, 0.4])
    small, big = 2, 16
    examples = gradient + spread * rng.normal(size=(20_000, big, 4))
    others = gradient + spread * rng.normal(size=(20_000, small, 4))
    truth = np.array([(spread**2).sum(), (gradient**2).sum()])
    for part in (examples[:, :small], others):
        norms = [np.sum(batch.mean(axis=1) ** 2, axis=1) for batch in (part, examples)]
        estimates = np.array([gradient_noise(s, b, small, big) for s, b in zip(*norms, strict=True)])
        errors = estimates.std(axis=0) / math.sqrt(len(estimates))
        assert np.all(np.abs(estimates.mean(axis=0) - truth) < 4 * errors)
        assert np.all(errors < 0.05 * truth)  # the test would notice a bias of a fifth
        # Quotients of single steps are no estimate: that is why terms are averaged before dividing.
        assert np.abs(np.mean(estimates[:, 0] / estimates[:, 1]) / (truth[0] / truth[1]) - 1) > 0.2


def test_plain_means_when_nothing_decays():
    steps = [(5.0, 2.0, 1, 8), (4.0, 3.0, 1, 8), (9.0, 2.5, 2, 16)]
    scale = NoiseScale(decay=1)
    for step in steps:
        scale = scale.update(*step)
    means = np.mean([gradient_noise(*step) for step in steps], axis=0)
    assert (scale.trace, scale.squared_gradient) == pytest.approx(tuple(means))
    assert scale.weight == 3
    assert scale.simple == pytest.approx(means[0] / means[1])


def test_decay_follows_a_change_and_is_right_from_the_first_step():
    scale = NoiseScale(decay=0.9).update(11.0, 2.0, 1, 10)
    assert scale.simple == pytest.approx(10.0)  # tr Σ = 10, |G|² = 1
    for _ in range(200):
        scale = scale.update(21.0, 3.0, 1, 10)
    assert scale.simple == pytest.approx(20.0)  # tr Σ = 20, |G|² = 1
    assert scale.weight == pytest.approx(10)


def test_the_unit_is_that_of_the_batch():
    examples = NoiseScale().update(11.0, 2.0, 1, 10).simple
    assert NoiseScale().update(11.0, 2.0, 2048, 20480).simple == pytest.approx(2048 * examples)


def test_a_measurement_sits_in_a_checkpoint():
    scale = NoiseScale(decay=0.95).update(11.0, 2.0, 1, 10).update(7.0, 2.0, 1, 10)
    read = NoiseScale.from_json(json.loads(json.dumps(scale.to_json())))
    assert read == scale
    assert read.update(5.0, 2.0, 1, 10) == scale.update(5.0, 2.0, 1, 10)
    with pytest.raises(ValueError, match="decay, weight, trace, squared_gradient"):
        NoiseScale.from_json({"decay": 0.9})


def test_what_is_not_known_yet_is_nan_and_what_overflowed_is_left_out():
    assert math.isnan(NoiseScale().simple)
    drowned = NoiseScale().update(10.0, 1.0, 1, 10)  # |G|² = 0: all noise
    assert math.isnan(drowned.simple)
    scale = NoiseScale().update(11.0, 2.0, 1, 10)
    assert scale.update(math.inf, 2.0, 1, 10) == scale
    with pytest.raises(ValueError, match="the first must be positive and the smaller"):
        scale.update(11.0, 2.0, 10, 1)
    with pytest.raises(ValueError, match="decay is 0"):
        NoiseScale(decay=0)


# Step Law.


@needs_data
def test_step_laws_fits_are_what_the_paper_prints_and_what_the_library_holds():
    checks = [check for check in steplaw.checks(DATA) if "authors" in check.source]
    assert [str(check) for check in checks if not check.reproduced] == []
    exponents = {check.quantity: check.recomputed for check in checks}
    assert exponents["learning rate, exponent of N"] == pytest.approx(-0.7129, abs=5e-5)
    assert exponents["learning rate, exponent of D"] == pytest.approx(0.3075, abs=5e-5)
    assert exponents["batch, exponent of D"] == pytest.approx(0.5709, abs=5e-5)
    assert list(exponents.values()) == pytest.approx(
        [
            *STEP_LAW_LEARNING_RATE.exponents().values(),
            *STEP_LAW_BATCH.exponents().values(),
            *(STEP_LAW_LEARNING_RATE.coefficient, STEP_LAW_BATCH.coefficient),
        ],
        rel=1e-5,
    )


@needs_data
def test_the_released_runs_give_another_exponent_of_tokens_for_the_rate():
    checks = [check for check in steplaw.checks(DATA) if "released" in check.source]
    assert [check.reproduced for check in checks] == [True, False, True]
    assert [check.recomputed for check in checks] == pytest.approx([-0.767, 0.196, 0.613], abs=0.01)


@needs_data
def test_the_runs_nearest_to_step_law_are_nearly_the_best():
    excess = steplaw.excess_at_law(steplaw.read_runs(DATA))
    assert len(excess) == 17
    assert excess.mean() == pytest.approx(0.00098, abs=1e-5)
    assert excess.max() < 0.0032
