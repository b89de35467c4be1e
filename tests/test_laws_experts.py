"""The mixture-of-experts law, and the curves that it was found on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from isoflop.laws.forms.experts import CLARK_2022_HASH, CLARK_2022_RLR, CLARK_2022_SBASE, RoutingLaw
from isoflop.laws.forms.law import Law
from isoflop.laws.reproduction import routing

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "scaling"
needs_data = pytest.mark.skipif(not (DATA / "routing-moe").is_dir(), reason="the routed models' curves are not here")

LAWS = {"S-Base": CLARK_2022_SBASE, "RL-R": CLARK_2022_RLR, "Hash": CLARK_2022_HASH}
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)

N, E = (mesh.ravel() for mesh in np.meshgrid(np.geomspace(1e7, 1e10, 5), [1.0, 2.0, 16.0, 512.0]))


@each_law
def test_it_survives_json_and_slopes_are_derivatives(law):
    assert Law.from_json(json.loads(json.dumps(law.to_json()))) == law
    by_size, by_experts = law.slopes(N, E)
    h = 1e-5
    assert by_size == pytest.approx((law.loss(N * (1 + h), E) - law.loss(N * (1 - h), E)) / (2 * h * N), rel=1e-5)
    e = np.maximum(E, 1 + 2e-4)  # the law begins at one expert
    difference = (law.loss(N, e + 1e-4) - law.loss(N, e - 1e-4)) / 2e-4
    assert law.slopes(N, e)[1] == pytest.approx(difference, rel=1e-5)
    assert np.all(by_size < 0)
    assert np.all(by_experts < 0)


@each_law
def test_experts_saturate_at_both_ends(law):
    assert law.saturated(1) == pytest.approx(law.e_start)
    assert law.saturated(1e9) == pytest.approx(law.e_max, rel=1e-4)
    assert np.all(np.diff(law.saturated(np.arange(1, 600))) > 0)
    with pytest.raises(ValueError, match="at least one expert"):
        law.saturated([0.5, 2])


@each_law
def test_inverse_questions_undo_the_loss(law):
    loss = law.loss(N, E)
    assert law.params_for(loss, E) == pytest.approx(N, rel=1e-9)
    assert law.experts_for(loss, N) == pytest.approx(E, rel=1e-6)
    assert law.experts_for(9.0, 1e8) == 1  # a dense model does
    assert law.experts_for(0.5, 1e8) == math.inf
    assert law.experts_for(law.loss(1e13, 1) * 0.999, 1e13) == math.inf  # beyond the cut-off experts are in the way


@each_law
def test_effective_params_are_the_dense_model_of_equal_loss(law):
    effective = law.effective_params(N, E)
    assert law.loss(effective, 1) == pytest.approx(law.loss(N, E), rel=1e-12)
    assert effective[E == 1] == pytest.approx(N[E == 1], rel=1e-9)
    assert np.all(effective[E > 1] > N[E > 1])
    # The larger the model, the smaller the factor that the same experts are worth.
    assert np.all(np.diff(effective[E == 16] / N[E == 16]) < 0)


@each_law
def test_experts_stop_helping_at_the_cut_off(law):
    assert law.slopes(law.cutoff * 0.99, 8)[1] < 0 < law.slopes(law.cutoff * 1.01, 8)[1]
    assert law.effective_params(law.cutoff, 512) == pytest.approx(law.cutoff, rel=1e-6)


def test_experts_that_never_stop_helping_have_no_cut_off():
    assert RoutingLaw(a=-0.08, b=-0.1, c=0.0, d=1.1, e_start=2, e_max=300).cutoff == math.inf
    assert RoutingLaw(a=-0.08).blanks() == ("b", "c", "d", "e_start", "e_max")


def test_a_known_law_is_found_again():
    n, e = (mesh.ravel() for mesh in np.meshgrid(np.geomspace(1e7, 1e9, 5), 2.0 ** np.arange(10)))
    found = routing.fit_routing(n, e, CLARK_2022_HASH.loss(n, e))
    assert list(found.parameters().values()) == pytest.approx([*CLARK_2022_HASH.parameters().values()], rel=1e-4)


@needs_data
@pytest.mark.parametrize("router", LAWS)
def test_the_librarys_laws_are_the_best_fits_to_the_curves(router):
    n, e, loss = routing.final_losses(DATA, router)
    fit = routing.fit_routing(n, e, loss)
    assert list(LAWS[router].parameters().values()) == pytest.approx([*fit.parameters().values()], rel=1e-4)
    errors = np.log(fit.loss(n, e) / loss)
    assert np.sqrt(np.mean(errors**2)) < 0.0075
    for name, step in {"b": 0.002, "c": 0.0002, "e_start": 0.2, "e_max": 30}.items():
        moved = RoutingLaw(**{**fit.parameters(), name: fit.parameters()[name] + step})
        assert np.mean(np.log(moved.loss(n, e) / loss) ** 2) > np.mean(errors**2)


@needs_data
@pytest.mark.parametrize("router", LAWS)
def test_routing_helps_less_the_larger_the_model_in_the_curves_themselves(router):
    n, e, loss = routing.final_losses(DATA, router)
    gain = np.array([loss[(n == size) & (e == 2)][0] / loss[(n == size) & (e == 512)][0] for size in np.unique(n)])
    assert gain[-1] < gain[0]
    assert np.polyfit(np.log(np.unique(n)), np.log(gain), 1)[0] < 0


@needs_data
def test_the_printed_constants_are_within_a_standard_error():
    checks = routing.checks(DATA)
    assert len(checks) == 16
    assert [str(check) for check in checks if not check.reproduced] == []
