"""Distillation on a student's own answers: divergences by hand, what is drawn, batches cut anyhow, exact resumption."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isoflop.cli import dispatch
from isoflop.inference.load import load_model
from isoflop.interrupt import Interrupted
from isoflop.model.export import export_ours
from isoflop.model.llama import Llama
from isoflop.model.source import Held
from isoflop.planning.lora import Lora
from isoflop.planning.shape import Shape
from isoflop.posttraining.divergence import Divergence, compared
from isoflop.posttraining.settings import TeachConfig
from isoflop.posttraining.stage import Stage
from isoflop.posttraining.teaching import Teaching, teach
from isoflop.tokens import train_tokenizer
from isoflop.training.distillation import Whole
from isoflop.training.loss import Terms, losses
from isoflop.training.ranks import Ranks
from isoflop.training.run import Run

WORDS = ["law", "scale", "loss", "token", "model", "curve"]
SHAPE = Shape(1, 32, 4, 2, 48, 300, context=64)
BETAS = (0.0, 0.1, 0.5, 1.0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``student`` and a wider ``teacher``, of one tokenizer, prompts and given answers."""
    path = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([" ".join(WORDS) + " say the"] * 20, 300)
    beside = {"tokenizer.json": tokenizer.to_bytes()}
    export_ours(Held(Llama(SHAPE).initialise(1)), path / "student", beside=beside)
    teacher = Llama(replace(SHAPE, layers=2, width=64, ffn=96)).initialise(2)
    export_ours(Held(sharper(teacher)), path / "teacher", beside=beside)
    asked = [f"say {first} the {second}" for first in WORDS for second in WORDS]
    (path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    given = [{"messages": [{"role": "user", "content": f"{w}?"}, {"role": "assistant", "content": w}]} for w in WORDS]
    (path / "given.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def sharper(model: Llama) -> Llama:
    """A model that is surer of what it says, so that there is something to learn."""
    with torch.no_grad():
        model.head.mul_(1.5)
    return model


def config_of(models: Path, **changes: Any) -> TeachConfig:
    plain = TeachConfig(
        model=str(models / "student"),
        teacher=str(models / "teacher"),
        prompts=(str(models / "prompts.jsonl"),),
        batch=8,
        rate=3e-3,
        max_tokens=6,
        micro_tokens=256,
        validation=0.2,
        precision="fp32",
        compile="never",
    )
    return replace(plain, **changes)


def stage_of(config: TeachConfig, path: Path, ranks: Ranks = Ranks()) -> Stage:  # noqa: B008 - a frozen value
    return Stage(config, Teaching(config, path), Run(path), ranks)


def by_hand(logits: Tensor, theirs: Tensor, beta: float, temperature: float) -> Tensor:
    """The divergence of each row from its definition, float64, with τ² before it."""
    p, q = (theirs / temperature).softmax(-1), (logits / temperature).softmax(-1)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a.log() - b.log())).sum(-1)

    m = beta * p + (1 - beta) * q
    found = {0.0: lambda: kl(p, q), 1.0: lambda: kl(q, p)}.get(beta, lambda: beta * kl(p, m) + (1 - beta) * kl(q, m))
    return temperature**2 * found()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("temperature", "cap"), [(1.0, 0.0), (2.0, 5.0)])
def test_loss_and_gradient_are_those_of_a_derivation_in_float64(beta: float, temperature: float, cap: float) -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(7, 16), torch.randn(40, 16)
    states, matrix = torch.randn(7, 12), torch.randn(40, 12)
    targets = torch.tensor([3, 0, -1, 39, 8, -1, 5])
    ours = [part.clone().requires_grad_() for part in (hidden, head)]
    taught, terms = Divergence(Whole(states, matrix, cap), beta), Terms(cap=cap, weight=1.0, temperature=temperature)
    objective, _ = losses(ours[0], ours[1], targets, padded=True, terms=terms, taught=taught)
    objective.backward()  # type: ignore[no-untyped-call]
    exact = [part.double().requires_grad_() for part in (hidden, head)]
    logits, theirs = exact[0] @ exact[1].T, states.double() @ matrix.double().T
    if cap:
        logits, theirs = cap * torch.tanh(logits / cap), cap * torch.tanh(theirs / cap)
    wanted = by_hand(logits, theirs, beta, temperature)[targets >= 0].sum()
    wanted.backward()  # type: ignore[no-untyped-call]
    assert objective.item() == pytest.approx(wanted.item(), rel=1e-5)
    for mine, other in zip(ours, exact, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad.float(), rtol=1e-4, atol=1e-5)


