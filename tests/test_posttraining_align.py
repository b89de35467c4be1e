"""The rounds: every step's place and order, what is chosen and said, and that a stop anywhere changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from isoflop import cli
from isoflop import config as configuration
from isoflop.cli import align as align_command
from isoflop.inference.load import load_model
from isoflop.interrupt import Interrupted
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.posttraining import align as rounds
from isoflop.posttraining import rejection
from isoflop.posttraining.align import AlignConfig, align, stage_config, write_all
from isoflop.posttraining.average import average
from isoflop.posttraining.pools import Pool, drawn
from isoflop.posttraining.presets import preset
from isoflop.posttraining.settings import DPOConfig, SFTConfig
from isoflop.problems.problem import Problem, is_held_out, read_rows
from isoflop.problems.verdict import Verdict
from isoflop.report.align_page import write_page
from isoflop.tokens.tokenizer import Tokenizer

STAGE = {"batch": 4, "rate": 1e-3, "compile": "never", "validation": 0.2}
CONFIG = AlignConfig(
    pools=(Pool("add"), Pool("subtract")),
    model="../model",
    demonstrations=12,
    rounds=2,
    prompts=6,
    k=3,
    max_tokens=6,
    sft=STAGE,
    reward=STAGE,
    dpo=(STAGE | {"rate": 1e-4}, STAGE | {"rate": 1e-4, "seed": 2}),
    development=5,
    test=8,
    processes=1,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokens: Path) -> Path:
    """A random model beside its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "model"
    tokenizer = Tokenizer.load(tiny_tokens)
    llama = Llama(Shape(1, 32, 2, 2, 64, tokenizer.vocab_size, context=128)).initialise(0)
    export_ours(Held(llama), folder, beside={"tokenizer.json": tokenizer.to_bytes()})
    return folder


def by_length(answers: Iterable[tuple[Problem, str]]) -> list[Verdict]:
    """Verdicts that a random model's answers differ in."""
    return [Verdict("right" if len(text) % 2 else "wrong", text) for _, text in answers]


