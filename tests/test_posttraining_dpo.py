"""Preference optimisation: losses of other implementations, two masks, batches cut anyhow, adapters, resumption."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.inference.load import load_model
from isoflop.interrupt import Interrupted
from isoflop.model.convert import to_transformers
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.names import HUGGING_FACE, spans
from isoflop.model.peft import load_adapter
from isoflop.model.source import Held
from isoflop.planning.lora import Lora
from isoflop.planning.shape import Shape
from isoflop.posttraining.branches import Tree
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message, Ranking
from isoflop.posttraining.dpo import Preferring, dpo, tree_of
from isoflop.posttraining.preference import fallen, preference_loss
from isoflop.posttraining.reference import FILE
from isoflop.posttraining.responses import Responses
from isoflop.posttraining.reward import RewardTraining
from isoflop.posttraining.settings import DPOConfig, Preference, RewardConfig
from isoflop.posttraining.stage import Stage
from isoflop.progress import silent
from isoflop.tokens.manifest import TOKENIZER
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run

SHAPE = Shape(2, 32, 4, 2, 64, 300, context=128)
LLAMA_3 = Preference()
PLAIN = Preference(nll=0.0, end_in_dpo=True)


@pytest.fixture(scope="module")
def base(tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers that has learnt nothing, with a tokenizer."""
    out = tmp_path_factory.mktemp("models") / "base"
    export_ours(Held(Llama(SHAPE).initialise(0)), out, beside={TOKENIZER: (tiny_tokens / TOKENIZER).read_bytes()})
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty questions whose better answers are about laws."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("preferences") / "data.jsonl"
    lines = []
    for _ in range(40):
        prompt = " ".join(rng.choices(["token", "model", "loss", "budget"], k=rng.randint(1, 4)))
        better, worse = (f"{word} {'. ' * rng.randint(0, 4)}{rng.randrange(9)}" for word in ("the law", "compute"))
        lines.append(json.dumps({"prompt": prompt, "chosen": better, "rejected": worse}))
    path.write_text("\n".join(lines) + "\n")
    return path


def config_of(base: Path, data: Path, **changes: Any) -> DPOConfig:
    plain = DPOConfig(
        model=str(base), data=(str(data),), batch=8, rate=2e-3, precision="fp32", compile="never", micro_tokens=512
    )
    return replace(plain, **changes)


def stage_of(config: DPOConfig, path: Path) -> Stage:
    path.mkdir(parents=True, exist_ok=True)
    return Stage(config, begun(config, path), Run(path))


def begun(config: DPOConfig, path: Path) -> Preferring:
    """The task of a stage that may take its first step."""
    task = Preferring(config, path)
    task.begin(Ranks(), silent)
    return task


def apart_from_reference(stage: Stage) -> Stage:
    """The stage with a model that is no longer the reference."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in stage.task.model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return stage


def twin(model: Llama) -> Any:
    """The same model as transformers has it, in float64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    arguments, weights = to_transformers(model)
    theirs = LlamaForCausalLM(LlamaConfig(**arguments)).double()
    theirs.load_state_dict({name: weight.double() for name, weight in weights.items()})
    return theirs


def said(model: Any, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """ln p of every token of a response by transformers' logits, nothing else in the row."""
    ids = torch.tensor([[*prompt, *response]])
    logs = model(ids).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]
    return logs.gather(-1, torch.tensor(response)[:, None]).squeeze(-1)  # type: ignore[no-any-return]


def llama_3_by_definition(policy: Any, reference: Any, trees: Sequence[Tree]) -> Tensor:
    """Section 4.1.4 in words: −log σ(β·(…)) without the ends, + 0.2·NLL of the chosen one with its end, per token."""
    losses = []
    for tree in trees:
        logs = [said(policy, tree.prompt, ids) for ids in tree.responses]
        with torch.no_grad():
            before = [said(reference, tree.prompt, ids) for ids in tree.responses]
        better, worse = ((now - then)[:-1].sum() for now, then in zip(logs, before, strict=True))
        losses.append(-torch.log(torch.sigmoid(0.1 * (better - worse))) - 0.2 * logs[0].mean())
    return torch.stack(losses).mean()


