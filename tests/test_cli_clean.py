"""``isoflop clean``: what it prints, what it refuses and how it leaves."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from pipeline_stages import write_corpus

from isoflop.cli import dispatch
from isoflop.corpus import stages
from isoflop.corpus.pipeline.tables import from_table

TOML = """
shard_bytes = 3000
[[stage]]
name = "short"
[[stage]]
name = "copies"
[[stage]]
name = "mask"
only = ["w*"]
"""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("Short", "Copies", "Mask"):
        monkeypatch.setitem(stages.STAGES, name.lower(), f"pipeline_stages:{name}")
    (tmp_path / "clean.toml").write_text(TOML)
    return write_corpus(tmp_path / "raw")


def run(*arguments: object) -> int:
    return dispatch(["clean", *map(str, arguments)])


def test_a_dry_run_prints_a_config_that_can_be_used_and_does_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "clean.toml"
    assert run(corpus, "--config", config, "--out", tmp_path / "out", "--sample", "5%", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert "# pass 1: 01-short; survey for 02-copies\n# pass 2: 02-copies, 03-mask" in printed
    table = tomllib.loads(printed)
    assert (table["sample"], table["stage"][0]["characters"]) == (0.05, 40)
    assert from_table(table).corpus[0].path == str(corpus)


def test_a_cleaning_says_what_it_did_and_writes_the_report(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (corpus, "--config", tmp_path / "clean.toml", "--out", tmp_path / "out", "--workers", 1)
    assert run(*asked) == 0
    said = capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert f"{summary['kept']['documents']:,}" in said
    assert "too short" in said
    report = tmp_path / "out" / "report.html"
    assert str(report) in said
    report.unlink()
    assert run(*asked, "--json") == 0, "done already: at once"
    assert json.loads(capsys.readouterr().out) == summary
    assert report.exists()
    report.unlink()
    assert dispatch(["report", str(tmp_path / "out")]) == 0
    assert report.exists()


def test_what_is_wrong_is_one_sentence(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "clean.toml"
    x = tmp_path / "x"
    for arguments, said in (
        ((corpus, "--out", x), "which stages? give --config FILE, or --preset with one of minimal"),
        (
            (corpus, "--preset", "finewep", "--out", x),
            "there is no preset 'finewep'; did you mean 'fineweb'",
        ),
        ((corpus, "--preset", "gopher", "--config", config, "--out", x), "--preset and --config both name the stages"),
        ((corpus, "--config", tmp_path, "--out", x), "is a folder: give the config file"),
        ((corpus, "--config", config), "where to?"),
        (("--config", config, "--out", x), "there is no corpus to clean"),
        ((corpus, "--config", config, "--out", x, "--sample", "some"), "--sample some is not a share"),
        ((corpus, "--config", config, "--out", x, "--sample", "150%"), "sample is 1.5"),
        ((corpus, "--config", config, "--out", x, "--workers", "0"), "at least one worker"),
        ((tmp_path / "nowhere", "--config", config, "--out", tmp_path / "y"), "there is no file or folder"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_nothing_left_leaves_a_report_to_see_why(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "none.toml"
    config.write_text('[[stage]]\nname = "short"\ncharacters = 100000\n')
    assert run(corpus, "--config", config, "--out", tmp_path / "out", "--workers", "1") == 1
    assert "nothing is left" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").exists()
