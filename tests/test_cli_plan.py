"""``isoflop plan``: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_planning_planner import LAPTOP

from isoflop import config as configuration
from isoflop.cli import run
from isoflop.cli.plan import quantity
from isoflop.planning.machine import processor_name, torch_version
from isoflop.processors import processors
from isoflop.training.config import TrainConfig

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of one's own, in which this machine was not measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def measured(unmeasured: Path) -> None:
    """This machine as if it had been measured."""
    from dataclasses import replace

    here = replace(LAPTOP, processor=processor_name(), cores=len(processors()), torch=torch_version())
    here.save()


def test_llama_3s_case_is_told_on_one_screen(capsys: Capture) -> None:
    assert run("plan", ["3.8e25", "--law", "llama3", "--have", "15.6T", "--epochs", "1", "--vocab", "128256"]) == 0
    screen = capsys.readouterr().out
    for words in (
        "406B parameters on 15.6T tokens",
        "the law's own optimum is 393B (95%: ",
        "15.6T tokens are at hand and LLAMA3_TOKENS alone would take 16.1T",
        "126 layers, width 16,384, 128 heads, 8 key-value heads, FFN 53,248",
        "405,853,388,800 parameters",
        "nearest released: Llama 3.1 405B",
        "BESIROGLU_2024",
        "annealing",
        "device-hours at",
    ):
        assert words in screen.replace("\n           ", " ")
    assert len(screen.splitlines()) < 60


def test_the_whole_answer_comes_as_json(capsys: Capture) -> None:
    assert run("plan", ["64 H100 x 30 days", "--serve", "1T", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["question"]["served"] == 1e12
    assert answer["interval_95"][0] < answer["predicted_loss"] < answer["interval_95"][1]
    assert answer["placements"][0]["layout"]["data"] > 1
    assert answer["cost"]["dollars"] > 0


def test_candidates_say_why_they_were_dropped(capsys: Capture) -> None:
    assert run("plan", ["1e22", "--params", "8B", "--candidates"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("taken")
    assert all("dropped: " in line for line in lines[2:])
    assert len(lines) > 20


def test_the_config_that_is_written_is_one_that_trains(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "planned"
    assert run("plan", ["1e14", "--context", "128", "--out", str(out)]) == 0
    assert f"isoflop train {out}" in capsys.readouterr().out
    config = configuration.load(TrainConfig, out / "config.toml")
    plan = json.loads((out / "plan.json").read_text())
    assert config.schedule.tokens == plan["tokens"]
    (out / "metrics.jsonl").write_text("")
    assert run("plan", ["1e14", "--out", str(out)]) == 1
    assert "holds a run that has begun" in capsys.readouterr().err


@pytest.mark.usefixtures("measured")
def test_a_time_on_a_measured_machine_is_a_budget(capsys: Capture) -> None:
    assert run("plan", ["10 minutes here", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert 400 < answer["cost"]["seconds"] <= 600
    assert run("plan", ["1e14"]) == 0  # a small budget is priced on this machine
    assert "this machine, as measured on 2026-11-25" in capsys.readouterr().out


def test_a_machine_that_changed_stops_only_plans_about_it(measured: None, capsys: Capture) -> None:
    from isoflop.planning.machine import remembered

    text = remembered().read_text()
    remembered().write_text(text.replace(f'"torch": "{torch_version()}"', '"torch": "1.0"'))
    assert run("plan", ["1e22"]) == 0
    assert "torch was 1.0" in capsys.readouterr().err
    assert run("plan", ["10 minutes here"]) == 1
    assert "measure it again" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["10 minutes here"], "run isoflop plan --calibrate"),
    (["1e22", "--have", "many"], "--have 'many' is not a number; write 15.6T"),
    (["1e22", "--params", "70B", "--fits", "16 GB"], "too many: it must fit 16 GB with bf16 weights"),
    (["1e9"], "are too few"),
    (["1e22", "--have", "0"], "leave nothing to plan with"),
    (["1e22", "--device", "H1000"], "did you mean H100"),
    (["1e22", "--law", "gadre"], "could be GADRE_2024_C4"),
    ([], "a plan needs a budget"),
    (["1e22", "--data", "nowhere"], "nowhere"),
    (["1e22", "--fits-in", "int3", "--fits", "24 GB"], "cannot be held in 'int3'"),
])  # fmt: skip
def test_what_cannot_be_planned_is_said_in_one_sentence(arguments: list[str], words: str, capsys: Capture) -> None:
    assert run("plan", arguments) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("isoflop: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(("text", "number"), [("15.6T", 15.6e12), ("8B", 8e9), ("1e12", 1e12), ("12,000", 12_000.0)])
def test_quantities_are_read_as_people_write_them(text: str, number: float) -> None:
    assert quantity(text, "--have") == pytest.approx(number)


def test_figures_are_written(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    assert run("plan", ["64 H100 x 30 days", "--figures", str(tmp_path / "figures")]) == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["laws.png", "memory.png", "sizes.png"]
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "figures").iterdir())
    assert "figure: " in capsys.readouterr().out


def test_planning_never_loads_torch() -> None:
    code = (
        "import sys; from isoflop.cli import run; run('plan', ['64 H100 x 30 days']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