def test_the_generalised_divergence_tends_to_both_kinds_over_its_share() -> None:
    torch.manual_seed(1)
    logits, teacher = torch.randn(5, 30), Whole(torch.randn(5, 8), 0.3 * torch.randn(30, 8))
    forward, reverse = (Divergence(teacher, beta).against(logits, 1.0)[0] for beta in (0.0, 1.0))
    low, high = (Divergence(teacher, beta).against(logits, 1.0)[0] for beta in (1e-3, 1 - 1e-3))
    torch.testing.assert_close(low / 1e-3, forward, rtol=0.02, atol=0.0)
    torch.testing.assert_close(high / 1e-3, reverse, rtol=0.02, atol=0.0)
    assert (forward - reverse).abs().min() > 0.01


@pytest.mark.parametrize("beta", BETAS)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(beta: float) -> None:
    torch.manual_seed(2)
    hidden, head = torch.randn(6, 8), torch.randn(30, 8)
    loss, slope = Divergence(Whole(hidden, head), beta).against(hidden @ head.T, 1.0)
    assert loss.abs().max() < 1e-6
    assert slope.abs().max() < 1e-6


def test_what_is_measured_is_the_divergence_of_rows_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isoflop.training.loss.CHUNK_ELEMENTS", 60)  # two rows a chunk
    torch.manual_seed(3)
    hidden, head, teacher = torch.randn(6, 8), torch.randn(30, 8), Whole(torch.randn(6, 4), torch.randn(30, 4))
    counted = torch.tensor([True, False, True, True, False, True])
    kl, alike = compared(hidden, head, 0.0, teacher, counted)
    logits, theirs = hidden @ head.T, teacher.logits()
    assert kl.item() == pytest.approx(by_hand(logits.double(), theirs.double(), 1.0, 1.0)[counted].sum().item())
    assert alike == (logits.argmax(-1) == theirs.argmax(-1))[counted].sum()


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_student_gets_nearer_to_its_teacher_on_its_own_answers(models: Path, tmp_path: Path, beta: float) -> None:
    summary = teach(config_of(models, beta=beta, rate=1e-2, epochs=4), tmp_path / "out")
    lines = Run(tmp_path / "out").metrics()
    assert summary["validation_kl"] < 0.75 * lines[0]["validation_kl"]
    assert summary["validation_loss"] < 0.75 * lines[0]["validation_loss"]
    taught = [line for line in lines if "targets" in line]
    assert summary["targets"] == sum(line["targets"] for line in taught)
    assert all(1 <= line["answer_tokens"] <= 6 for line in taught)
    assert load_model(tmp_path / "out")[0].shape == SHAPE
    assert summary["data"] == "36 of 36 rows (36 prompt)"


def test_answers_are_the_students_own_now_and_are_drawn_anew(models: Path, tmp_path: Path) -> None:
    stage = stage_of(config_of(models, draw_temperature=0.0), tmp_path)
    task = stage.task
    assert isinstance(task, Teaching)
    number = int(task.training[0])
    task.refresh(np.array([number]), 1, Ranks())
    example = task.examples[number]
    first = int(np.argmax(example.trained))
    assert tuple(example.ids[:first]) == task.drawing.prompts[number]
    assert example.trained[first:].all()
    logits = task.model(torch.from_numpy(example.ids[None]).long())[0]
    assert logits.argmax(-1)[first - 1 : -1].tolist() == example.ids[first:].tolist()  # greedy: the likeliest, each
    warm = stage_of(config_of(models), tmp_path).task
    assert isinstance(warm, Teaching)
    said = []
    for step in (1, 2, 1):
        warm.refresh(warm.training, step, Ranks())
        said.append([example.ids.tolist() for example in warm.examples])
    assert said[0] == said[2] != said[1]


def test_a_batch_cut_into_micro_batches_is_the_batch(models: Path, tmp_path: Path) -> None:
    config = config_of(models, data=(str(models / "given.jsonl"),), given=0.5, batch=42, validation=0.0)
    small, large = (capture(stage_of(replace(config, micro_tokens=n), tmp_path)) for n in (1, 10_000))
    assert small[0]["loss"] == pytest.approx(large[0]["loss"], rel=1e-5)
    assert small[0]["targets"] == large[0]["targets"]
    for name, part in large[1].items():
        torch.testing.assert_close(small[1][name], part, rtol=1e-4, atol=1e-7)


def test_given_answers_and_only_they_add_their_likelihood(models: Path, tmp_path: Path) -> None:
    config = config_of(models, data=(str(models / "given.jsonl"),), batch=42, validation=0.0)
    without, alone = capture(stage_of(config, tmp_path)), stage_of(replace(config, given=0.5), tmp_path)
    line = capture(alone)[0]
    task = alone.task
    assert isinstance(task, Teaching)
    model, _ = load_model(models / "student")
    nats = 0.0
    for example in task.examples[36:]:
        logs = model(torch.from_numpy(example.ids[None]).long())[0].log_softmax(-1)
        nats -= sum(float(logs[at - 1, example.ids[at]].detach()) for at in np.flatnonzero(example.trained))
    assert line["loss"] - without[0]["loss"] == pytest.approx(0.5 * nats / line["targets"], rel=1e-3)