def trl_by_definition(policy: Any, reference: Any, trees: Sequence[Tree], beta: float = 0.1) -> Tensor:
    """The sigmoid loss of TRL: −logsigmoid(β·(π's log ratio − the reference's)), all tokens of both."""

    def ratio(model: Any, tree: Tree) -> Tensor:
        chosen, rejected = (said(model, tree.prompt, ids).sum() for ids in tree.responses)
        return chosen - rejected

    losses = []
    for tree in trees:
        with torch.no_grad():
            reference_ratio = ratio(reference, tree)
        losses.append(-F.logsigmoid(beta * (ratio(policy, tree) - reference_ratio)))
    return torch.stack(losses).mean()


def capture(stage: Stage) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """The line of a stage's next step, its gradient by parameter, before the clip, and its micro-batches."""
    stage.config = replace(stage.config, optimizer=replace(stage.config.optimizer, clip=float("inf")))
    kept: dict[str, Tensor] = {}

    def keep(*_: Any) -> None:
        for name, parameter in stage.task.learner.named_parameters():
            if parameter.grad is not None:
                kept[name] = parameter.grad.clone()

    stage.optimizer.register_step_pre_hook(keep)
    count = len(list(stage.micro_batches(stage.batch(stage.progress.step))))
    return stage.step()[0], kept, count


@pytest.mark.parametrize(("loss", "definition"), [(LLAMA_3, llama_3_by_definition), (PLAIN, trl_by_definition)])
def test_loss_and_gradient_are_those_of_the_definition_on_transformers_logits(
    loss: Preference, definition: Any, base: Path, data: Path, tmp_path: Path
) -> None:
    stage = stage_of(config_of(base, data, loss=loss), tmp_path)
    reference = twin(stage.task.model)
    policy = twin(apart_from_reference(stage).task.model)
    trees = [stage.task.trees[number] for number in stage.batch(0)]  # type: ignore[attr-defined]
    exact = definition(policy, reference, trees)
    exact.backward()
    line, gradient, _ = capture(stage)
    assert abs(exact.item() - 0.6931) > 0.01
    assert line["loss"] == pytest.approx(exact.item(), rel=1e-5)
    slopes = {name: parameter.grad for name, parameter in policy.named_parameters()}
    for theirs, span in spans(SHAPE, HUGGING_FACE).items():
        torch.testing.assert_close(
            gradient[span.ours][span.start : span.end].double(), slopes[theirs], rtol=1e-3, atol=1e-5, msg=theirs
        )


def test_two_steps_are_those_by_hand(base: Path, data: Path, tmp_path: Path) -> None:
    """AdamW of torch on transformers' model, the batch's loss by definition, the clip and rates of the stage."""
    config = config_of(base, data)
    stage = stage_of(config, tmp_path)
    reference, policy = twin(stage.task.model), twin(stage.task.model)
    named = dict(policy.named_parameters())
    groups = [{"params": [p for p in named.values() if p.dim() == d], "weight_decay": 0.1 * (d == 2)} for d in (2, 1)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=config.optimizer.eps)
    for step in range(2):
        trees = [stage.task.trees[number] for number in stage.batch(step)]  # type: ignore[attr-defined]
        optimizer.zero_grad()
        llama_3_by_definition(policy, reference, trees).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.optimizer.clip)
        line = stage.step()[0]
        for group in optimizer.param_groups:
            group["lr"] = line["learning_rate"]
        optimizer.step()
    assert line["learning_rate"] > 1e-3
    for theirs, span in spans(SHAPE, HUGGING_FACE).items():
        ours = stage.task.model.get_parameter(span.ours)[span.start : span.end]
        torch.testing.assert_close(ours.double(), named[theirs], rtol=1e-3, atol=2e-4, msg=theirs)


