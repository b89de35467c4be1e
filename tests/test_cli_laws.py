"""``isoflop fit``, ``isoflop laws`` and ``isoflop reproduce``: what they print, as text and as JSON."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoflop import laws
from isoflop.cli import run
from isoflop.cli.fit import Arguments, Form, numbers, pairs
from isoflop.cli.tables import aligned, plain
from isoflop.files import write_json
from isoflop.laws.reproduction import all as papers
from isoflop.laws.reproduction.check import Check
from isoflop.sweeps.grid import SweepConfig
from isoflop.sweeps.grid import columns as columns_of
from isoflop.sweeps.layout import lay_out

Capture = pytest.CaptureFixture[str]
SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA = SHARED / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published data are not here")
TRUTH = laws.BESIROGLU_2024
FEW = ["--replicates", "40"]


def table(noise: float = 1e-3, seed: int = 0) -> dict[str, Any]:
    """Five budgets of six sizes from a known law."""
    C = np.repeat(np.geomspace(1e18, 1e20, 5), 6)
    N = np.array([TRUTH.optimal(c).N for c in C]) * np.tile(np.geomspace(0.25, 4, 6), 5)
    D = C / 6 / N
    loss = TRUTH.loss(N, D) * np.exp(noise * np.random.default_rng(seed).standard_normal(C.size))
    return {"N": N, "D": D, "loss": loss}


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "runs.csv", table())


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's directory whose runs are not trained but computed, and one of which is missing."""
    config = SweepConfig((3e11, 6e11, 1.2e12, 2.4e12), "../tokens", 512, context=128)
    law = laws.Chinchilla(E=1.7, A=60.0, alpha=0.35, B=300.0, beta=0.35)
    lay_out(config, tmp_path / "sweep")
    names = [(name, run) for column in columns_of(config) for name, run in column.runs if "/C" in name]
    for i, (name, config_of_run) in enumerate(names[1:]):
        shape, tokens = config_of_run.shape, config_of_run.schedule.tokens
        loss = float(law.loss(shape.matmul, tokens)) * (1 + 1e-3 * (-1) ** i)
        sizes = {"N_matmul": shape.matmul, "N_body": shape.body, "N_total": shape.total, "tokens": tokens}
        rest = {"validation_loss": loss, "validation_bpb": loss, "flops_exact": 1.0, "seconds": 1.0}
        write_json(tmp_path / "sweep" / name / "summary.json", sizes | rest)
    return tmp_path / "sweep"


def told(capture: Capture, *arguments: object) -> str:
    """What a command prints when it succeeds."""
    status = run(str(arguments[0]), [str(argument) for argument in arguments[1:]])
    captured = capture.readouterr()
    assert status == 0, captured.err
    return captured.out


def told_json(capture: Capture, *arguments: object) -> Any:
    return json.loads(told(capture, *arguments, "--json"), parse_constant=pytest.fail)


def refused(capture: Capture, *arguments: object) -> str:
    """The one sentence of a command that fails."""
    assert run(str(arguments[0]), [str(argument) for argument in arguments[1:]]) == 1
    captured = capture.readouterr()
    assert captured.err.startswith("isoflop: ")
    assert captured.err.count("\n") == 1
    return captured.err


# isoflop fit


def test_fit_alone_shows_the_law_its_intervals_and_the_minima(runs: Path, capsys: Capture) -> None:
    lines = told(capsys, "fit", runs, *FEW).splitlines()
    found = laws.fit(runs, replicates=40)
    assert lines[0] == str(found.law)
    assert "30 runs" in lines[1]
    assert f"{found.residual_sd:.2%}" in lines[1]
    low, high = found.parameter_intervals()["alpha"]
    assert f"  α  {found.law.alpha:.5g}" in next(line for line in lines if line.startswith("  α"))
    assert f"{low:.4g} to {high:.4g}" in next(line for line in lines if line.startswith("  α"))
    minima = lines[lines.index("IsoFLOP minima") + 2 :]
    assert [line.split()[0] for line in minima[:5]] == ["1e+18", "3.16e+18", "1e+19", "3.16e+19", "1e+20"]
    assert any(line.startswith("  D*(C) = ") and "95% of the exponent" in line for line in minima)