def test_ranks_share_drawing_and_learning(models: Path, tmp_path: Path) -> None:
    config = config_of(models)
    whole = stage_of(config, tmp_path)
    numbers = whole.batch(0)
    task = whole.task
    assert isinstance(task, Teaching)
    drawn = list(task.drawing.draw(numbers.tolist(), 1, Ranks()))
    halves = [Half(rank, 2) for rank in range(2)]
    parts = [list(task.drawing.draw(numbers.tolist(), 1, half)) for half in halves]
    assert [one or other for one, other in zip(*parts, strict=True)] == drawn
    assert not any(one and other for one, other in zip(*parts, strict=True))


@dataclass(frozen=True)
class Half(Ranks):
    """Ranks that have not yet added up what they have."""

    def add(self, *tensors: Tensor) -> None:
        pass


def test_a_stage_that_was_stopped_ends_with_the_same_bits(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(models, epochs=1.5, lora=Lora(rank=4), data=(str(models / "given.jsonl"),))
    whole = teach(config, tmp_path / "whole")
    before, taken = Stage.step, []

    def step(self: Stage, stop: bool = False, save: bool = False) -> Any:
        taken.append(1)
        return before(self, stop or len(taken) == 3, save)

    monkeypatch.setattr(Stage, "step", step)
    with pytest.raises(Interrupted, match="3 of"):
        teach(config, tmp_path / "cut")
    monkeypatch.undo()
    again = teach(config, tmp_path / "cut")
    assert without_time(again) == without_time(whole)
    first, second = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert first.read_bytes() == second.read_bytes()
    lines = [[without_time(line) for line in Run(tmp_path / name).metrics()] for name in ("whole", "cut")]
    assert lines[0] == lines[1]


def test_a_teacher_that_cannot_teach_is_refused_in_a_sentence(models: Path, tmp_path: Path) -> None:
    other = train_tokenizer(["other words make another tokenizer of the same size"] * 20, 300)
    large = Llama(SHAPE).initialise(0)
    export_ours(Held(large), tmp_path / "other", beside={"tokenizer.json": other.to_bytes()})
    with pytest.raises(ValueError, match="another tokenizer than the student"):
        Teaching(config_of(models, teacher=str(tmp_path / "other")), tmp_path)
    short, beside = Llama(replace(SHAPE, context=32)).initialise(0), (models / "student/tokenizer.json").read_bytes()
    export_ours(Held(short), tmp_path / "short", beside={"tokenizer.json": beside})
    with pytest.raises(ValueError, match="sees 32 tokens and the student 64; lower context"):
        Teaching(config_of(models, teacher=str(tmp_path / "short")), tmp_path)
    Teaching(config_of(models, teacher=str(tmp_path / "short"), context=32), tmp_path)
    with pytest.raises(ValueError, match="none of the 36 prompts leaves room for an answer in 8 tokens"):
        Teaching(config_of(models, context=8), tmp_path)
    with pytest.raises(ValueError, match="a teacher, and prompts"):
        config_of(models, prompts=())
    with pytest.raises(ValueError, match="beta is from 0 to 1"):
        config_of(models, beta=1.5)


def test_another_teacher_is_refused_when_a_stage_goes_on(models: Path, tmp_path: Path) -> None:
    stage = stage_of(config_of(models), tmp_path)
    stage.step()
    stage.save()
    other = stage_of(config_of(models, teacher=str(models / "student")), tmp_path)
    with pytest.raises(ValueError, match="are not those it has learnt from"):
        other.resume()


def test_the_command_says_what_it_would_do_and_does_it(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", str(models / "student"), "--teacher", str(models / "teacher"), "--max-tokens", "4"]
    flags += ["--prompts", str(models / "prompts.jsonl"), "--compile", "never", "--ranks", "1"]
    arguments = ["teach", *flags, "--out", str(tmp_path / "out")]
    assert dispatch([*arguments, "--dry-run", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert dispatch([*arguments, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert seen["steps"] == summary["steps"]
    assert seen["tokens"] >= summary["tokens"]
    assert seen["flops"] == summary["flops"]


def capture(stage: Stage) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The line of a stage's next step, and its gradient by parameter, before the clip."""
    stage.config = replace(stage.config, optimizer=replace(stage.config.optimizer, clip=float("inf")))
    kept: dict[str, Tensor] = {}

    def keep(*_: Any) -> None:
        kept.update({n: p.grad.clone() for n, p in stage.task.learner.named_parameters() if p.grad is not None})

    stage.optimizer.register_step_pre_hook(keep)
    return stage.step()[0], kept


def without_time(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "seconds"}
