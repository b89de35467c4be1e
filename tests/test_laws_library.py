"""Properties that every published law has, whatever its form."""

import json

import numpy as np
import pytest

from isoflop import laws
from isoflop.laws import LIBRARY, Law, LossSurface

SURFACES = {name: entry.law for name, entry in LIBRARY.items() if isinstance(entry.law, LossSurface)}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_published_law_says_what_it_means_and_survives_json(name):
    entry = LIBRARY[name]
    assert entry.source
    assert entry.meaning
    assert getattr(laws, name) is entry.law
    assert Law.from_json(json.loads(json.dumps(entry.law.to_json()))) == entry.law
    assert not entry.law.blanks()
    assert not any(f"{{{field}}}" in str(entry.law) for field in entry.law.parameters())


@pytest.mark.parametrize("name", SURFACES)
def test_slopes_are_the_derivatives_of_the_loss(name):
    law, h = SURFACES[name], 1e-5
    N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e12, 6), np.geomspace(1e9, 1e13, 5)))
    by_size, by_tokens = law.slopes(N, D)
    assert by_size == pytest.approx(
        (law.loss(N * (1 + h), D) - law.loss(N * (1 - h), D)) / (2 * h * N), rel=1e-4, abs=0
    )
    assert by_tokens == pytest.approx(
        (law.loss(N, D * (1 + h)) - law.loss(N, D * (1 - h))) / (2 * h * D), rel=1e-4, abs=0
    )


@pytest.mark.parametrize("name", SURFACES)
def test_inverse_questions_undo_the_loss(name):
    law = SURFACES[name]
    for N, D in ((1e8, 3e9), (7e9, 1e12)):
        loss = float(law.loss(N, D))
        assert law.tokens_for(loss, N) == pytest.approx(D, rel=1e-6)
        assert law.params_for(loss, D) == pytest.approx(N, rel=1e-6)
        assert law.compute_for(loss, N) == pytest.approx(6 * N * D, rel=1e-6)


@pytest.mark.parametrize("name", SURFACES)
def test_the_optimum_beats_its_neighbours_and_is_the_cheapest_way_to_its_loss(name):
    law = SURFACES[name]
    best = law.optimal(1e22)
    assert pytest.approx(1e22) == 6 * best.N * best.D
    for step in (0.9, 1.1):
        assert law.loss(best.N * step, best.D / step) > best.loss
    cheapest = law.cheapest(best.loss)
    assert pytest.approx(1e22, rel=1e-5) == cheapest.C
    assert pytest.approx(best.N, rel=1e-3) == cheapest.N
