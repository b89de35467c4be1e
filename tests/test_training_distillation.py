"""A teacher's distributions: exact gradients, whole or as the likeliest tokens, live or from what was asked before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop import config as configuration
from isoflop.cli import dispatch
from isoflop.interrupt import Interrupted
from isoflop.planning.schedule import BatchRamp, ContextRamp, Schedule
from isoflop.planning.shape import Shape
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.training import asking, checkpoint
from isoflop.training import loss as loss_module
from isoflop.training.asking import ask
from isoflop.training.config import Teacher, TrainConfig
from isoflop.training.distillation import Likeliest, Whole, likeliest
from isoflop.training.loop import train
from isoflop.training.loss import Taught, Terms, losses
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
ROWS, VOCAB, WIDTH = 12, 20, 8
TARGETS = torch.tensor([3, -1, 5, 0, -1, 19, 2, 2, -1, 7, 8, -1])
VALID = TARGETS >= 0


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tensors() -> Iterator[Tensor]:
    """Student's states and head, teacher's states and head."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(n, WIDTH, generator=generator) for n in (ROWS, VOCAB, ROWS, VOCAB))


def measured(taught: Taught, terms: Terms, *, fast: bool = False) -> list[Tensor]:
    """Objective, cross-entropy and the gradients of states and head, as the trainer has them."""
    hidden, head, *_ = tensors()
    hidden.requires_grad_()
    head.requires_grad_()
    objective, nats = losses(hidden, head, TARGETS, fast=fast, padded=True, terms=terms, taught=taught)
    objective.backward()
    assert hidden.grad is not None
    assert head.grad is not None
    return [t.detach().double() for t in (objective, nats, hidden.grad, head.grad)]


def derived(terms: Terms, k: int | None = None) -> list[Tensor]:
    """The same in float64 by autograd from the definition; with ``k`` all other tokens of the teacher are one event."""
    hidden, head, theirs, their_head = (t.double() for t in tensors())
    hidden.requires_grad_()
    head.requires_grad_()
    logits, tau = hidden @ head.T, terms.temperature
    taught = (theirs @ their_head.T / tau).softmax(-1)
    ours = (logits / tau).softmax(-1)
    if k is not None:
        ids = taught.topk(k, -1).indices
        taught, ours = (
            torch.cat([p.gather(-1, ids), 1 - p.gather(-1, ids).sum(-1, keepdim=True)], -1) for p in (taught, ours)
        )
    lessons = -(taught * ours.log())[VALID].sum()
    nats = F.cross_entropy(logits, TARGETS, reduction="sum", ignore_index=-1)
    objective = (1 - terms.weight) * nats + terms.weight * tau**2 * lessons
    objective.backward()
    assert hidden.grad is not None
    assert head.grad is not None
    return [objective.detach(), nats.detach(), hidden.grad, head.grad]


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("terms", [Terms(weight=1.0), Terms(weight=0.4, temperature=2.0)])
@pytest.mark.parametrize("k", [None, 1, 5])
def test_objective_and_gradient_are_those_of_the_definition(
    k: int | None, terms: Terms, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 100)  # several chunks
    *_, theirs, their_head = tensors()
    taught = likeliest(theirs, their_head, k, temperature=terms.temperature) if k else Whole(theirs, their_head)
    for ours, exact in zip(measured(taught, terms, fast=fast), derived(terms, k), strict=True):
        torch.testing.assert_close(ours, exact, atol=2e-5, rtol=1e-5)


