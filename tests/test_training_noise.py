"""The noise scale is right where its answer is known, without bias, and goes on where a run goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from isoflop.planning.schedule import BatchRamp, Schedule
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.noise import NoiseScale, propose_ramp, signal_and_noise
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

Make = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Quadratic(nn.Module):
    """Loss ½|θ − x|² of samples x ~ N(0, σ²): at θ the gradient is θ and its noise σ² an entry, a sample."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(size))

    def forward(self, samples: Tensor) -> Tensor:
        return 0.5 * (self.theta - samples).square().sum()


def gradients_of(
    model: Quadratic, scale: NoiseScale, sizes: list[int], sigma: float, generator: torch.Generator
) -> float:
    """Accumulate pieces of these sizes, as a step does; the norm of the whole gradient."""
    total = sum(sizes)
    for size in sizes:
        (model(sigma * torch.randn(size, model.theta.numel(), generator=generator)) / total).backward()
        scale.piece(size)
    assert model.theta.grad is not None
    norm = float(model.theta.grad.norm())
    model.theta.grad = None
    return norm


@pytest.mark.parametrize("sizes", [[8, 8], [4, 4, 4, 4], [1, 7, 2, 13], [30, 1]])
def test_quadratic_has_the_noise_scale_that_it_must_have(sizes: list[int]) -> None:
    """|G|² = 64, S = 64·σ², so that the critical batch is σ² = 9 samples; the pieces may be ragged."""
    model, generator = Quadratic(64), torch.Generator().manual_seed(0)
    scale, found = NoiseScale(model), []
    for _ in range(500):
        norm = gradients_of(model, scale, sizes, 3.0, generator)
        pieces, squares = scale.sums.tolist()
        total = sum(sizes)
        found.append(signal_and_noise(norm**2, pieces, squares / total**2, 1.0))
        scale.sums.zero_()
    estimates = torch.tensor(found, dtype=torch.float64)
    (signal, noise), errors = estimates.mean(0), estimates.std(0) / 500**0.5
    assert abs(signal - 64) < 4 * errors[0]
    assert abs(noise * sum(sizes) - 64 * 9) < 4 * errors[1] * sum(sizes)
    assert errors[0] < 6


def test_average_of_steps_is_the_critical_batch() -> None:
    model, generator = Quadratic(64), torch.Generator().manual_seed(0)
    scale, line = NoiseScale(model), {}
    for _ in range(200):
        line = scale.measure(gradients_of(model, scale, [6, 2, 8], 3.0, generator), 16, 4)
    assert line["critical_batch"] == pytest.approx(9, rel=0.2)
    assert line["noise_scale"] == pytest.approx(line["critical_batch"] / 4)


def test_steps_of_one_piece_tell_nothing() -> None:
    model = Quadratic(4)
    scale = NoiseScale(model)
    norm = gradients_of(model, scale, [8], 1.0, torch.Generator().manual_seed(0))
    assert scale.measure(norm, 8, 1) == {}


def test_hooks_hear_what_a_micro_batchs_gradient_alone_would_be(tiny_config: Make, tmp_path: Path) -> None:
    """The tied embedding, which gets gradients from both ends, included; padded sequences too."""
    for packing in ("cut", "fit"):
        config = tiny_config(noise_scale=True, micro_tokens=32, packing=packing)
        run = Run(tmp_path / packing)
        run.start(config)
        trainer = Trainer.build(config, run)
        assert trainer.noise is not None
        trainer.accumulate(0, 128)
        heard = trainer.noise.sums.tolist()
        alone, squares, total = 0.0, 0, trainer.targets(0, 128)
        for sample, tokens in enumerate(trainer.micro_batches(0, 128)):
            trainer.model.zero_grad()
            objective, _ = trainer.objective(
                trainer.model, trainer.model.hidden(tokens[:, :-1].clamp(min=0)), tokens, sample
            )
            (objective / total).backward()
            alone += sum(
                float(p.grad.double().square().sum()) for p in trainer.model.parameters() if p.grad is not None
            )
            squares += int((tokens[:, 1:] >= 0).sum()) ** 2
        assert heard == pytest.approx([alone, squares], rel=1e-5)


def test_measuring_changes_no_weight_and_goes_on_after_a_stop(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(noise_scale=True, micro_tokens=32)
    measured = train(config, tmp_path / "measured")
    plain = train(tiny_config(micro_tokens=32), tmp_path / "plain")
    assert measured["validation_loss"] == plain["validation_loss"]
    run = Run(tmp_path / "parts")
    run.start(config)
    trainer = Trainer.build(config, run)
    for _ in range(7):
        trainer.step()
    trainer.save()
    train(config, tmp_path / "parts")
    ends = [Run(tmp_path / name).metrics()[-1] for name in ("measured", "parts")]
    assert ends[0]["critical_batch"] == ends[1]["critical_batch"]
    assert measured["batch_proposed"]["first"] == 128


def test_a_step_without_a_number_is_forgotten(tiny_config: Make, tmp_path: Path) -> None:
    config = tiny_config(noise_scale=True, batch=BatchRamp(512), micro_tokens=128)
    run = Run(tmp_path / "run")
    run.start(config)
    trainer = Trainer.build(config, run)
    weights = trainer.model.embedding
    before = weights.detach().clone()
    with torch.no_grad():
        weights.fill_(math.nan)
    assert trainer.step()[0]["skipped"]
    with torch.no_grad():
        weights.copy_(before)
    assert math.isfinite(trainer.step()[0].get("noise_scale", 0.0))
    assert trainer.noise is not None
    assert math.isfinite(trainer.noise.signal)


def test_proposed_batches_never_exceed_the_critical_one() -> None:
    critical = [50, 90, 150, 210, 180, 260, 450, 390, 500, 900, 850]
    metrics = [{"tokens": 1000 * i, "critical_batch": value} for i, value in enumerate(critical, 1)]
    ramp = propose_ramp([{"tokens": 0}, *metrics], 100)
    assert ramp == BatchRamp(100, (6000, 9000, 10_000))
    assert all(ramp.at(line["tokens"]) <= line["critical_batch"] for line in metrics[2:])
    assert propose_ramp(metrics, 100, most=1) == BatchRamp(100, (6000,))
    assert propose_ramp([], 100) == BatchRamp(100)
    BatchRamp(100, propose_ramp([{"tokens": 5, "critical_batch": 1e9}], 100).thresholds)
    assert Schedule(20_000, 0.1).tokens > ramp.thresholds[-1]
