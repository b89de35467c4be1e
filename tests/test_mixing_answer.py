"""The mixtures tried keep to the caps; the answer finds a planted law, keeps to its limits and knows its doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isoflop.laws.fitting.mixture import fit_mixture, spearman
from isoflop.laws.forms.mixture import ExponentialMixture
from isoflop.laws.reproduction.regmix import TARGET, losses_on, read_table
from isoflop.mixing.answer import Answer, answer, best, doubts, drawn_laws, gain
from isoflop.mixing.design import design, drawn
from isoflop.mixing.opinions import opinions
from isoflop.mixing.settings import Domain, HeldOut, MixConfig

REGMIX = Path(__file__).resolve().parents[2] / "shared" / "data" / "mixing" / "regmix"
SIZES = {"code": 4_000_000, "web": 10_000_000, "math": 2_000_000, "other": 4_000_000}
TARGETS = {"code": 0.5, "web": 0.0, "math": 0.5, "other": 0.0}
CONFIG = MixConfig(
    tuple(Domain(name, name, size) for name, size in SIZES.items()),
    tuple(HeldOut(name, name, "validation", share) for name, share in TARGETS.items()),
    vocab=512,
    parameters=2e5,
    tokens=1_000_000,
    target_tokens=2e7,
    replicates=60,
)
PLANTED = ExponentialMixture(
    tuple(SIZES),
    tuple(TARGETS),
    c=(2.0, 2.5, 1.5, 3.0),
    k=(1.0,) * 4,
    t=tuple(tuple(0.6 - 1.2 * (i == j) - 0.3 * (j == 0) for j in range(4)) for i in range(4)),
    s=tuple(TARGETS.values()),
)


def losses(config: MixConfig, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the design and the planted law's losses there, with noise."""
    weights = np.array(list(design(config).values()))
    exact = PLANTED.predict(weights)
    return weights, exact + noise * np.random.default_rng(seed).standard_normal(exact.shape)


@pytest.fixture(scope="module")
def found() -> Answer:
    return answer(CONFIG, *losses(CONFIG, 0.005))


# What is tried


@pytest.mark.parametrize("proxies", [7, 8, 32, 100])
@pytest.mark.parametrize("target_tokens", [1e6, 2e7, 7.9e7])
def test_every_mixture_tried_sums_to_one_within_the_caps_and_holds_every_domain(
    proxies: int, target_tokens: float
) -> None:
    config = replace(CONFIG, proxies=proxies, target_tokens=target_tokens)
    weights = np.array(list(design(config).values()))
    assert weights.shape == (proxies, 4)
    assert np.allclose(weights.sum(axis=1), 1)
    assert (weights <= config.caps + 1e-12).all()
    assert (weights > 0).all()


def test_first_mixtures_do_not_depend_on_how_many_there_are_and_all_do_on_the_seed() -> None:
    assert np.array_equal(drawn(CONFIG, 9), drawn(CONFIG, 40)[:9])
    assert not np.allclose(drawn(CONFIG, 9), drawn(replace(CONFIG, seed=1), 9))


def test_drawn_mixtures_lean_to_the_prior_and_cover_the_simplex() -> None:
    weights = drawn(CONFIG, 512)
    flattened = CONFIG.natural**CONFIG.temperature
    assert weights.mean(axis=0) == pytest.approx(flattened / flattened.sum(), abs=0.03)
    assert (weights.max(axis=0) > 0.7).all()


def test_a_proxy_repeats_a_domain_as_often_as_the_run_it_stands_for() -> None:
    share = CONFIG.tokens / CONFIG.target_tokens
    assert CONFIG.limits == pytest.approx([size * share for size in SIZES.values()], abs=CONFIG.context)
    passes = CONFIG.uniform * CONFIG.tokens / np.array(CONFIG.limits)
    assert passes == pytest.approx(CONFIG.epochs_of(CONFIG.uniform), rel=1e-3)
    assert replace(CONFIG, target_tokens=1e5).limits == tuple(SIZES.values())
    assert min(replace(CONFIG, tokens=10).limits) == CONFIG.context


def test_a_search_that_cannot_end_is_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match=r"no mixture keeps to 4 epochs: .* 5 passes"):
        replace(CONFIG, target_tokens=1e8)
    with pytest.raises(ValueError, match=r"only the natural mixture keeps to 4 epochs: .* 4 passes"):
        replace(CONFIG, target_tokens=4.0 * sum(SIZES.values()))
    with pytest.raises(ValueError, match="6 proxies cannot teach a law of 4 domains: give 7"):
        replace(CONFIG, proxies=6)
    with pytest.raises(ValueError, match="different names"):
        replace(CONFIG, domains=(CONFIG.domains[0],) * 2)
    with pytest.raises(ValueError, match="must sum to one"):
        replace(CONFIG, held_out=CONFIG.held_out[:1])


# What is chosen


def test_a_planted_law_is_found_with_its_gain_inside_the_interval(found: Answer) -> None:
    optimum = np.array(best(CONFIG, PLANTED).weights)
    assert found.weights == pytest.approx(optimum, abs=0.03)
    for one in found.gains:
        truth = float(PLANTED(one.weights) - PLANTED(found.weights))
        low, high = one.predicted.confidence
        assert low < truth < high
        assert one.predicted.interval[0] <= low
        assert one.predicted.interval[1] >= high
    assert found.opinions[0].spearman > 0.98
    assert (found.spread[0] <= found.weights + 1e-9).all()
    assert (found.weights <= found.spread[1] + 1e-9).all()


