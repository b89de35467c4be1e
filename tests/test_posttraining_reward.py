"""A reward model has the scores, the loss and the gradients that a derivation on transformers' network gives it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.lora import Lora
from isoflop.planning.shape import Shape
from isoflop.posttraining.branches import Tree, lay_out, room_for
from isoflop.posttraining.conversation import Message, Ranking
from isoflop.posttraining.reward import Micro, RewardConfig, RewardTraining, shuffled, train_reward
from isoflop.posttraining.scoring import RewardModel
from isoflop.tokens import Tokenizer, train_tokenizer
from isoflop.training.exchange import HubExport, score_beside
from isoflop.training.weights import open_weights

SHAPE = Shape(2, 32, 4, 2, 48, 305, context=96, tied=False)
WORDS = ["law", "scale", "loss", "token", "model", "curve"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(WORDS) + " is the of a good bad"] * 20, 305)


@pytest.fixture(scope="module")
def start(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that has learnt nothing."""
    path = tmp_path_factory.mktemp("start") / "model"
    beside = {"tokenizer.json": tokenizer.to_bytes()}
    export_ours(Held(Llama(replace(SHAPE, vocab=tokenizer.vocab_size)).initialise(1)), path, beside=beside)
    return path


def asked(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


RANKINGS = [
    Ranking(asked("the law of"), ("a good curve", "a bad")),
    Ranking(asked("is the model"), ("a law", "of the token is the loss", "bad")),
    Ranking((Message("system", "good"), *asked("scale")), ("is", "of", "a", "the")),
]


@pytest.fixture(scope="module")
def task(start: Path) -> RewardTraining:
    config = RewardConfig(model=str(start), data=("none",), validation=0.0)
    found = RewardTraining(config, RewardModel(*loaded(start)).initialise(3), RANKINGS)
    found.length *= 3  # all in one row
    return found


def loaded(path: Path) -> tuple[Llama, Tokenizer]:
    from isoflop.inference.load import load_model

    return load_model(path)


def theirs(model: RewardModel, folder: Path, dtype: torch.dtype) -> Any:
    """The model as transformers has it."""
    from transformers import LlamaForSequenceClassification

    (folder / "ours").mkdir(parents=True)
    export_ours(Held(model.llama), folder / "model", beside=model.files())
    score = score_beside(folder / "model", model.chat.tokenizer)
    assert score is not None
    HubExport(open_weights(folder / "model"), model.chat.tokenizer, "fp32", score=score).write(folder / "hf")
    found, told = LlamaForSequenceClassification.from_pretrained(folder / "hf", dtype=dtype, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return found


def test_exported_model_gives_the_same_scores(task: RewardTraining, tmp_path: Path) -> None:
    model = task.learner
    other = theirs(model, tmp_path, torch.float32)
    tree = model.tree(RANKINGS[1].prompt, RANKINGS[1].responses)
    texts = [[*tree.prompt, *response] for response in tree.responses]
    longest = max(map(len, texts))
    ids = torch.tensor([text + [other.config.pad_token_id] * (longest - len(text)) for text in texts])
    expected = other(ids, attention_mask=(ids != other.config.pad_token_id).long()).logits.squeeze(-1)
    torch.testing.assert_close(torch.tensor(model.score_trees([tree])[0]), expected, atol=2e-5, rtol=1e-4)


def test_loss_and_gradients_are_the_derivations(task: RewardTraining, tmp_path: Path) -> None:
    other = theirs(task.learner, tmp_path, torch.float64)

    def reward(ids: list[int]) -> Tensor:
        return other.score(other.model(torch.tensor([ids])).last_hidden_state[0, -1])[0]

    expected = torch.zeros((), dtype=torch.float64)
    for ranking in RANKINGS:
        tree = task.learner.tree(ranking.prompt, ranking.responses)
        rewards = [reward([*tree.prompt, *response]) for response in tree.responses]  # best first
        margins = torch.stack([better - worse for better, worse in combinations(rewards, 2)])
        expected = expected + (1 + (-margins).exp()).log().mean() / len(RANKINGS)
    expected.backward()
    objective, told = task.objective(task.micro_batch([[0, 2], [1]]))
    task.learner.zero_grad()
    (objective / len(RANKINGS)).backward()
    assert task.figures({k: float(v) for k, v in told.items()}, 3.0)["loss"] == pytest.approx(
        float(expected.detach()), rel=1e-5
    )
    pairs = [
        (task.learner.score.grad, other.score.weight.grad[0]),
        (task.learner.llama.norm.grad, other.model.norm.weight.grad),
        (task.learner.llama.embedding.grad, other.model.embed_tokens.weight.grad),
        (task.learner.llama.blocks[0].down.grad, other.model.layers[0].mlp.down_proj.weight.grad),
    ]
    for ours, derived in pairs:
        torch.testing.assert_close(ours.double(), derived, atol=2e-6, rtol=2e-4)
    assert task.learner.llama.untied_head.grad is None


def test_several_small_batches_add_up_to_the_large_one(task: RewardTraining) -> None:
    def gradient(batches: list[list[list[int]]]) -> Tensor:
        task.learner.zero_grad()
        for rows in batches:
            (task.objective(task.micro_batch(rows))[0] / 3).backward()
        return task.learner.llama.embedding.grad.clone()

    torch.testing.assert_close(gradient([[[0, 1, 2]]]), gradient([[[2]], [[0], [1]]]), atol=1e-7, rtol=1e-4)


def test_centring_pulls_rewards_of_a_pair_towards_zero(start: Path) -> None:
    config = RewardConfig(model=str(start), data=("none",), validation=0.0, centring=0.5)
    task = RewardTraining(config, RewardModel(*loaded(start)).initialise(3), RANKINGS[:1])
    micro = task.micro_batch([[0]])
    rewards = task.learner.rewards(micro.branches)
    objective, told = task.objective(micro)
    assert float((objective - told["nats"]).detach()) == pytest.approx(
        0.5 * float(rewards.detach().sum()) ** 2, rel=1e-4
    )


@given(st.integers(2, 6), st.integers(0, 2**63))
@settings(max_examples=40, deadline=None)
def test_shuffling_forgets_no_order(count: int, key: int) -> None:
    tree = Tree([1], [[10 + place] for place in range(count)])  # best first
    found = shuffled(tree, key)
    assert [found.tree.responses[place] for place in found.best] == tree.responses


def test_orders_differ_between_rankings() -> None:
    tree = Tree([1], [[2], [3]])
    assert len({shuffled(tree, key).best for key in range(20)}) == 2


def preferences(path: Path, count: int) -> Path:
    """Whoever says good is preferred, at any length."""
    rows = []
    for number in range(count):
        first, second, third = (WORDS[number // 6**place % 6] for place in range(3))
        texts = f"{first} good", f"{second} bad {third}" if number % 2 else "bad"
        rows.append({"prompt": f"{number} {third}", "chosen": texts[0], "rejected": texts[1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_stage_learns_what_is_preferred_and_its_folder_scores_alike(start: Path, tmp_path: Path) -> None:
    data = preferences(tmp_path / "data.jsonl", 200)
    config = RewardConfig(
        model=str(start), data=(str(data),), batch=16, rate=0.01, epochs=3, validation=0.2, compile="never"
    )
    summary = train_reward(config, tmp_path / "reward")
    assert summary["validation_accuracy"] > 0.9
    assert summary["validation_accuracy_low"] < 1 == pytest.approx(summary["validation_accuracy_high"], abs=1e-6)
    assert 20 <= summary["validation_accuracy_pairs"] <= 60
    assert summary["validation_accuracy_shorter"] > 0.8
    model = RewardModel.load(tmp_path / "reward")
    good, bad, again = model.score_answers([asked("law"), asked("loss"), asked("law")], ["scale good", "bad", "bad"])
    assert good > bad
    assert good > again
    assert model.score_answers([asked("law")], ["bad"])[0] == pytest.approx(again, abs=1e-5)


def test_adapters_and_the_vector_alone_are_trained_where_adapters_are_asked_for(start: Path, tmp_path: Path) -> None:
    data = preferences(tmp_path / "data.jsonl", 60)
    config = RewardConfig(
        model=str(start),
        data=(str(data),),
        batch=30,
        rate=0.02,
        epochs=4,
        validation=0.2,
        compile="never",
        lora=Lora(rank=4),
    )
    task = RewardTraining.read(config, tmp_path)
    names = {name for name, parameter in task.learner.named_parameters() if parameter.requires_grad}
    assert "score" in names
    assert all("adapters" in name for name in names - {"score"})
    summary = train_reward(config, tmp_path / "reward")
    assert summary["validation_loss"] < 0.6
    before, after = loaded(start)[0], RewardModel.load(tmp_path / "reward").llama
    assert torch.equal(before.embedding, after.embedding)
    assert not torch.equal(before.blocks[0].qkv, after.blocks[0].qkv)


def test_measurement_counts_pairs_by_length(task: RewardTraining) -> None:
    sums = task.measure(task.micro_batch([[0, 1, 2]]))
    assert float(sums["pairs"]) == 1 + 3 + 6
    assert float(sums["shorter"] + sums["longer"]) <= 10
    told = {name: float(value) for name, value in sums.items()}
    rewards = {
        text: reward
        for ranking in RANKINGS
        for text, reward in zip(
            ranking.responses,
            task.learner.score_answers([ranking.prompt] * len(ranking.responses), ranking.responses),
            strict=True,
        )
    }
    right = sum(rewards[a] > rewards[b] for ranking in RANKINGS for a, b in combinations(ranking.responses, 2))
    assert told["right"] == right
    assert task.figures(told, 3.0)["accuracy"] == right / 10


def test_padding_and_neighbours_change_no_reward(task: RewardTraining) -> None:
    trees = [task.examples[number].tree for number in range(3)]
    alone = [task.learner.score_trees([tree])[0] for tree in trees]
    for one, other in zip(task.learner.score_trees(trees), alone, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    wide = lay_out([[trees[0]]], room_for([trees[0].size]) + 64)
    micro = Micro(wide, (task.examples[0].best,))
    assert task.learner.rewards(micro.branches).tolist() == pytest.approx(alone[0], abs=1e-5)


def test_what_is_no_reward_model_or_too_long_is_said(start: Path, task: RewardTraining) -> None:
    with pytest.raises(ValueError, match="isoflop reward trains one"):
        RewardModel.load(start)
    with pytest.raises(ValueError, match="prompt 0 take .* context of 96"):
        task.learner.score_answers([asked("law " * 90)], ["bad"])
    with pytest.raises(ValueError, match="none of the 1 rankings fits"):
        RewardTraining(
            RewardConfig(model=str(start), data=("none",)),
            task.learner,
            [Ranking(asked("law " * 90), ("good", "bad"))],
        )