def test_all_tokens_of_the_vocabulary_are_the_whole_distribution() -> None:
    *_, theirs, their_head = tensors()
    every = likeliest(theirs, their_head, VOCAB)
    assert torch.isneginf(every.logs[:, -1]).all()
    terms, whole = Terms(weight=0.5), Whole(theirs, their_head)
    for ours, exact in zip(measured(every, terms), measured(whole, terms), strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", [None, 3, VOCAB])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(k: int | None) -> None:
    hidden, head, *_ = tensors()
    taught = likeliest(hidden, head, k) if k else Whole(hidden, head)
    _, _, *gradients = measured(taught, Terms(weight=1.0))
    for gradient in gradients:
        assert gradient.abs().max() < 2e-6


def test_more_of_the_likeliest_tokens_tell_more() -> None:
    """The divergence of coarser events is a lower bound of that of finer ones."""
    hidden, head, theirs, their_head = tensors()
    logits = hidden @ head.T

    def divergence(k: int) -> float:
        teacher = likeliest(theirs, their_head, k)
        entropy = -(teacher.logs.exp() * teacher.logs).nan_to_num().sum()
        return float(teacher.against(logits, 1.0)[0].sum() - entropy)

    found = [divergence(k) for k in (1, 2, 5, 10, VOCAB)]
    assert found == sorted(found)
    assert found[0] > 0


def test_tokens_impossible_to_the_student_do_not_make_numbers_of_nothing() -> None:
    logits = torch.full((1, 4), -2e4)
    logits[0, 0] = 0.0
    teacher = Likeliest(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.3, 0.1]]).log())
    lessons, gradient = teacher.against(logits, 1.0)
    assert torch.isfinite(lessons).all()
    assert torch.isfinite(gradient).all()


@pytest.fixture
def teacher(tiny_config: Make, tmp_path: Path) -> Path:
    """A finished run of a model wider than the student."""
    train(tiny_config(shape=Shape(2, 32, 2, 1, 64, 300, context=32), seed=3), tmp_path / "teacher")
    return tmp_path / "teacher"


def taught_by(teacher: Path, **changes: float) -> Teacher:
    return replace(Teacher(str(teacher), weight=0.7), **changes)


def weights(run: Path) -> dict[str, bytes]:
    newest = checkpoint.latest(run)
    assert newest is not None
    return {file.name: file.read_bytes() for file in newest.glob("*.safetensors")}


def asked(config: TrainConfig, run: Path) -> dict[str, int]:
    Run(run).start(config)
    return ask(config, run)


def test_a_taught_run_resumes_to_the_same_bits_and_counts_what_the_teacher_cost(
    tiny_config: Make, teacher: Path, tmp_path: Path
) -> None:
    config = tiny_config(teacher=taught_by(teacher))
    summary = train(config, tmp_path / "whole")
    assert summary["flops_teacher"] == 4096 * Run(teacher).config.shape.flops_per_token_at(32) / 3
    run = Run(tmp_path / "parts")
    run.start(config)
    trainer = Trainer.build(config, run)
    for _ in range(5):
        trainer.step()
    trainer.save()
    train(config, tmp_path / "parts")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    train(tiny_config(), tmp_path / "untaught")
    assert weights(tmp_path / "parts") != weights(tmp_path / "untaught")


@pytest.mark.parametrize(("packing", "growing"), [("cut", False), ("cut", True), ("fit", False)])
def test_cached_lessons_of_every_token_train_what_a_live_teacher_does(
    tiny_config: Make, teacher: Path, tmp_path: Path, packing: str, growing: bool
) -> None:
    context = ContextRamp(16, (2048,)) if growing else None
    changes = {"packing": packing, "context": context, "schedule": Schedule(3072, 0.01)}
    live = train(tiny_config(teacher=taught_by(teacher), **changes), tmp_path / "live")
    config = tiny_config(teacher=taught_by(teacher, top_k=300), **changes)
    asked(config, tmp_path / "cached")
    cached = train(config, tmp_path / "cached")
    assert cached["validation_loss"] == pytest.approx(live["validation_loss"], rel=1e-4)
    for a, b in zip(Run(tmp_path / "live").metrics(), Run(tmp_path / "cached").metrics(), strict=True):
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=2e-3)


