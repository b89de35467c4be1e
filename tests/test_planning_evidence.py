"""Laws in the planner's terms: intervals that their runs support, and the names that people use."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from isoflop.laws import BESIROGLU_2024, LIBRARY, LLAMA3_TOKENS, Chinchilla, analyse, fit
from isoflop.laws.reproduction import chinchilla, llama3
from isoflop.planning.evidence import DRAWS, Estimate, evidence, published, read_law, swept

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "scaling"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not here")


@needs_data
@pytest.mark.parametrize("C", [1e21, 3.8e25])
def test_intervals_of_the_published_surface_are_those_of_a_bootstrap_of_its_runs(C: float) -> None:
    runs = chinchilla.read(DATA)
    refitted = fit(runs.take(chinchilla.usual(runs)), replicates=2000)
    sizes, here = refitted.draw_optimum(C)[0], evidence("BESIROGLU_2024").best_size(C)
    low, high = np.quantile(sizes, [0.025, 0.975])
    assert here.interval == pytest.approx((low, high), rel=0.15)
    best = BESIROGLU_2024.optimal(C)
    loss = evidence("BESIROGLU_2024").loss(best.N, best.D)
    assert loss is not None
    assert loss.interval == pytest.approx(
        tuple(np.quantile(refitted.draw_losses(best.N, best.D), [0.025, 0.975])), rel=4e-3
    )


@needs_data
def test_intervals_of_llama_3s_tokens_are_those_of_its_minima() -> None:
    runs = llama3.read(DATA)
    drawn = 3.8e25 / 6 / analyse(runs.C, runs.N, runs.D, runs.loss, replicates=2000).draw_tokens(3.8e25)
    here = evidence("llama3").best_size(3.8e25)
    assert here.interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=0.15)


def test_a_law_that_knows_no_loss_gives_none() -> None:
    law = evidence("llama3")
    assert law.surface is None
    assert law.loss(1e9, 1e10) is None
    assert law.optimum(4.0e25) == pytest.approx(4.0e25 / 6 / float(LLAMA3_TOKENS(4.0e25)))


def test_a_law_without_known_uncertainty_has_no_interval_and_says_so() -> None:
    law = evidence("HOFFMANN_2022")
    assert law.best_size(1e22).interval is None
    assert any("no interval is known" in remark for remark in law.remarks(1e22))
    with pytest.raises(ValueError, match="no joint uncertainty"):
        LIBRARY["HOFFMANN_2022"].draw(3)


@pytest.mark.parametrize("name", [name for name, entry in LIBRARY.items() if entry.uncertainty])
def test_draws_of_a_published_law_have_the_covariance_that_was_filed(name: str) -> None:
    entry = LIBRARY[name]
    assert entry.uncertainty is not None
    names = list(entry.law.parameters())
    rows = np.array([list(law.parameters().values()) for law in entry.draw(20_000, seed=3)])
    logged = [column for column, each in enumerate(names) if each in entry.uncertainty.logs]
    rows[:, logged] = np.log(rows[:, logged])
    filed = np.array(entry.uncertainty.covariance)
    assert np.array_equal(filed, filed.T)
    assert (np.linalg.eigvalsh(filed) > 0).all()
    spread = np.sqrt(np.diag(filed))
    np.testing.assert_allclose(np.cov(rows.T) / np.outer(spread, spread), filed / np.outer(spread, spread), atol=0.04)


def test_an_interval_for_repeats_is_wider_than_for_fresh_tokens() -> None:
    law = evidence("BESIROGLU_2024")
    fresh, repeated = law.loss(1e9, 2e10), law.loss(1e9, 2e10, unique=1e9)
    assert fresh is not None
    assert repeated is not None
    assert repeated.value > fresh.value
    assert np.ptp(repeated.interval) > np.ptp(fresh.interval)


def test_laws_are_found_by_part_of_their_names_and_the_rest_is_refused_with_all_of_them() -> None:
    assert evidence("hoffmann").name == "HOFFMANN_2022"
    assert evidence("gadre-2024-c4").name == "GADRE_2024_C4"
    with pytest.raises(ValueError, match="could be GADRE_2024_C4, GADRE_2024_REDPAJAMA"):
        evidence("gadre")
    with pytest.raises(ValueError, match="there is no law 'gopher'; give one of HOFFMANN_2022"):
        evidence("gopher")


def test_a_saved_law_is_read_and_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text(json.dumps(BESIROGLU_2024.to_json()))
    law = evidence(str(path))
    assert law.surface == BESIROGLU_2024
    assert law.best_size(1e20) == Estimate(BESIROGLU_2024.optimal(1e20).N)
    path.write_text(json.dumps(LLAMA3_TOKENS.to_json()))
    with pytest.raises(ValueError, match="not a law of N and D"):
        read_law(path)
    for text in ("[1]", "{", '{"kind": "none"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"law"):
            read_law(path)


def test_a_sweeps_pool_holds_both_methods_and_prices_other_sizes_by_its_surface() -> None:
    truth = Chinchilla(E=1.7, A=60.0, alpha=0.35, B=300.0, beta=0.35)
    C = np.repeat(np.geomspace(1e13, 1e15, 5), 7)
    N = np.array([truth.optimal(c).N for c in C]) * np.tile(np.geomspace(0.25, 4, 7), 5)
    loss = truth.loss(N, C / 6 / N) * np.exp(0.002 * np.random.default_rng(0).standard_normal(C.size))
    surface = fit({"N": N, "D": C / 6 / N, "loss": loss}, replicates=200)
    minima = analyse(C, N, C / 6 / N, loss, replicates=200)
    law = swept({"matmul": surface, "body": surface}, minima, ("a status",), 512, 128)
    size = law.best_size(1e16)
    assert size.interval is not None
    assert size.interval[0] < truth.optimal(1e16).N < size.interval[1]
    best, off = law.loss(size.value, 1e16 / 6 / size.value), law.loss(size.value / 4, 4e16 / 6 / size.value)
    assert best is not None
    assert off is not None
    price = float(surface.law.loss(size.value / 4, 4e16 / 6 / size.value)) - surface.law.optimal(1e16).loss
    assert off.value - best.value == pytest.approx(price, rel=0.1)
    assert law.remarks(1e16)[-1] == "a status"
    assert any("IsoFLOP alone" in remark for remark in law.remarks(1e16))


def test_every_published_law_says_how_it_counts() -> None:
    for name, law in published().items():
        assert law.counts == LIBRARY[name].counts
        assert math.isfinite(law.optimum(1e22))
        drawn = law.draw_optimum(1e22)
        assert drawn is None or drawn.shape == (DRAWS,)