@pytest.fixture(scope="module")
def whole(model: Path) -> Path:
    """Rounds that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejection, "verify_all", by_length)
        patch.setattr(rejection.Sample, "whole", property(lambda sample: bool(sample.text.strip())))
        align(CONFIG, model.parent / "whole")
    return model.parent / "whole"


def test_every_round_leaves_its_steps_and_says_what_each_brought(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert [stage["round"] for stage in summary["stages"]] == [0, 1, 2]
    for number in (1, 2):
        steps = {"collect", "reward", "reject", "sft", "sft-random", "dpo-1", "dpo-2", "average"}
        assert steps <= {path.name for path in (whole / f"round-{number}").iterdir()}
        said = [line["step"] for line in summary["comparisons"] if line["round"] == number]
        assert said[:3] == ["rejection sampling", "DPO", "averaging"]
    assert summary["stages"][2]["learnt_from"]["kept"] > 0
    for stage in summary["stages"]:
        best = stage["candidates"][stage["chosen"]]["development"]["value"]
        assert best == max(each["development"]["value"] for each in stage["candidates"].values())
        assert stage["candidates"][stage["chosen"]]["test"]["count"] == 8
    load_model(whole / summary["model"])


def test_the_pretrained_model_is_what_rewards_and_fine_tuning_begin_with(whole: Path, model: Path) -> None:
    for name in ("start/sft", "round-1/reward", "round-2/sft"):
        stage = whole / name
        said = next(line for line in (stage / "stage.toml").read_text().splitlines() if line.startswith("model"))
        assert (stage / said.split('"')[1]).resolve() == model.resolve()
    assert 'model = "../sft"' in (whole / "round-2/dpo-1/stage.toml").read_text()


def test_fine_tuning_learns_from_all_rounds_and_dpo_from_the_latest(whole: Path) -> None:
    sft, dpo = ((whole / f"round-2/{name}/stage.toml").read_text() for name in ("sft", "dpo-1"))
    assert '"../chosen.jsonl"' in sft
    assert "round-1" not in dpo
    learnt = {row["messages"][0]["content"] for _, row in read_rows(whole / "round-2" / "chosen.jsonl")}
    for number in (1, 2):
        asked = read_rows(whole / "problems" / f"reject-{number}.jsonl")
        assert learnt & {row["messages"][0]["content"] for _, row in asked}


def test_average_is_the_mean_of_the_variants(whole: Path) -> None:
    one, two, mean = (load_model(whole / "round-1" / name)[0] for name in ("dpo-1", "dpo-2", "average"))
    for parameters in zip(one.parameters(), two.parameters(), mean.parameters(), strict=True):
        a, b, middle = (p.detach() for p in parameters)
        torch.testing.assert_close(middle, (a + b) / 2)
    with pytest.raises(ValueError, match="at least two models"):
        average([whole / "round-1/dpo-1"], whole / "alone")


def test_rounds_that_were_stopped_go_on_to_the_same_answers(
    whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rejection, "verify_all", by_length)
    monkeypatch.setattr(rejection.Sample, "whole", property(lambda sample: bool(sample.text.strip())))
    again = whole.parent / "again"
    for part in ("align.toml", "problems", "start", "round-1"):
        source = whole / part
        shutil.copytree(source, again / part) if source.is_dir() else (
            again.mkdir(exist_ok=True) or shutil.copy(source, again / part)
        )
    for part in ("reject", "sft", "sft-random", "dpo-1", "dpo-2", "average", "evaluation"):
        shutil.rmtree(again / "round-1" / part)
    before = rounds.perform_here

    def stopped(*arguments: Any) -> Any:
        if arguments[1].name == "dpo-1":
            raise Interrupted("stopped")
        return before(*arguments)

    monkeypatch.setattr(rounds, "perform_here", stopped)
    with pytest.raises(Interrupted):
        align(CONFIG, again)
    monkeypatch.setattr(rounds, "perform_here", before)
    align(CONFIG, again)
    one, two = (json.loads((path / "summary.json").read_text()) for path in (whole, again))
    assert [stage["candidates"] for stage in one["stages"]] == [stage["candidates"] for stage in two["stages"]]


def test_another_config_is_refused(whole: Path) -> None:
    with pytest.raises(ValueError, match="started with another config"):
        align(replace(CONFIG, k=4), whole)


def test_report_shows_rounds_steps_and_answers(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert cli.dispatch(["report", str(whole)]) == 0
    page = (whole / "report.html").read_text()
    for words in ("Round by round", "What each step brought", "What DPO did to likelihoods", "What they wrote"):
        assert words in page
    assert "<script" not in page


def test_report_of_unfinished_rounds_says_so(whole: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for part in ("align.toml", "start/choice.json", "start/evaluation/sft.json"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole / part, tmp_path / part)
    assert "Not finished, 0 of 2 rounds" in write_page(tmp_path).read_text()


def test_no_problem_serves_two_purposes_and_those_to_measure_on_are_held_out(tmp_path: Path) -> None:
    write_all(CONFIG, tmp_path)
    prompts = {
        file.stem: [row["messages"][0]["content"] for _, row in read_rows(file)] for file in tmp_path.glob("*.jsonl")
    }
    everything = [prompt for own in prompts.values() for prompt in own]
    assert len(everything) == len(set(everything)) == 12 + 4 * 6 + 5 + 8
    for name, own in prompts.items():
        assert {is_held_out(prompt) for prompt in own} == {name in ("development", "test")}


def test_pools_are_drawn_in_their_shares() -> None:
    found = drawn((Pool("add", weight=3), Pool("subtract")), 40, 0, "training")
    assert sum(problem.kind == "add" for problem in found) == 30
    assert [problem.kind for problem in found][:30] != ["add"] * 30


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": ""}, "either a model"),
        ({"k": 1}, "k must be larger"),
        ({"pools": ()}, "rounds need problems"),
        ({"sft": {"rates": 1}}, "sft has an unknown key 'rates'; did you mean 'rate'"),
        ({"dpo": ({"data": ["x"]},)}, r"dpo\[1\].data is filled in"),
    ],
)
def test_a_config_that_cannot_go_round_is_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(CONFIG, **values)


def test_problems_that_nobody_solves_are_said_to_be_too_hard(model: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, model=str(model), rounds=1, prompts=2, k=2)
    with pytest.raises(ValueError, match=r"no problem has both a right and a wrong answer.*another level"):
        align(config, tmp_path)


def test_stages_say_which_of_their_settings_are_wrong() -> None:
    found = stage_config(SFTConfig, {"epochs": 2}, "sft", model="m", data=["d"])
    assert found == SFTConfig("m", epochs=2.0, data=("d",))
    with pytest.raises(ValueError, match=r"dpo\.loss\.beta"):
        stage_config(DPOConfig, {"loss": {"beta": "much"}}, "dpo", model="m", data=["d"])


def test_presets_can_be_planned_without_being_run(
    whole: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert preset("tiny").rounds == 3
    assert cli.dispatch(["align", "--preset", "tiny", "--out", str(tmp_path / "new"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "3, each with" in said
    assert "nothing yet" in said
    (tmp_path / "again.toml").write_text(said)
    assert configuration.load(AlignConfig, tmp_path / "again.toml") == preset("tiny")
    with pytest.raises(ValueError, match=r"started with another config \(pools"):
        align_command.main(["--preset", "tiny", "--out", str(whole), "--dry-run"])
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="did you mean tiny"):
        preset("tony")
