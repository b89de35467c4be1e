"""Chinchilla's surface and Llama 3's size, recomputed from the published points; and the table of all papers."""

from pathlib import Path

import numpy as np
import pytest

from isoflop import laws
from isoflop.laws.reproduction import chinchilla, llama3
from isoflop.laws.reproduction.all import PAPERS

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = SHARED / "data"
FOLDER = DATA / "scaling"
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published runs are not here")


@needs_data
@pytest.mark.parametrize("paper", [chinchilla, llama3], ids=["chinchilla", "llama3"])
def test_every_published_number_is_reproduced(paper):
    checks = paper.checks(FOLDER)
    assert len(checks) >= 9
    assert [str(check) for check in checks if not check.reproduced] == []


@needs_data
def test_the_optimum_is_below_the_printed_point_and_below_an_earlier_search():
    runs = chinchilla.read(FOLDER)
    runs = runs.take(chinchilla.usual(runs))
    assert len(runs) == 240
    found = laws.fit(runs)
    assert found.objective == pytest.approx(chinchilla.objective(found.law, runs), rel=1e-12)
    earlier = chinchilla.objective(laws.Chinchilla(**chinchilla.OPTIMUM), runs)
    assert found.objective < earlier < chinchilla.objective(laws.BESIROGLU_2024, runs)


@needs_data
def test_the_authors_resamplings_give_their_standard_errors_to_the_digit():
    runs = chinchilla.read(FOLDER)
    errors = chinchilla.standard_errors(laws.fit(runs.take(chinchilla.usual(runs))))
    assert round(errors["A"], 2) == 124.48
    assert round(errors["E"], 5) == 0.02565
    assert round(errors["alpha"], 5) == 0.01540
    assert round(errors["beta"], 5) == 0.02059
    assert errors["B"] == pytest.approx(1292.7, rel=5e-4)


@needs_data
def test_the_printed_constants_of_llama_3_are_too_few_digits_for_its_headline():
    tokens = llama3.read(FOLDER)
    found = laws.analyse(tokens.C, tokens.N, tokens.D, tokens.loss, replicates=0).tokens
    assert float(found(4.0e25)) / 1e12 == pytest.approx(16.55, abs=0.005)
    printed = laws.PowerLaw(coefficient=0.29, exponent=0.53)
    assert float(printed(3.8e25)) / 1e12 == pytest.approx(10.46, abs=0.005)


@needs_data
def test_weights_of_the_squared_loss_make_log_residuals_those_of_the_loss():
    runs = llama3.read(FOLDER)
    law = llama3.least_squares(runs)
    best = np.sum((law.loss(runs.N, runs.D) - runs.loss) ** 2)
    for name, value in law.parameters().items():
        for factor in (0.998, 1.002):
            moved = laws.Chinchilla(**(law.parameters() | {name: value * factor}))
            assert np.sum((moved.loss(runs.N, runs.D) - runs.loss) ** 2) > best


def test_every_reproduction_is_in_the_table():
    modules = {path.stem for path in Path(chinchilla.__file__).parent.glob("*.py")} - {"__init__", "all", "check"}
    assert {paper.recompute.__module__.rsplit(".", 1)[1] for paper in PAPERS} == modules
    assert len({paper.name for paper in PAPERS}) == len(PAPERS)


def test_an_empty_folder_misses_every_file(tmp_path):
    for paper in PAPERS:
        assert len(paper.missing(tmp_path)) == len(paper.files) > 0


@needs_data
def test_the_table_names_the_files_that_the_checks_read(tmp_path):
    for paper in PAPERS:
        assert paper.missing(DATA) == ()
    for name in ("llama3", "steplaw", "muennighoff"):
        paper = next(paper for paper in PAPERS if paper.name == name)
        for file in paper.files:
            (tmp_path / paper.room / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / paper.room / file).symlink_to(DATA / paper.room / file)
        assert paper.checks(tmp_path) == paper.checks(DATA)