def test_before_the_first_step_policy_and_reference_are_one(base: Path, data: Path, tmp_path: Path) -> None:
    figures = stage_of(config_of(base, data, validation=0.4), tmp_path).measure()
    assert figures["validation_preference"] == pytest.approx(0.693147, abs=1e-4)
    for name in ("margin", "chosen_shift", "kl", "chosen_reward"):
        assert figures[f"validation_{name}"] == pytest.approx(0, abs=1e-5)


def test_a_batch_cut_into_micro_batches_is_the_batch(base: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for name, micro_tokens in (("small", 1), ("middle", 300), ("large", 10_000)):
        stage = stage_of(config_of(base, data, micro_tokens=micro_tokens), tmp_path / name)
        found.append(capture(apart_from_reference(stage)))
    assert found[0][2] > found[2][2]
    for line, gradient, _ in found[1:]:
        for figure in ("loss", "margin", "nll", "chosen_shift", "kl", "rejected_log_p_token"):
            assert line[figure] == pytest.approx(found[0][0][figure], rel=1e-4, abs=1e-5)
        for name, part in gradient.items():
            torch.testing.assert_close(part, found[0][1][name], rtol=1e-3, atol=1e-6)


def test_margins_grow_and_a_model_is_left(base: Path, data: Path, tmp_path: Path) -> None:
    summary = dpo(config_of(base, data, epochs=8, validation=0.2), tmp_path / "out")
    lines = Run(tmp_path / "out").metrics()
    assert summary["validation_accuracy"] == 1
    assert summary["validation_margin"] > 1
    assert lines[-1]["chosen_shift"] > 0  # the NLL term teaches an untrained model what is said
    assert lines[-1]["rejected_log_p"] < lines[-1]["chosen_log_p"]
    assert load_model(tmp_path / "out")[0].shape == SHAPE


def test_adapters_alone_are_trained_and_their_files_make_the_model_of_the_base(
    base: Path, data: Path, tmp_path: Path
) -> None:
    config = config_of(base, data, epochs=4, rate=1e-2, lora=Lora(rank=4, parts=("q_proj", "v_proj", "up_proj")))
    assert dpo(config, tmp_path / "out")["validation_margin"] > 0.5
    trained, (model, _) = load_model(tmp_path / "out")[0], load_model(base)
    assert torch.equal(trained.embedding, model.embedding)
    assert torch.equal(trained.blocks[0].down, model.blocks[0].down)
    assert not torch.equal(trained.blocks[0].qkv, model.blocks[0].qkv)
    assert load_adapter(model, tmp_path / "out") == replace(config.lora, parts=("q_proj", "up_proj", "v_proj"))
    ids = torch.arange(40)[None]
    torch.testing.assert_close(model(ids), trained(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=4)], ids=["full", "adapters"])
def test_a_stage_that_was_stopped_ends_with_the_same_bits(
    lora: Lora, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(base, data, lora=lora)
    dpo(config, tmp_path / "whole")
    before, taken = Stage.step, []

    def step(self: Stage, stop: bool = False, save: bool = False) -> Any:
        taken.append(1)
        return before(self, stop or len(taken) == 3, save)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "step", step)
        with pytest.raises(Interrupted, match="3 of"):
            dpo(config, tmp_path / "cut")
    kept = next((tmp_path / "cut" / "checkpoints").glob("*/model.safetensors")).stat().st_size
    assert (kept < 40_000) == bool(lora.rank)  # adapters alone
    dpo(config, tmp_path / "cut")
    first, second = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert first.read_bytes() == second.read_bytes()


def test_reference_of_another_model_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    config = config_of(base, data)
    begun(config, tmp_path)
    asked = (tmp_path / FILE).read_bytes()
    begun(config, tmp_path)
    assert (tmp_path / FILE).read_bytes() == asked
    other = Llama(SHAPE).initialise(1)
    export_ours(Held(other), tmp_path / "other", beside={TOKENIZER: (base / TOKENIZER).read_bytes()})
    with pytest.raises(ValueError, match="of another model or other examples"):
        begun(replace(config, model=str(tmp_path / "other")), tmp_path)


