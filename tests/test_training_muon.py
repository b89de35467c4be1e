"""Muon turns and does not stretch: each matrix by itself, with a state that goes on, alike on one rank or two."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from isoflop.model.llama import Llama
from isoflop.planning.schedule import Schedule
from isoflop.planning.shape import Shape
from isoflop.progress import silent
from isoflop.training import checkpoint
from isoflop.training.config import OptimizerConfig, TrainConfig
from isoflop.training.launch import train_with
from isoflop.training.loop import train
from isoflop.training.muon import Muon, orthogonalised
from isoflop.training.optimizer import build_optimizer
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]
MUON = OptimizerConfig(kind="muon")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48), (3, 12, 20)])
def test_result_is_about_the_polar_factor(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    found = orthogonalised(matrix, dtype).double()
    inside = u.mT @ found @ vt.mT
    stretched = inside.diagonal(dim1=-2, dim2=-1)
    assert stretched.min() > 0.6
    assert stretched.max() < 1.25
    rest = inside - torch.diag_embed(stretched)
    assert rest.abs().max() < (1e-4 if dtype == torch.float32 else 0.05)
    cosine = (found * (u @ vt)).sum() / found.norm() / (u @ vt).norm()
    assert cosine > 0.98


def test_on_single_matrices_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.randn(24, 40, generator=generator.manual_seed(1))) for _ in range(2))
    mine = Muon([{"params": [ours], "sizes": (24,)}], 0.95, torch.bfloat16, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(24, 40, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
        torch.testing.assert_close(
            ours, theirs, atol=2e-3, rtol=0
        )  # bf16 sums in another order; a step is 0.02 an entry


def test_joined_matrices_are_turned_one_by_one_and_the_rest_is_adamws() -> None:
    shape = Shape(2, 16, 4, 2, 24, 50, context=8)
    model = Llama(shape).initialise(0)
    twin = Llama(shape).initialise(0)
    optimizers = build_optimizer(model, MUON), build_optimizer(twin, OptimizerConfig())
    tokens = torch.randint(50, (3, 8), generator=torch.Generator().manual_seed(0))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for each, optimizer in zip((model, twin), optimizers, strict=True):
        each(tokens).logsumexp(-1).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01
    gradients = {
        name: parameter.grad.clone() for name, parameter in twin.named_parameters() if parameter.grad is not None
    }
    for optimizer in optimizers:
        optimizer.step()
    sizes = {"qkv": [16, 8, 8], "out": [16], "gate_up": [24, 24], "down": [16]}
    references = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        parts = sizes.get(name.rsplit(".", 1)[-1])
        if parts is None:
            assert torch.equal(parameter, references[name]), name
            continue
        pieces = (tensor.split(parts) for tensor in (parameter, before[name], gradients[name]))
        for after, start, gradient in zip(*pieces, strict=True):
            scale = 0.01 * 0.2 * max(start.shape) ** 0.5
            expected = start * (1 - 0.01 * 0.1) - scale * orthogonalised(gradient, torch.float32)
            torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-4)


def test_run_stopped_halfway_ends_with_the_same_bits(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(optimizer=MUON)
    whole = train(config, tmp_path / "whole")
    run = Run(tmp_path / "parts")
    run.start(config)
    trainer = Trainer.build(config, run)
    for _ in range(7):
        trainer.step()
    trainer.save()
    assert train(config, tmp_path / "parts")["validation_loss"] == whole["validation_loss"]
    ends = [checkpoint.latest(tmp_path / name) for name in ("whole", "parts")]
    for file in ("model.safetensors", "optimizer.safetensors"):
        one, two = ((end / file).read_bytes() for end in ends if end)
        assert one == two


@pytest.mark.slow
def test_two_ranks_train_what_one_process_does(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(optimizer=MUON, schedule=Schedule(2048, 0.01))
    alone = train(config, tmp_path / "one")
    Run(tmp_path / "two").start(config)
    train_with([sorted(os.sched_getaffinity(0))[0]] * 2, tmp_path / "two", silent)
    together = Run(tmp_path / "two").summary
    assert together is not None
    assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-3)