def test_caps_bind_exactly_and_hold_for_every_refit() -> None:
    config = replace(CONFIG, target_tokens=4e7)  # math at most 20%, which is worth more than that
    found = answer(config, *losses(config, 0.005))
    assert found.weights[2] == pytest.approx(config.caps[2], abs=1e-9)
    assert config.epochs_of(found.weights)[2] == pytest.approx(config.epochs)
    assert (found.spread <= config.caps + 1e-9).all()
    assert any("at their caps" in status and "math" in status for status in found.statuses)


def test_a_kl_term_without_limit_gives_the_prior_and_none_gives_the_laws_own_optimum() -> None:
    heavy = best(replace(CONFIG, strength=1e4), PLANTED)
    assert heavy.weights == pytest.approx(CONFIG.natural, abs=1e-4)
    heavy = best(replace(CONFIG, strength=1e4, prior="uniform"), PLANTED)
    assert heavy.weights == pytest.approx(CONFIG.uniform, abs=1e-4)
    divergences = [best(replace(CONFIG, strength=s), PLANTED).divergence for s in (0.0, 0.05, 0.5, 5.0)]
    assert divergences == sorted(divergences, reverse=True)
    free = best(replace(CONFIG, strength=0.0), PLANTED)
    tried = np.random.default_rng(0).dirichlet(np.ones(4), 20_000)
    tried = tried[(tried <= CONFIG.caps).all(axis=1)]
    assert free.loss <= PLANTED(tried).min()


def test_noise_that_drowns_the_law_is_said() -> None:
    flat = replace(PLANTED, t=((-0.1,) * 4,) * 4)
    weights, _ = losses(CONFIG, 0)
    noisy = flat.predict(weights) + 0.02 * np.random.default_rng(1).standard_normal((len(weights), 4))
    found = answer(CONFIG, weights, noisy)
    assert any("rank correlation" in status for status in found.statuses)


def test_a_choice_among_noise_is_corrected_for_having_been_chosen() -> None:
    """The law is flat, so every gain is zero in truth: what was chosen must not seem to gain on average."""
    config = replace(CONFIG, strength=0.0, replicates=30)
    flat = replace(PLANTED, t=((-0.1,) * 4,) * 4)
    weights, _ = losses(config, 0)
    corrected, apparent, claims = [], [], 0
    for seed in range(12):
        noisy = flat.predict(weights) + 0.02 * np.random.default_rng(seed).standard_normal((len(weights), 4))
        fit = fit_mixture(weights, noisy, shares=config.shares, replicates=config.replicates, seed=seed)
        laws = drawn_laws(fit)
        chosen, *optima = (np.array(best(config, law).weights) for law in (fit.law, *laws))
        one = gain("natural", fit, laws, chosen, np.array(optima), config.natural)
        corrected.append(float(one.predicted.value))
        apparent.append(corrected[-1] + one.optimism)
        claims += one.predicted.confidence[0] > 0
    assert np.mean(apparent) > 0.004
    assert abs(np.mean(corrected)) < 0.6 * np.mean(apparent)
    assert claims <= 2  # of 12


def test_a_gain_whose_interval_reaches_zero_is_said(found: Answer) -> None:
    sure, unsure = found.gains
    value, low, high = 0.01, -0.005, 0.02
    unsure = replace(unsure, predicted=replace(unsure.predicted, value=value, confidence=(low, high)))
    said = doubts((sure, unsure), found.opinions)
    assert said == ["the proxies do not show that the mixture is better than the uniform one"]


@pytest.mark.slow
@pytest.mark.skipif(not REGMIX.exists(), reason="RegMix's runs are not here")
def test_left_out_predictions_of_published_runs_rank_as_well_as_predictions_of_unseen_ones() -> None:
    domains, weights = read_table(REGMIX / "train_mixture_1m.csv")
    weights, measured = weights[:80], losses_on(TARGET, REGMIX / "train_pile_loss_1m.csv")[:80, None]
    config = MixConfig(
        tuple(Domain(name, name, 10**9) for name in domains),
        (HeldOut(TARGET, TARGET, "validation", 1.0),),
        vocab=50_000,
        parameters=1e6,
        tokens=10**9,
        target_tokens=len(domains) * 1e9,
        proxies=80,
        strength=0.0,
        epochs=5.0,
    )
    said = opinions(config, weights, measured)[0]
    law = fit_mixture(weights, measured, domains=domains).law
    _, unseen = read_table(REGMIX / "test_mixture_1m.csv")
    held_out = losses_on(TARGET, REGMIX / "test_pile_loss_1m.csv")
    ranks = spearman(law(unseen), held_out)
    assert said.spearman == pytest.approx(ranks, abs=0.06)
    assert ranks > 0.85
    chosen = dict(zip(domains, best(config, law).weights, strict=True))
    assert chosen[TARGET] == pytest.approx(config.caps[0], abs=1e-6)  # the law runs to the cap, as published
