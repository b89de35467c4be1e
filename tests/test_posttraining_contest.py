"""Rewards are the reward model's own, win rates those of the answers, and what cannot be read is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from isoflop.cli import dispatch
from isoflop.evaluation.exact_match import Answering
from isoflop.evaluation.likelihood import Scorer
from isoflop.inference.requests import Completion
from isoflop.inference.sampling import Sampling
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.posttraining.contest import Contest, Judged, results
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.scoring import RewardModel
from isoflop.tokens import train_tokenizer

QUESTIONS = [f"say the law {n}" for n in range(9)] + ["law " * 500]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("contest")
    tokenizer = train_tokenizer(
        ["say the law of scale 0 1 2 3 4 5 6 7 8 9 naïve 日本語 models tokens curves"] * 20, 300
    )
    beside = {"tokenizer.json": tokenizer.to_bytes()}
    for seed, name in enumerate(("a", "b")):
        export_ours(Held(Llama(Shape(2, 32, 4, 2, 48, 300, context=128)).initialise(seed)), path / name, beside=beside)
    judge = Llama(Shape(2, 32, 4, 2, 48, 300, context=128)).initialise(7)
    reward = RewardModel(judge, tokenizer).initialise(5)
    export_ours(Held(judge), path / "judge", beside=beside | reward.files())
    (path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": asked}) + "\n" for asked in QUESTIONS))
    return path


def test_rewards_are_the_judges_and_a_long_prompt_is_left_out(models: Path) -> None:
    contest = Contest.open(models / "judge", [models / "prompts.jsonl"])
    scorer = Scorer.open(models / "a")
    judged = contest.judged(scorer, Answering(max_tokens=12, sampling=Sampling(temperature=1.0)))
    assert [found is None for found in judged] == [False] * 9 + [True]
    said = [(asked, *found) for asked, found in zip(QUESTIONS, judged, strict=True) if found is not None]
    prompts = [(Message("user", asked),) for asked, *_ in said]
    rewards = RewardModel.load(models / "judge").score_answers(prompts, [answer.text for _, answer, _ in said])
    assert [reward for *_, reward in said] == pytest.approx(rewards, abs=1e-4)


def test_the_first_model_is_what_others_are_compared_with_on_prompts_that_all_answered() -> None:
    def answered(*rewards: float | None) -> Judged:
        return [None if reward is None else (Completion([1], [-1.0], "xx", "stop"), reward) for reward in rewards]

    found = results({"a": answered(1, 1, 1, None, 9), "b": answered(2, 0, 1, 5, None)})
    assert found["a"].outcomes == (1, 1, 1)
    assert found["b"].figures["win rate"].value == 0.5
    assert found["b"].counts == {"prompts too long": 2}
    assert "win rate" not in found["a"].figures
    assert found["b"].better_than(found["a"]).figure.value == 0
    assert found["b"].groups["alike"].count == 3
    with pytest.raises(ValueError, match="none of 2 prompts"):
        results({"a": answered(1, None), "b": answered(None, 1)})


def test_the_command_says_who_wins(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--prompts", str(models / "prompts.jsonl"), "--reward", str(models / "judge"), "--max-tokens", "12"]
    out = tmp_path / "found.json"
    assert dispatch(["evaluate", str(models / "a"), str(models / "b"), *given, "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(out.read_text())
    found = printed[str(models / "b")]["prompts"]
    assert 0 <= found["figures"]["win rate"]["value"] <= 1
    assert found["figures"]["win rate"]["count"] == 9
    assert dispatch(["evaluate", str(models / "a"), str(models / "b"), *given]) == 0
    assert "win rate at equal length" in capsys.readouterr().out
    assert dispatch(["evaluate", *given, "--dry-run"]) == 0
    assert "10" in capsys.readouterr().out
    assert dispatch(["evaluate", str(models / "a"), str(models / "a"), *given]) == 1
    assert "named twice" in capsys.readouterr().err
    assert dispatch(["evaluate", str(models / "a"), *given[:2]]) == 1
    assert "--reward" in capsys.readouterr().err