def test_ends_are_compared_only_where_asked_and_all_pairs_count_once(base: Path) -> None:
    chat = Chat(load_model(base)[1])
    ranking = Ranking((Message("user", "law?"),), ("the law", "scale", "."))
    assert len(tree_of(chat, ranking, "extremes").responses) == 2
    tree = tree_of(chat, ranking, "all")
    for ends in (False, True):
        laid = Responses.of([[tree], [tree]], 64, ends)
        assert laid.total(laid.compared).tolist() == [len(ids) - (not ends) for ids in tree.responses] * 2
        assert laid.targets[laid.compared == 0].tolist() == ([] if ends else [chat.end] * 6)
    assert laid.pairs.T.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]]
    assert laid.weights.sum() == 2
    assert (laid.best.tolist(), laid.worst.tolist()) == ([0, 3], [2, 5])


def test_losses_are_those_of_their_papers() -> None:
    h = torch.tensor([-3.0, 0.0, 7.5], dtype=torch.float64)

    def sigmoid(z: Tensor) -> Tensor:
        return 1 / (1 + (-z).exp())

    expected = {
        Preference(beta=0.3): -sigmoid(0.3 * h).log(),
        Preference(smoothing=0.2): -0.8 * sigmoid(0.1 * h).log() - 0.2 * sigmoid(-0.1 * h).log(),
        Preference(form="squared", beta=0.5): (h - 1).square(),
        Preference(beta=2.0, margin=1.2): -sigmoid(2 * h - 1.2).log(),
    }
    for terms, values in expected.items():
        torch.testing.assert_close(preference_loss(terms, h).double(), values, rtol=1e-5, atol=1e-6)


def test_simpo_compares_means_of_the_policy_alone(base: Path, data: Path, tmp_path: Path) -> None:
    terms = Preference(beta=2.0, nll=0.0, per_token=True, reference=False, margin=0.5, end_in_dpo=True)
    stage = stage_of(config_of(base, data, loss=terms), tmp_path)
    theirs = twin(apart_from_reference(stage).task.model)
    losses = []
    for number in stage.batch(0):
        tree = stage.task.trees[number]  # type: ignore[attr-defined]
        chosen, rejected = (said(theirs, tree.prompt, ids).mean() for ids in tree.responses)
        losses.append(-F.logsigmoid(2 * chosen - 2 * rejected - 0.5))
    assert capture(stage)[0]["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_falling_likelihood_of_the_better_is_said_once(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fallen([0.0, -0.2, -0.2, 0.0], 2, 0.15) == 2
    assert fallen([0.0, -0.2, 0.0], 2, 0.15) is None
    assert fallen([-9.0], 2, 0.15) is None
    task = Preferring(config_of(base, data, fall=0.1, window=3), tmp_path)
    for shift in (0.0, -0.1, -0.1, -0.2, -0.3):
        task.watch(shift)
    assert capsys.readouterr().err.count("warning: over the 3 steps up to number 4 the better") == 1
    assert "warning" not in task.summary()
    lines = [{"chosen_shift": shift, "tokens": 1} for shift in (0.0, -0.2, -0.2, -0.2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "up to number 3 the better" in task.summary()["warning"]


def test_others_names_for_the_fields_of_rows_are_understood_by_every_stage_of_rankings(
    base: Path, data: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    file = tmp_path / "others.jsonl"
    renamed = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in renamed))
    theirs = config_of(base, file, columns="prompt=q,chosen=good,rejected=bad")
    assert Preferring(theirs, tmp_path).trees == Preferring(config_of(base, data), tmp_path).trees
    reward = RewardConfig(model=str(base), data=(str(file),), columns=theirs.columns)
    plain = replace(reward, data=(str(data),), columns="")
    assert RewardTraining.read(reward, tmp_path).fingerprint == RewardTraining.read(plain, tmp_path).fingerprint


def test_terms_that_make_no_loss_are_refused() -> None:
    with pytest.raises(ValueError, match="beta above 0"):
        Preference(beta=0)
    with pytest.raises(ValueError, match="belong to the sigmoid"):
        Preference(form="squared", margin=1.0)
    with pytest.raises(ValueError, match="needs data"):
        DPOConfig(model="m")
