"""Fine-tuning: the loss of other implementations, batches cut anyhow, exact resumption, a model at the end."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from isoflop.cli.stage_command import parse
from isoflop.inference.load import load_model
from isoflop.interrupt import Interrupted
from isoflop.model.convert import to_transformers
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.names import HUGGING_FACE, spans
from isoflop.model.source import Held
from isoflop.planning.shape import Shape
from isoflop.posttraining import stage as stages
from isoflop.posttraining.launch import outlook, perform_here
from isoflop.posttraining.settings import SFTConfig
from isoflop.posttraining.sft import FineTuning, sft
from isoflop.posttraining.trainer import Stage
from isoflop.tokens.manifest import TOKENIZER
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run

SUMS = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(scope="module")
def base(tiny_tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers that has learnt nothing, with a tokenizer."""
    out = tmp_path_factory.mktemp("models") / "base"
    model = Llama(Shape(2, 32, 4, 2, 64, 300, context=128)).initialise(0)
    export_ours(Held(model), out, beside={TOKENIZER: (tiny_tokens / TOKENIZER).read_bytes()})
    return out


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety short conversations of one to three turns."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("chats") / "chats.jsonl"
    lines = []
    for _ in range(90):
        messages = [{"role": "system", "content": "Add."}] if rng.random() < 0.3 else []
        for _ in range(rng.randint(1, 3)):
            a, b = rng.randrange(3), rng.randrange(3)
            messages.append({"role": "user", "content": f"{SUMS[a]} and {SUMS[b]}?"})
            messages.append({"role": "assistant", "content": f"{SUMS[a + b]}" + "." * rng.randint(0, 9)})
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n")
    return path


def config_of(base: Path, chats: Path, **changes: Any) -> SFTConfig:
    plain = SFTConfig(
        model=str(base), data=(str(chats),), batch=16, rate=3e-3, precision="fp32", compile="never", micro_tokens=256
    )
    return replace(plain, **changes)


def stage_of(config: SFTConfig, path: Path) -> Stage:
    return Stage(config, FineTuning(config, path), Run(path))


def test_a_stage_leaves_a_model_that_has_learnt(base: Path, chats: Path, tmp_path: Path) -> None:
    summary = sft(config_of(base, chats, epochs=6), tmp_path / "out")
    lines = Run(tmp_path / "out").metrics()
    assert (lines[0]["step"], lines[-1]["step"]) == (0, summary["steps"])
    assert summary["validation_loss"] < 0.5 * lines[0]["validation_loss"]
    assert summary["validation_accuracy"] > lines[0]["validation_accuracy"]
    trained, _ = load_model(tmp_path / "out")
    started, _ = load_model(base)
    assert trained.shape == started.shape
    assert not torch.equal(trained.embedding, started.embedding)
    assert sft(config_of(base, chats, epochs=6), tmp_path / "out") == summary  # finished: done at once


def test_loss_and_gradient_are_those_of_transformers_on_conversations_one_by_one(
    base: Path, chats: Path, tmp_path: Path
) -> None:
    stage = stage_of(config_of(base, chats), tmp_path)
    theirs = twin(stage.task.model)
    examples = stage.batch(0)
    weight = stage.task.weights[examples].sum()
    nats = torch.zeros(())
    for number in examples:
        example = stage.task.examples[number]  # type: ignore[attr-defined]
        labels = torch.from_numpy(np.where(example.trained, example.ids, -100)).long()[None]
        ids = torch.from_numpy(example.ids).long()[None]
        nats = nats + theirs(input_ids=ids, labels=labels).loss * example.targets
    (nats / float(weight)).backward()  # type: ignore[no-untyped-call]
    line, gradient, _ = capture(stage)
    assert line["loss"] == pytest.approx(nats.item() / weight, rel=1e-5)
    found = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert gradient.keys() == {span.ours for span in spans(stage.task.model.shape, HUGGING_FACE).values()}
    for name, span in spans(stage.task.model.shape, HUGGING_FACE).items():
        torch.testing.assert_close(gradient[span.ours][span.start : span.end], found[name], rtol=1e-4, atol=1e-6)