def test_one_document_holds_everything_that_is_asked(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    asked = ["--at", "1e21,1e22", "--at", "1e23", "--validate", "--profile", "alpha,E", "--next", "1e22"]
    files = ["--figures", tmp_path / "figures", "--format", "svg", "--save", tmp_path / "law.json"]
    found = told_json(capsys, "fit", runs, *FEW, *asked, *files)
    compared = laws.compare(laws.read_runs(runs), 1e23, replicates=40)
    methods = found["at"][2]["methods"]
    assert [at["C"] for at in found["at"]] == [1e21, 1e22, 1e23]
    assert methods["IsoFLOP minima"]["D*"]["value"] == pytest.approx(compared.D.value)
    assert methods["surface (Chinchilla)"]["N*"]["interval_95"] == pytest.approx(compared.by_surface.N.confidence)
    assert found["at"][2]["statement"] == compared.statement
    assert found["validation"]["best"] in {"Chinchilla", "PoweredSum", "OverTraining", "IsoFLOP minima"}
    assert [p["name"] for p in found["profiles"]] == ["alpha", "E"]
    widths = [candidate["width"] for candidate in found["next"]["candidates"]]
    assert widths == sorted(widths)
    assert laws.Law.from_json(json.loads((tmp_path / "law.json").read_text())).to_json() == found["fit"]["law"]
    assert {Path(path).name for path in found["figures"]} == {
        f"{name}.svg"
        for name in ("residuals", "isoflop", "optimum", "surface", "validation", "profile-alpha", "profile-E")
    }
    assert all(Path(path).stat().st_size > 1000 for path in found["figures"])


def test_the_same_questions_as_text(runs: Path, tmp_path: Path, capsys: Capture) -> None:
    asked = ["--at", "1e22", "--profile", "beta", "--next", "1e22", "--candidates", "3e20", "--save", tmp_path / "law"]
    out = told(capsys, "fit", runs, *FEW, *asked)
    compared = laws.compare(laws.read_runs(runs), 1e22, replicates=40)
    block = out[out.index("at C = 1e+22") :]
    assert [line.split()[0] for line in block.splitlines()[:5]] == ["at", "N*", "D*", "D*/N*", "loss"]
    assert compared.statement in out
    assert str(laws.profile(laws.fit(runs, replicates=40), "beta")) in out
    ranked = out[out.index("which run next") :].splitlines()
    assert all("3e+20" in line for line in ranked[2:9])
    assert out.rstrip().endswith(f"law: {tmp_path / 'law'}")


@pytest.mark.parametrize("form", [form for form in Form.__args__ if form not in ("auto", "data-constrained")])
def test_every_form_can_be_fitted(form: str, runs: Path, capsys: Capture) -> None:
    found = told_json(capsys, "fit", runs, "--form", form, "--replicates", 0)
    assert found["fit"]["law"]["kind"] == form


def test_repeated_data_takes_a_column_of_unique_tokens(tmp_path: Path, capsys: Capture) -> None:
    columns = table()
    path = write_csv(tmp_path / "u.csv", columns | {"unique": columns["D"] / np.tile([1, 2, 4], 10)})
    found = told_json(capsys, "fit", path, "--form", "data-constrained", "--replicates", 0)
    assert found["fit"]["law"]["kind"] == "data-constrained"
    without = write_csv(tmp_path / "n.csv", columns)
    assert "no column U" in refused(capsys, "fit", without, "--form", "data-constrained")


def test_a_law_of_compute_alone_is_read_at_a_budget_and_one_of_size_is_not(runs: Path, capsys: Capture) -> None:
    found = told_json(capsys, "fit", runs, *FEW, "--form", "saturating-power-law", "--at", "1e21")
    fit = laws.fit(runs, laws.SaturatingPowerLaw, x="C", replicates=40)
    assert found["at"][0]["methods"]["SaturatingPowerLaw"]["loss"]["value"] == pytest.approx(fit.predict(1e21).value)
    of_size = told(capsys, "fit", runs, *FEW, "--form", "saturating-power-law", "--x", "N", "--at", "1e21")
    assert "a law of N alone says nothing of a budget" in of_size
    assert "IsoFLOP minima" in of_size.splitlines()[-7]


def test_columns_are_named_in_either_way_and_files_are_joined(tmp_path: Path, capsys: Capture) -> None:
    columns = table()
    named = {"size": columns["N"], "seen": columns["D"], "c4, held out": columns["loss"]}
    half = {name: (values[:15], values[15:]) for name, values in named.items()}
    a, b = (write_csv(tmp_path / f"{i}.csv", {name: part[i] for name, part in half.items()}) for i in (0, 1))
    renamed = [path.write_text(path.read_text().replace('"c4, held out"', "c4")) for path in (a, b)]
    assert all(renamed)
    expected = str(laws.fit({"N": columns["N"], "D": columns["D"], "loss": columns["loss"]}).law)
    for options in (["--columns", "N=size,D=seen,loss=c4"], ["--columns", "N=size", "--columns", "D=seen,loss=c4"]):
        assert expected in told(capsys, "fit", a, b, *options, "--replicates", 0)


def test_outliers_are_named_and_left_out_when_asked(tmp_path: Path, capsys: Capture) -> None:
    columns = table()
    columns["loss"][7] *= 1.2  # line 9 of the file
    path = write_csv(tmp_path / "runs.csv", columns)
    assert "outliers: 1 of 30 runs lie over 5 sd away (line 9)" in told(capsys, "fit", path, "--replicates", 0)
    found = told_json(capsys, "fit", path, "--replicates", 0, "--drop-outliers")
    assert "left out: 1 outliers of a first fit (line 9)" in found["notes"]
    assert found["fit"]["runs"] == 29
    kept = laws.read_runs(path).take(np.arange(30) != 7)
    assert found["fit"]["law"] == laws.fit(kept).law.to_json()


def test_the_largest_losses_are_left_out_when_asked(runs: Path, capsys: Capture) -> None:
    found = told_json(capsys, "fit", runs, "--replicates", 0, "--drop-largest", 3)
    table = laws.read_runs(runs)
    assert found["fit"]["law"] == laws.fit(table.take(table.loss < np.sort(table.loss)[-3])).law.to_json()
    assert found["fit"]["runs"] == 27


def test_runs_that_share_no_budgets_have_no_minima(tmp_path: Path, capsys: Capture) -> None:
    N, D = np.geomspace(1e8, 1e9, 24), 1e10 * np.geomspace(1, 30, 24)[np.argsort(np.sin(np.arange(24)))]
    path = write_csv(tmp_path / "runs.csv", {"N": N, "D": D, "loss": TRUTH.loss(N, D)})
    assert told_json(capsys, "fit", path, *FEW, "--at", "1e22")["isoflop"] is None
    out = told(capsys, "fit", path, *FEW, "--at", "1e22")
    assert "IsoFLOP" not in out
    assert "surface (Chinchilla)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no runs are given"),
        (["{missing}"], "missing.csv"),
        (["{runs}", "--columns", "N=width"], "no column 'width'"),
        (["{runs}", "--columns", "N"], "--columns takes pairs"),
        (["{runs}", "--at", "large"], "--at takes budgets in FLOPs"),
        (["{runs}", "--at", "1e22", "--replicates", "0"], "replicates"),
        (["{runs}", "--replicates", "3"], "at least 20"),
        (["{runs}", "--profile", "zeta"], "zeta cannot be profiled"),
        (["{runs}", "{runs}"], "the same run"),
        (["{faulty}"], "line 3"),
        (["{runs}", "--delta", "0"], "delta is 0"),
        (["{runs}", "--drop-largest", "30"], "drop_largest is 30"),
        (["{runs}", "--drop-largest", "-1"], "drop_largest is -1"),
    ],
)
def test_faulty_input_gets_one_sentence(
    arguments: list[str], words: str, runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    columns = table()
    columns["loss"] = columns["loss"].astype(object)
    columns["loss"][1] = "n/a"
    faulty = write_csv(tmp_path / "faulty.csv", columns)
    places = {"runs": runs, "missing": tmp_path / "missing.csv", "faulty": faulty}
    assert words in refused(capsys, "fit", *(argument.format(**places) for argument in arguments))


def test_figures_without_matplotlib_say_how_to_get_it(
    runs: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'isoflop[report]'" in refused(capsys, "fit", runs, *FEW, "--figures", tmp_path / "figures")


def test_a_sweep_is_fitted_under_both_conventions(sweep: Path, capsys: Capture) -> None:
    out = told(capsys, "fit", sweep, *FEW)
    assert out.startswith("surface, N = matmul: L = ")
    assert "surface, N = body: L = " in out
    assert "D*(C): y = " in out
    assert "note: 1 cells of the grid are not finished and are left out" in out
    found = told_json(capsys, "fit", sweep, *FEW, "--at", "1e14")
    assert {"surfaces", "isoflop", "statuses", "at"} <= set(found)
    assert set(found["surfaces"]) == {"matmul", "body"}
    assert "IsoFLOP minima" in found["at"][0]["methods"]


def test_a_sweep_with_a_form_is_a_table_of_runs_and_still_tells_what_is_missing(sweep: Path, capsys: Capture) -> None:
    out = told(capsys, "fit", sweep, "--form", "chinchilla", *FEW)
    assert out.startswith("L = 1.")
    assert "1 cells are not finished" in out


def test_options_read_as_they_are_written() -> None:
    assert numbers("--at", ("1e22, 3e22", "1")) == [1e22, 3e22, 1.0]
    assert pairs(("N=size,loss=a=b", "D=tokens")) == {"N": "size", "loss": "a=b", "D": "tokens"}
    assert Arguments(runs=()).form == "auto"


def test_json_has_no_number_that_is_not_one() -> None:
    value = {"a": np.array([1.0, np.nan]), "b": (np.inf, 2), "c": np.float64(3), "d": [{"e": -np.inf}], "f": True}
    assert plain(value) == {"a": [1.0, None], "b": [None, 2], "c": 3.0, "d": [{"e": None}], "f": True}


def test_columns_are_aligned() -> None:
    assert aligned([("a", "bb", ""), ("ccc", "d", "e")]) == "  a    bb\n  ccc  d   e"


# isoflop laws


def test_every_law_is_one_whole_line_of_a_pipe() -> None:
    result = subprocess.run([sys.executable, "-m", "isoflop", "laws"], capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == list(laws.LIBRARY)
    for name, law, meaning, source, checked in lines:
        entry = laws.LIBRARY[name]
        assert (law, meaning, source) == (str(entry.law), entry.meaning, entry.source)
        assert checked == ("verified" if entry.verified else "not verified")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_terminal_nothing_is_cut_off(width: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    out = told(capsys, "laws")
    assert max(map(len, out.splitlines())) <= width
    squeezed = "".join(out.split())
    for entry in laws.LIBRARY.values():
        for words in (entry.name, str(entry.law), entry.meaning, entry.source):
            assert "".join(words.split()) in squeezed


@pytest.mark.parametrize("name", laws.LIBRARY)
def test_one_law_is_told_in_full_in_any_case(name: str, capsys: Capture) -> None:
    entry = laws.LIBRARY[name]
    out = told(capsys, "laws", name.lower())
    for words in (name, str(entry.law), entry.meaning, entry.source, entry.note):
        assert words in out
    found = told_json(capsys, "laws", name)
    assert laws.Law.from_json(found["law"]) == entry.law


def test_a_law_is_read_at_a_budget(capsys: Capture) -> None:
    best = laws.BESIROGLU_2024.optimal(1e22)
    assert told_json(capsys, "laws", "besiroglu-2024", "--at", "1e22")["at"] == pytest.approx(
        {"C": 1e22, "N": best.N, "D": best.D, "D/N": best.D / best.N, "loss": best.loss}
    )
    assert "y = 1.655e+13" in told(capsys, "laws", "llama3_tokens", "--at", "4e25")


def test_all_laws_as_json(capsys: Capture) -> None:
    assert {entry["name"]: entry["verified"] for entry in told_json(capsys, "laws")} == {
        name: entry.verified for name, entry in laws.LIBRARY.items()
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["BESIROGLU_2042"], "did you mean BESIROGLU_2024"),
        (["hoffman"], "did you mean HOFFMANN_2022"),
        (["chinchilla"], "HOFFMANN_2022 or BESIROGLU_2024"),
        (["qqqq"], "isoflop laws lists them"),
        (["STEP_LAW_BATCH", "--at", "1"], "--at says nothing of it"),
        (["BESIROGLU_2024", "--at", "-1"], "positive"),
        (["LLAMA3_TOKENS", "--at", "0"], "positive"),
        (["--at", "1e22"], "--at asks one law"),
    ],
)
def test_a_law_that_cannot_be_told_gets_a_hint(arguments: list[str], words: str, capsys: Capture) -> None:
    assert words in refused(capsys, "laws", *arguments)


# isoflop reproduce


def fake_paper(name: str, recomputed: float) -> papers.Paper:
    def checks(folder: Path) -> list[Check]:
        return [Check("A paper", "α", 0.5, recomputed, 0.01)]

    return papers.Paper(name, "A paper", "scaling", (f"{name}.csv",), "a/repository", "as it is", checks)


@pytest.fixture
def two_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One paper that holds, one that does not, one whose data are missing."""
    monkeypatch.setattr(papers, "PAPERS", (fake_paper("good", 0.505), fake_paper("bad", 0.6), fake_paper("gone", 0.5)))
    (tmp_path / "scaling").mkdir()
    for name in ("good", "bad"):
        (tmp_path / "scaling" / f"{name}.csv").write_text("")
    return tmp_path


def test_numbers_are_told_with_their_verdicts_and_missing_data_with_their_source(
    two_papers: Path, capsys: Capture
) -> None:
    out = told(capsys, "reproduce", "--data", two_papers)
    assert "A paper\tα\t0.5\t0.505\t±0.01\treproduced\n" in out
    assert "A paper\tα\t0.5\t0.6\t±0.01\tNOT reproduced\n" in out
    assert f"gone: needs {two_papers / 'scaling' / 'gone.csv'}; from github.com/a/repository: as it is" in out
    assert out.endswith("1 of 2 numbers reproduced\n")


def test_strictness_fails_on_a_miss_alone(two_papers: Path, capsys: Capture) -> None:
    assert "1 of 2 numbers are NOT reproduced" in refused(capsys, "reproduce", "--data", two_papers, "--strict")
    assert "1 of 1" in told(capsys, "reproduce", "--data", two_papers, "--strict", "--only", "good")


def test_reproductions_as_json(two_papers: Path, capsys: Capture) -> None:
    found = told_json(capsys, "reproduce", "--data", two_papers)
    assert (found["checks"], found["reproduced"]) == (2, 1)
    assert [paper["name"] for paper in found["papers"]] == ["good", "bad", "gone"]
    assert found["papers"][1]["checks"][0]["reproduced"] is False
    assert found["papers"][2]["files"] == ["scaling/gone.csv"]


def test_an_unknown_paper_gets_the_names(capsys: Capture) -> None:
    assert "chinchilla, llama3" in refused(capsys, "reproduce", "--only", "gopher")


def test_without_data_every_paper_says_where_they_are(tmp_path: Path, capsys: Capture) -> None:
    out = told(capsys, "reproduce", "--data", tmp_path)
    assert all(f"github.com/{paper.repository}" in out for paper in papers.PAPERS)
    assert "0 of 0 numbers reproduced" in out


def test_a_missing_package_is_named(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def checks(folder: Path) -> list[Check]:
        raise ImportError("trees need LightGBM: pip install 'isoflop[mixing]'")

    monkeypatch.setattr(papers, "PAPERS", (papers.Paper("trees", "T", "mixing", (), "a/b", "", checks),))
    assert "trees: trees need LightGBM" in told(capsys, "reproduce", "--data", tmp_path)


@needs_data
def test_known_misses_are_told_and_nothing_else_is_missed(capsys: Capture) -> None:
    fast = ("chinchilla", "llama3", "gadre", "muennighoff", "steplaw", "routing")
    missed = {
        (check["source"], check["quantity"])
        for name in fast
        for paper in told_json(capsys, "reproduce", "--data", DATA, "--only", name)["papers"]
        for check in paper["checks"]
        if not check["reproduced"]
    }
    assert missed == {("Step Law, released runs", "learning rate, exponent of D")}
