import pytest

from isoflop.laws import LIBRARY, LossSurface
from isoflop.planning.published import published_readings, table


def test_llama_3s_budget_gives_its_size_and_tokens():
    (reading,) = [r for r in published_readings(4.0e25) if r.name == "LLAMA3_TOKENS"]
    assert pytest.approx(16.55e12, rel=1e-3) == reading.D
    assert pytest.approx(402.8e9, rel=1e-3) == reading.N
    assert reading.loss is None


def test_every_published_surface_is_read_at_its_own_optimum():
    readings = {r.name: r for r in published_readings(1e22)}
    surfaces = {name: entry.law for name, entry in LIBRARY.items() if isinstance(entry.law, LossSurface)}
    assert surfaces.keys() < readings.keys()
    for name, law in surfaces.items():
        r = readings[name]
        assert pytest.approx(1e22) == 6 * r.N * r.D
        assert r.loss <= min(law.loss(r.N * 1.1, r.D / 1.1), law.loss(r.N / 1.1, r.D * 1.1))


def test_constants_that_were_not_verified_say_so():
    lines = {line.split()[0]: line for line in table(1e20).splitlines()[2:]}
    assert "not verified" in lines["KAPLAN_2020"]
    assert "not verified" not in lines["BESIROGLU_2024"]


def test_a_budget_that_is_none_is_refused():
    for budget in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number of FLOPs"):
            published_readings(budget)