def test_lessons_serve_every_seed_and_are_not_asked_twice(tiny_config: Make, teacher: Path, tmp_path: Path) -> None:
    """Tokens read once and a half: some sequences twice, none asked twice."""
    epoch = TokenDataset.open(tiny_config().data).split("train").tokens
    wish, batch = taught_by(teacher, top_k=4), BatchRamp(8192)
    config = tiny_config(teacher=wish, schedule=Schedule(epoch * 3 // 2, 0.01), batch=batch, micro_tokens=8192)
    first = asked(config, tmp_path / "first")
    assert first["sequences"] == (epoch - 1) // 32
    assert first["bytes"] == first["sequences"] * 32 * (4 * 2 + 5 * 2)
    other = replace(config, seed=1, schedule=Schedule(16_384, 0.01))
    assert asked(other, tmp_path / "second")["sequences"] == 0
    train(other, tmp_path / "second")


def test_asking_goes_on_where_it_was_stopped(
    tiny_config: Make, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SAVE_SECONDS", 0.0)
    config = tiny_config(teacher=taught_by(teacher, top_k=5))

    def stop(_: str, now: int, total: int) -> None:
        if now * 2 > total:
            raise Interrupted("stopped")

    Run(tmp_path / "run").start(config)
    with pytest.raises(Interrupted):
        ask(config, tmp_path / "run", stop)
    with pytest.raises(ValueError, match="isoflop distil RUN asks for the rest"):
        train(config, tmp_path / "run")
    rest = ask(config, tmp_path / "run")
    assert 0 < rest["sequences"] < 4096 // 32
    assert train(config, tmp_path / "run")["tokens"] == 4096


def test_lessons_of_a_mixture_are_those_of_each_source(
    tiny_config: Make, teacher: Path, write_tokens: Callable[..., Path], tmp_path: Path, tiny_tokens: Path
) -> None:
    rng = np.random.default_rng(0)
    other = write_tokens(tmp_path / "other", [rng.integers(3, 300, 50).tolist() for _ in range(100)])
    mixture = Mixture(
        (Source("tiny", str(tiny_tokens)), Source("other", str(other), tokens=1024)),
        (Blend(0, {"tiny": 3, "other": 1}), Blend(2048, {"tiny": 1, "other": 1})),
        refuse_epochs=100,
    )
    live = train(tiny_config(data="", mixture=mixture, teacher=taught_by(teacher)), tmp_path / "live")
    config = tiny_config(data="", mixture=mixture, teacher=taught_by(teacher, top_k=300))
    asked(config, tmp_path / "cached")
    cached = train(config, tmp_path / "cached")
    assert cached["validation_loss"] == pytest.approx(live["validation_loss"], rel=1e-4)


def test_what_does_not_fit_is_said(tiny_config: Make, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no trained run"):
        train(tiny_config(teacher=Teacher("nowhere")), tmp_path / "a")
    long = Shape(2, 16, 2, 1, 32, 300, context=64)
    with pytest.raises(ValueError, match="a context as long"):
        train(tiny_config(shape=long, teacher=taught_by(teacher)), tmp_path / "b")
    with pytest.raises(ValueError, match="isoflop distil RUN asks"):
        train(tiny_config(teacher=taught_by(teacher, top_k=7)), tmp_path / "c")
    with pytest.raises(ValueError, match="weight above 0"):
        Teacher(str(teacher), weight=0.0)
    record = json.loads((teacher / "data.json").read_text())
    record["sources"]["data"]["tokenizer_checksum"] = "another"
    (teacher / "data.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="has the tokenizer another"):
        train(tiny_config(teacher=taught_by(teacher)), tmp_path / "d")


def test_a_teacher_that_changed_is_refused(tiny_config: Make, teacher: Path, tmp_path: Path) -> None:
    config = tiny_config(teacher=taught_by(teacher))
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    trainer.step()
    trainer.save()
    longer = replace(Run(teacher).config, schedule=Schedule(8192, 0.01, 256, 1024))
    (teacher / "summary.json").unlink()
    (teacher / "config.toml").write_text(configuration.dumps(longer))
    train(longer, teacher)
    with pytest.raises(ValueError, match="not those that taught it so far"):
        train(config, tmp_path / "run")


def test_command_asks_and_the_run_learns(
    tiny_config: Make, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(teacher=taught_by(teacher, top_k=11), schedule=Schedule(1024, 0.01))  # nobody else asks for 11
    (tmp_path / "student.toml").write_text(configuration.dumps(config))
    arguments = [str(tmp_path / "run"), "--config", str(tmp_path / "student.toml")]
    assert dispatch(["distil", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequences"] == 1024 // 32
    assert dispatch(["distil", *arguments]) == 0
    assert "0 sequences asked about" in capsys.readouterr().out
    assert dispatch(["train", *arguments, "--ranks", "1"]) == 0
    (tmp_path / "plain.toml").write_text(configuration.dumps(tiny_config()))
    assert dispatch(["distil", str(tmp_path / "plain"), "--config", str(tmp_path / "plain.toml")]) == 1
    assert "no teacher with a top_k" in capsys.readouterr().err
