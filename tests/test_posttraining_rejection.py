"""Rejection sampling keeps the answers that judges prefer, the same whatever else is asked and wherever it stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.cli import dispatch
from isoflop.inference.decoder import Decoder
from isoflop.inference.memory import container_memory, free_memory, rows_that_fit, system_memory
from isoflop.inference.requests import Event
from isoflop.interrupt import Interrupted
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.posttraining import rejection
from isoflop.posttraining.branches import Tree
from isoflop.posttraining.conversation import Message
from isoflop.posttraining.rejection import SampleConfig, Sampler, read_chunk, rejection_sample
from isoflop.posttraining.sampled import Sample, Sampled, figures
from isoflop.posttraining.scoring import RewardModel
from isoflop.posttraining.settings import SFTConfig
from isoflop.posttraining.sft import sft
from isoflop.problems.problem import Problem, bounded, write_problems
from isoflop.tokens import train_tokenizer

WORDS = ["law", "scale", "loss", "token", "model", "curve"]
PROBLEMS = [Problem(f"say {word} {n}", word, "copy", 1, "text", word) for word in WORDS for n in range(4)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``policy``, which says a word, sometimes the right one, ``reward`` and ``problems.jsonl``."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([" ".join(WORDS) + " say the 0 1 2 3 good bad"] * 20, 300)
    llama = Llama(Shape(2, 32, 4, 2, 48, 300, context=192)).initialise(1)
    beside = {"tokenizer.json": tokenizer.to_bytes()}
    export_ours(Held(llama), path / "start", beside=beside)
    reward = RewardModel(llama, tokenizer).initialise(5)
    export_ours(Held(llama), path / "reward", beside=beside | reward.files())
    write_problems(path / "problems.jsonl", PROBLEMS)
    config = SFTConfig(
        model=str(path / "start"),
        data=(str(path / "problems.jsonl"),),
        epochs=20,
        batch=12,
        rate=0.01,
        validation=0.0,
        compile="never",
        precision="fp32",
    )
    sft(config, path / "policy")
    return path


def config_of(models: Path, **changes: Any) -> SampleConfig:
    base = SampleConfig(
        model=str(models / "policy"), problems=(str(models / "problems.jsonl"),), k=4, max_tokens=8, precision="fp32"
    )
    return replace(base, **changes)


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_verifier_keeps_right_answers_and_prefers_them_to_wrong_ones(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = rejection_sample(config_of(models), tmp_path / "out")
    found = list(read_chunk(tmp_path / "out" / "samples.jsonl"))
    assert len(found) == summary["prompts"] == len(PROBLEMS)
    assert summary["samples"] == 4 * len(PROBLEMS)
    assert 0 < summary["pass_1"] < summary["pass_k"] <= 1
    assert summary["finish"]["stop"] > 0
    answers = {problem.prompt: problem.answer for problem in PROBLEMS}
    best = rows_of(tmp_path / "out" / "best.jsonl")
    assert len(best) == summary["best"] > 0
    for row in best:
        asked, said = (message["content"] for message in row["messages"])
        assert answers[asked] == said
    preferences = rows_of(tmp_path / "out" / "preferences.jsonl")
    assert len(preferences) == summary["preferences"] > 0
    for row in preferences:
        right = answers[row["prompt"][0]["content"]]
        assert row["responses"][0] == right != row["responses"][1]
    assert not (tmp_path / "out" / "chunks").exists()
    samples = str(tmp_path / "out" / "samples.jsonl")
    capsys.readouterr()
    assert dispatch(["problems", "--check", str(models / "problems.jsonl"), samples, "--json"]) == 0
    checked = [json.loads(line)["status"] == "right" for line in capsys.readouterr().out.splitlines()]
    assert checked == [sample.right for sampled in found for sample in sampled.samples]
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "say law 0", "samples": [{"text": "law"}]}\n')
    assert dispatch(["problems", "--check", str(models / "problems.jsonl"), str(broken)]) == 1
    assert "broken.jsonl:1" in capsys.readouterr().err


def test_which_answer_is_drawn_at_random_depends_on_seed_and_question_and_not_on_where_it_was_read() -> None:
    answers = tuple(sample(f"{n}") for n in range(8))
    here, there = (Sampled(place, ASKED, answers) for place in ("a.jsonl:1", "elsewhere/b.jsonl:9"))
    assert all(here.any_answer(seed) == there.any_answer(seed) for seed in range(9))
    assert len({here.any_answer(seed) for seed in range(99)}) == 8
    assert Sampled("a:1", ASKED, (replace(answers[0], finish="length"),)).any_answer(0) is None


def test_what_nobody_solved_is_asked_again_with_what_is_wrong_and_the_wrong_answer_is_not_learnt(
    models: Path, tmp_path: Path
) -> None:
    config = config_of(models, k=1, retries=3)
    summary = rejection_sample(config, tmp_path / "out")
    found = list(read_chunk(tmp_path / "out" / "samples.jsonl"))
    first = [sampled for sampled in found if not sampled.again]
    assert [sampled.place for sampled in first] == [f"{models / 'problems.jsonl'}:{n + 1}" for n in range(24)]
    assert summary["prompts"] == summary["samples"] == 24  # figures are of what was asked once
    again = [sampled for sampled in found if sampled.again]
    assert summary["asked_again"] == len({sampled.place for sampled in again}) > 0
    before = {(sampled.place, sampled.again): sampled for sampled in found}
    for sampled in again:
        earlier = before[sampled.place, sampled.again - 1]
        assert not earlier.solved
        assert sampled.prompt[: len(earlier.prompt)] == earlier.prompt
        wrong, said = sampled.prompt[len(earlier.prompt) :]
        assert (wrong.content, wrong.learned) == (bounded(earlier.ordered[0].text, 100), False)
        assert (said.role, said.content[:20]) == ("user", "That is not right: " + said.content[19])
        assert earlier.ordered[0].why in said.content
    corrected = [sampled for sampled in again if sampled.solved]
    assert summary["corrected"] == pytest.approx(len(corrected) / summary["asked_again"])
    assert corrected
    learnt = [row["messages"] for row in rows_of(tmp_path / "out" / "best.jsonl") if len(row["messages"]) > 2]
    assert [messages[1]["weight"] for messages in learnt] == [0] * len(corrected)
    alone = rejection_sample(replace(config, retries=0), tmp_path / "alone")
    assert alone["pass_1"] == summary["pass_1"]
    with pytest.raises(ValueError, match="retries are of problems"):
        replace(config, problems=(), prompts=("p",), reward="r")


def test_a_reward_model_chooses_where_nothing_can_be_checked(models: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": problem.prompt}) + "\n" for problem in PROBLEMS[:5]))
    config = config_of(
        models, problems=(), prompts=(str(prompts),), reward=str(models / "reward"), temperatures=(0.5, 2.0)
    )
    summary = rejection_sample(config, tmp_path / "out")
    model = RewardModel.load(models / "reward")
    assert summary["best_reward"] >= summary["reward"]
    for sampled in read_chunk(tmp_path / "out" / "samples.jsonl"):
        scores = model.score_answers([sampled.prompt] * 4, [sample.text for sample in sampled.samples])
        for sample, score in zip(sampled.samples, scores, strict=True):
            assert sample.reward == (pytest.approx(score, abs=1e-4) if sample.whole else None)
        assert [sample.temperature for sample in sampled.samples] == [0.5, 0.5, 2.0, 2.0]
        whole = [sample for sample in sampled.samples if sample.whole]
        best = sampled.best()
        assert (best is None) == (not whole)
        if best is not None:
            assert best.messages[-1].content == max(whole, key=lambda sample: sample.reward or 0.0).text


def test_an_answer_that_the_reward_model_cannot_read_is_counted_and_not_learnt_from() -> None:
    short, long = (Sample(text, 2, -1.0, 1.0, "stop") for text in ("law", "law " * 100))

    class Reader:
        """Reads ten tokens, one a word."""

        context = 10

        def tree(self, prompt: object, answers: list[str]) -> Tree:
            return Tree([0], [list(range(len(answer.split()))) for answer in answers])

        def score_trees(self, trees: list[Tree]) -> list[list[float]]:
            assert all(tree.reach <= self.context for tree in trees)
            return [[1.0] * len(tree.responses) for tree in trees]

    sampler = Sampler.__new__(Sampler)
    sampler.skipped = Counter()
    found = [Sampled("p:1", (Message("user", "?"),), (short, long)), Sampled("p:2", (Message("user", "?"),), (long,))]
    samples = [list(sampled.samples) for sampled in found]
    sampler.rewarded(Reader(), found, samples)  # type: ignore[arg-type]
    assert [[sample.reward for sample in row] for row in samples] == [[1.0, None], [None]]
    assert sampler.skipped == {"answers longer than the reward model's context": 2}
    judged = replace(found[0], samples=tuple(samples[0]))
    assert [sample.text for sample in judged.ordered] == ["law"]


def test_a_prompts_answers_depend_on_no_other_prompt(models: Path, tmp_path: Path) -> None:
    config = config_of(models, temperatures=(2.0,))
    few = tmp_path / "few.jsonl"
    write_problems(few, [PROBLEMS[9], PROBLEMS[2]])

    def texts(name: str, **changes: Any) -> dict[Any, list[str]]:
        rejection_sample(replace(config, **changes), tmp_path / name)
        found = read_chunk(tmp_path / name / "samples.jsonl")
        return {sampled.prompt: [sample.text for sample in sampled.samples] for sampled in found}

    whole = texts("all")
    part = texts("few", problems=(str(few),), rows=3)
    assert len(part) == 2
    assert part.items() <= whole.items()
    assert texts("other", seed=1) != whole


def test_a_stop_keeps_whole_chunks_and_the_same_command_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejection, "CHUNK_SAMPLES", 16)
    straight = rejection_sample(config_of(models), tmp_path / "straight")
    judged = rejection.Sampler.judged
    seen: list[int] = []

    def fails(self: Any, asked: Any, found: Any) -> Any:
        seen.append(len(asked))
        if len(seen) == 3:
            raise Interrupted("stopped")
        return judged(self, asked, found)

    monkeypatch.setattr(rejection.Sampler, "judged", fails)
    with pytest.raises(Interrupted):
        rejection_sample(config_of(models), tmp_path / "resumed")
    assert len(list((tmp_path / "resumed" / "chunks").iterdir())) == 2
    with pytest.raises(ValueError, match="k: 4 → 5"):
        rejection_sample(config_of(models, k=5), tmp_path / "resumed")
    resumed = rejection_sample(config_of(models), tmp_path / "resumed")
    assert sum(seen) == len(PROBLEMS) + 4  # of the chunk that was lost
    assert straight | {"seconds": 0} == resumed | {"seconds": 0}
    assert (tmp_path / "straight" / "samples.jsonl").read_bytes() == (
        tmp_path / "resumed" / "samples.jsonl"
    ).read_bytes()
    assert rejection_sample(config_of(models), tmp_path / "resumed") == resumed


def test_ctrl_c_is_seen_between_tokens(models: Path) -> None:
    follow = rejection.watch(lambda: True, lambda *_: None, 10, 100)
    with pytest.raises(Interrupted, match="10 of 100"):
        follow(Event(0, 0, 1, 0.0, "", None))


def test_prompts_that_cannot_be_answered_are_counted_and_not_asked(models: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    asked = ["law", "law", "scale " * 240, "the", "loss " * 84]
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    config = config_of(models, problems=(), prompts=(str(prompts),), reward=str(models / "reward"), k=1, max_tokens=20)
    summary = rejection_sample(config, tmp_path / "out")
    assert summary["prompts"] == 2
    assert summary["skipped"] == {
        "asked before": 1,
        "longer than the model's context": 1,
        "longer than the reward model's context with an answer": 1,
    }
    prompts.write_text(json.dumps({"prompt": "scale " * 80}) + "\n")
    with pytest.raises(ValueError, match="none of the 1 prompts can be answered"):
        rejection_sample(config, tmp_path / "none")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 0}, "k = 0"),
        ({"temperatures": ()}, "a temperature"),
        ({"problems": ()}, "nothing to ask"),
        ({"prompts": ("a.jsonl",)}, "nothing can choose"),
    ],
)
def test_what_asks_or_chooses_nothing_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(SampleConfig(model="m", problems=("p.jsonl",)), **changes)


def test_a_checker_that_there_is_none_of_is_said_before_anything_is_drawn(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "problems.jsonl"
    write_problems(file, [replace(PROBLEMS[0], checker="oracle")])
    with pytest.raises(ValueError, match="no checker 'oracle'"):
        rejection_sample(config_of(models, problems=(str(file),)), tmp_path / "out")


def test_command_says_what_was_kept(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(models / "policy"), "--problems", str(models / "problems.jsonl"), "--k", "2", "--max-tokens", "6"]
    assert dispatch(["sample", *arguments, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "48 answers to 24 prompts" in said
    assert "prompts with a right one among 2: " in said
    assert dispatch(["sample", *arguments, "--out", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "at most 288 to write, 64 answers at once" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()
    assert dispatch(["sample", str(models / "policy"), "--out", str(tmp_path / "none")]) == 1
    assert "nothing to ask" in capsys.readouterr().err


def sample(text: str, **changes: Any) -> Sample:
    return replace(Sample(text, 3, -1.0, 1.0, "stop"), **changes)


ASKED = (Message("user", "law"),)


def test_right_answers_come_before_rewarded_ones_and_cut_ones_never_count() -> None:
    samples = (
        sample("liked", reward=9.0, verdict="wrong"),
        sample("right", reward=1.0, verdict="right"),
        sample("better", reward=2.0, verdict="right"),
        sample("hated", reward=-3.0, verdict="timeout"),
        sample("cut", reward=10.0, verdict="right", finish="length"),
        sample("  ", reward=11.0, verdict="right"),
    )
    sampled = Sampled("f:1", ASKED, samples)
    assert [s.text for s in sampled.ordered] == ["better", "right", "liked", "hated"]
    best, preference = sampled.best(), sampled.preference(0.0)
    assert best is not None
    assert best.messages[-1].content == "better"
    assert preference is not None
    assert preference.responses == ("better", "hated")
    assert Sampled.from_row(json.loads(json.dumps(sampled.to_row()))) == sampled


def test_nothing_is_kept_of_answers_that_are_all_wrong_or_alike() -> None:
    wrong = Sampled("f:1", ASKED, (sample("a", verdict="wrong"), sample("b", verdict="error")))
    assert wrong.best() is None
    assert wrong.preference(0.0) is None
    alike = Sampled("f:1", ASKED, (sample("a", reward=1.0), sample("a", reward=1.0)))
    assert alike.preference(0.0) is None
    near = Sampled("f:1", ASKED, (sample("a", reward=1.0), sample("b", reward=0.8)))
    assert near.preference(0.5) is None
    assert near.preference(0.1) is not None
    assert Sampled("f:1", ASKED, (sample("a", reward=1.0), sample("b", reward=1.0))).preference(0.0) is None


@given(st.permutations([sample(text, reward=float(len(text))) for text in ("a", "bb", "cc", "ddd")]))
@settings(max_examples=20, deadline=None)
def test_the_order_of_sampling_chooses_nothing(samples: list[Sample]) -> None:
    sampled = Sampled("f:1", ASKED, tuple(samples))
    assert sampled.ordered == Sampled("f:1", ASKED, tuple(reversed(samples))).ordered
    assert sampled.preference(0.0).responses == ("ddd", "a")  # type: ignore[union-attr]


def test_figures_are_means_over_prompts() -> None:
    one = Sampled("f:1", ASKED, (sample("a", reward=1.0, verdict="right"), sample("b", reward=3.0, verdict="wrong")))
    two = Sampled(
        "f:2",
        ASKED,
        (sample("a", reward=0.0, verdict="wrong"), sample("", reward=-2.0, finish="length", verdict="wrong")),
    )
    found = figures([one, two])
    assert found["reward"] == pytest.approx(0.5)
    assert found["best_reward"] == pytest.approx(1.5)
    assert found["best_reward_error"] == pytest.approx(1.96 * 1.5)
    assert (found["pass_1"], found["pass_k"], found["mixed"]) == (0.25, 0.5, 0.5)
    assert found["finish"] == {"stop": 3, "length": 1}
    assert found["empty"] == 1


def test_rows_are_what_half_of_the_free_memory_holds(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isoflop.inference import memory

    decoder = Decoder(Llama(Shape(2, 32, 4, 2, 48, 300, context=64)).initialise(1), dtype=torch.float32)
    cache = decoder.cache(1, 64)
    row = cache.keys.nbytes + cache.values.nbytes
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 10 * row + 1)
    assert rows_that_fit(decoder, 64) == 10
    assert rows_that_fit(decoder, 64, most=3) == 3
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    assert rows_that_fit(decoder, 64) == 1
    assert free_memory(torch.device("cpu")) > 0
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert container_memory(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert container_memory(tmp_path) > 2**60
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable: 7 kB\n")
    assert system_memory(tmp_path / "meminfo") == 7 * 1024


def test_a_reward_model_is_not_taken_for_one_that_answers(models: Path, tmp_path: Path) -> None:
    config = SFTConfig(model=str(models / "reward"), data=(str(models / "problems.jsonl"),))
    with pytest.raises(ValueError, match="is a reward model, which scores answers"):
        sft(config, tmp_path / "out")
