from pathlib import Path

import numpy as np
import pytest

from isoflop.laws import BESIROGLU_2024, Chinchilla, PoweredSum, compare, fit

LLAMA3 = Path(__file__).resolve().parents[2] / "shared" / "data" / "scaling" / "llama3" / "isoflops_points.csv"


pytestmark = pytest.mark.filterwarnings("error")


def sweep(span=3.0, noise=0.0005, tilt=0.0, law=BESIROGLU_2024, seed=0):
    """Six budgets of seven sizes about the optimum, or with a tilt more and more to one side of it."""
    C = np.repeat(np.geomspace(1e18, 1e20, 6), 7)
    N = np.array([law.optimal(c).N for c in C]) * np.tile(np.geomspace(1 / span, span, 7), 6) * np.exp(tilt)
    N *= (C / 1e19) ** (tilt / 7)
    loss = law.loss(N, C / 6 / N) * np.exp(noise * np.random.default_rng(seed).standard_normal(N.size))
    return {"N": N, "D": C / 6 / N, "loss": loss}


@pytest.fixture(scope="module")
def llama3():
    if not LLAMA3.exists():
        pytest.skip("published data is not beside the repository")
    return compare(LLAMA3, 3.8e25, replicates=200)


def test_the_two_readings_of_llama3s_points_are_a_factor_of_two_apart(llama3):
    assert llama3.ratio == pytest.approx(2.3, abs=0.1)
    assert llama3.D.value == pytest.approx(16.10e12, rel=1e-3)  # the minima's, recomputed from the paper's figure
    assert llama3.N.value == pytest.approx(393.3e9, rel=1e-3)
    assert llama3.by_surface.D.value < 9e12
    assert llama3.ratio == llama3.D.value / llama3.by_surface.D.value


def test_their_disagreement_is_said_with_its_reach_its_price_and_a_remedy(llama3):
    assert llama3.statement.startswith("The two DISAGREE: the minima want 2.3× the surface's tokens")
    assert "3.8e+03 times beyond the largest budget" in llama3.statement
    assert "intervals overlap all the same" in llama3.statement
    assert "under least squares" in llama3.statement
    assert "at 3 to 10 times 1e+22 FLOPs would tell" in llama3.statement
    follow = llama3.surface.law.loss(3.8e25 / 6 / llama3.D.value, llama3.D.value) - llama3.by_surface.loss.value
    assert f"costs {follow:.4f} nats" in llama3.statement
    assert follow > 0


def test_intervals_hold_their_own_reading_and_are_written_as_plain_values(llama3):
    told = llama3.to_json()
    assert told["ratio"] == llama3.ratio
    for reading in ("surface", "isoflop"):
        for name in ("N", "D", "loss"):
            value, (low, high) = told[reading][name]["value"], told[reading][name]["interval_95"]
            assert low < value < high
    assert llama3.statement in str(llama3)
    assert "IsoFLOP minima" in str(llama3)


@pytest.mark.parametrize("span", [1.5, 3.0, 6.0])
def test_centred_curves_of_one_surface_agree(span):
    found = compare(sweep(span), 1e21, replicates=40)
    assert found.ratio == pytest.approx(1.0, abs=0.02)
    assert found.statement.startswith("The two agree: D* within ")
    assert found.D.value == pytest.approx(BESIROGLU_2024.optimal(1e21).D, rel=0.05)
    assert found.loss.value == pytest.approx(BESIROGLU_2024.optimal(1e21).loss, rel=0.01)


def test_grids_that_drift_off_their_minima_make_the_two_disagree():
    found = compare(sweep(6.0, tilt=1.4), 1e22, replicates=40)
    assert found.ratio < 0.8
    assert "DISAGREE" in found.statement
    assert "100 times beyond the largest budget" in found.statement
    # The surface is right here, and is not what moves.
    assert found.by_surface.D.value == pytest.approx(BESIROGLU_2024.optimal(1e22).D, rel=0.1)
    within = compare(sweep(6.0, tilt=1.4), 1e18, replicates=40)
    assert "DISAGREE" not in within.statement or "within the budgets that were run" in within.statement


@pytest.mark.parametrize(("E", "seed", "told"), [(1.0, 0, True), (1.4, 2, False)])
def test_what_a_form_holds_is_held_too_when_residuals_are_weighed_otherwise(E, seed, told):
    table = sweep(6.0, tilt=1.4, noise=0.002, seed=seed)
    found = compare(table, 1e22, Chinchilla(E=E), replicates=40)
    assert found.surface.law.E == E
    held, free = (
        fit(table, form, delta=0.1).law.optimal(1e22).D / found.by_surface.D.value
        for form in (Chinchilla(E=E), Chinchilla())
    )
    assert abs(held / free - 1) > 0.2
    assert (f"becomes {held:.2g}× itself under least squares" in found.statement) == told


def test_the_surface_may_be_of_another_form():
    table = sweep(6.0, tilt=1.4)
    one, other = (compare(table, 1e22, form, replicates=40) for form in (Chinchilla, PoweredSum(gamma=1.0)))
    assert isinstance(other.surface.law, PoweredSum)
    assert other.ratio == pytest.approx(one.ratio, rel=1e-3)


def test_runs_without_curves_are_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    N, D = 10 ** rng.uniform(6, 9, 30), 10 ** rng.uniform(8, 11, 30)
    with pytest.raises(ValueError, match="do not cluster at budgets"):
        compare({"N": N, "D": D, "loss": BESIROGLU_2024.loss(N, D)}, 1e22)
    with pytest.raises(ValueError, match="two budgets with a minimum"):
        compare(sweep(1.3, tilt=3.0, noise=0), 1e22)


def test_seeds_reproduce():
    one, same, other = (compare(sweep(noise=0.003), 1e22, replicates=40, seed=seed) for seed in (1, 1, 2))
    assert one.to_json() == same.to_json()
    assert one.D.value == other.D.value
    assert one.D.confidence != other.D.confidence