def test_a_batch_cut_into_micro_batches_is_the_batch(base: Path, chats: Path, tmp_path: Path) -> None:
    found = []
    for micro_tokens in (1, 300, 10_000):
        stage = stage_of(config_of(base, chats, micro_tokens=micro_tokens), tmp_path)
        line, gradient, count = capture(stage)
        found.append((line["loss"], gradient, count))
    assert found[0][2] > found[1][2] > found[2][2]
    for loss, gradient, _ in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        for name, part in gradient.items():
            torch.testing.assert_close(part, found[0][1][name], rtol=1e-4, atol=1e-7)


def test_a_stage_that_was_stopped_ends_with_the_same_bits(
    base: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(base, chats, epochs=2.5)
    whole = sft(config, tmp_path / "whole")
    before, taken = Stage.step, []

    def step(self: Stage, stop: bool = False, save: bool = False) -> Any:
        taken.append(1)
        return before(self, stop or len(taken) == 5, save)

    monkeypatch.setattr(Stage, "step", step)
    with pytest.raises(Interrupted, match="5 of"):
        sft(config, tmp_path / "cut")
    monkeypatch.undo()
    again = sft(config, tmp_path / "cut")
    assert without_time(again) == without_time(whole)
    first, second = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert first.read_bytes() == second.read_bytes()
    lines = [[without_time(line) for line in Run(tmp_path / name).metrics()] for name in ("whole", "cut")]
    assert lines[0] == lines[1]


def test_every_epoch_has_every_example_once_in_another_order(base: Path, chats: Path, tmp_path: Path) -> None:
    stage = stage_of(config_of(base, chats, epochs=2), tmp_path)
    order, count = stage.examples, len(stage.task.training)
    first, second = order[:count], order[count:]
    assert sorted(first) == sorted(second) == stage.task.training.tolist()
    assert first.tolist() != second.tolist()
    assert not set(order) & set(stage.task.held_out)


def test_other_data_or_another_config_are_refused(base: Path, chats: Path, tmp_path: Path) -> None:
    config = config_of(base, chats)
    stage = stage_of(config, tmp_path)
    stages.begin(config, tmp_path)
    stage.step()
    stage.save()
    with pytest.raises(ValueError, match="rate: 0.003 → 0.1"):
        sft(replace(config, rate=0.1), tmp_path)
    lines = chats.read_text().splitlines()
    (tmp_path / "less.jsonl").write_text("\n".join(lines[1:]) + "\n")
    other = stage_of(replace(config, data=("less.jsonl",)), tmp_path)
    with pytest.raises(ValueError, match="examples are not those"):
        other.resume()


def test_data_that_train_on_nothing_say_why(base: Path, tmp_path: Path) -> None:
    question, answer = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}
    (tmp_path / "mute.jsonl").write_text(json.dumps({"messages": [question]}) + "\n")
    with pytest.raises(ValueError, match=r"no conversation in 1 rows: no answer .*mute.jsonl:1"):
        FineTuning(config_of(base, tmp_path / "mute.jsonl"), tmp_path)
    long = {"role": "user", "content": "one " * 300}
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": [long, answer]}) + "\n")
    with pytest.raises(ValueError, match="train on nothing: 0 have no answer .* of 1 the answer begins beyond"):
        FineTuning(config_of(base, tmp_path / "long.jsonl"), tmp_path)


def test_plain_text_has_its_share_and_is_not_measured_on(
    base: Path, chats: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    config = config_of(base, chats, replay=(str(tiny_tokens),), replay_share=0.3)
    with_text, without = FineTuning(config, tmp_path), FineTuning(config_of(base, chats), tmp_path)
    assert with_text.held_out.tolist() == without.held_out.tolist()
    talks = len(without.examples)
    replayed = with_text.weights[talks:]
    assert set(range(talks, len(with_text.examples))) <= set(with_text.training.tolist())
    assert replayed.sum() / with_text.weights.sum() == pytest.approx(0.3, abs=0.02)
    assert (replayed == with_text.length).all()  # whole rows, all of whose tokens are trained on


def test_an_outlook_says_what_the_stage_then_does(base: Path, chats: Path, tmp_path: Path) -> None:
    config = config_of(base, chats, epochs=1.5)
    seen, besides = outlook(config, tmp_path / "out", ranks=1)
    assert not (tmp_path / "out").exists()
    summary = sft(config, tmp_path / "out")
    assert (seen.steps, seen.tokens, seen.held_out) == tuple(summary[key] for key in ("steps", "tokens", "held_out"))
    assert seen.trained * seen.tokens == pytest.approx(summary["targets"])
    assert seen.flops == summary["flops"]
    assert 0 < seen.filled <= 1
    assert besides["data"] == summary["data"] == "90 of 90 rows (90 OpenAI messages)"
    assert seen.seconds > 0


def test_ranks_share_a_batch_row_by_row(base: Path, chats: Path, tmp_path: Path) -> None:
    whole = stage_of(config_of(base, chats), tmp_path)
    loss, gradient, _ = capture(whole)
    shares = []
    for rank in range(2):
        stage = stage_of(config_of(base, chats), tmp_path)
        stage.ranks = Together(rank, 2)
        shares.append(capture(stage))
    assert sum(line["loss"] for line, _, _ in shares) == pytest.approx(loss["loss"], rel=1e-6)
    for name, part in gradient.items():
        torch.testing.assert_close(sum(share[name] for _, share, _ in shares), part, rtol=1e-4, atol=1e-7)


@dataclass(frozen=True)
class Together(Ranks):
    """Ranks that have not yet added up what they have."""

    def add(self, *tensors: torch.Tensor) -> None:
        pass


@pytest.mark.slow
def test_two_processes_do_what_one_does(base: Path, chats: Path, tmp_path: Path) -> None:
    config = config_of(base, chats, epochs=2)
    one, two = (perform_here(config, tmp_path / name, ranks=ranks) for name, ranks in (("one", 1), ("two", 2)))
    assert one.keys() == two.keys()
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-4)
    assert two["targets"] == one["targets"]


def test_a_command_line_overrides_its_config_file_and_paths_are_relative_to_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sft.toml").write_text('model = "../base"\ndata = ["../a.jsonl"]\nrate = 0.5\n[optimizer]\nclip = 2.0\n')
    a, config = parse(SFTConfig, ["sft.toml", "--out", "stages/x", "--data", "b.jsonl", "c.jsonl"], "", "")
    assert (config.model, config.data) == ("../base", ("../../b.jsonl", "../../c.jsonl"))
    assert (config.rate, config.optimizer.clip, a.out) == (0.5, 2.0, Path("stages/x"))
    stages.begin(config, Path("stages/x"))
    assert parse(SFTConfig, ["--out", "stages/x"], "", "")[1] == config
    assert parse(SFTConfig, ["--out=stages/x", "--rate", "1"], "", "")[1] == replace(config, rate=1.0)


def twin(model: Llama) -> Any:
    """The same model as transformers has it, in training."""
    from transformers import LlamaConfig, LlamaForCausalLM

    arguments, weights = to_transformers(model)
    theirs = LlamaForCausalLM(LlamaConfig(**arguments))  # type: ignore[no-untyped-call]
    theirs.load_state_dict(weights)
    return theirs


def capture(stage: Stage) -> tuple[dict[str, Any], dict[str, torch.Tensor], int]:
    """The line of a stage's next step, its gradient by parameter, before the clip, and its micro-batches."""
    stage.config = replace(stage.config, optimizer=replace(stage.config.optimizer, clip=float("inf")))
    kept: dict[str, torch.Tensor] = {}

    def keep(*_: Any) -> None:
        for name, parameter in stage.task.learner.named_parameters():
            assert parameter.grad is not None
            kept[name] = parameter.grad.clone()

    stage.optimizer.register_step_pre_hook(keep)
    count = len(list(stage.micro_batches(stage.batch(stage.progress.step))))
    return stage.step()[0], kept, count


def without_time(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "seconds"}
