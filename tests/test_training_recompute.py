"""Recomputing blocks in the backward pass changes no bit of loss or gradients, and holds far less memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.planning.layout import Recompute
from isoflop.planning.shape import Shape
from isoflop.training import checkpoint
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import has_compiler
from isoflop.training.loop import train
from isoflop.training.loss import cross_entropy
from isoflop.training.run import Run


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def loss_and_gradients(
    shape: Shape, recompute: Recompute, compute: torch.dtype, *, compiled: bool = False
) -> list[Tensor]:
    """The loss of fixed tokens and the gradients of all parameters."""
    model = Llama(shape, compute=compute, compiled=compiled, recompute=recompute).initialise(0)
    tokens = torch.randint(shape.vocab, (2, shape.context + 1), generator=torch.Generator().manual_seed(0))
    loss = cross_entropy(model.hidden(tokens[:, :-1]), model.head, tokens[:, 1:])
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("context", [32, 520])  # scores written out, and torch's fused attention
@pytest.mark.parametrize("tied", [True, False])
def test_recomputing_blocks_changes_no_bit(compute: torch.dtype, context: int, tied: bool) -> None:
    shape = Shape(3, 32, 4, 2, 48, 64, context=context, tied=tied)
    kept, recomputed = (loss_and_gradients(shape, way, compute) for way in ("none", "blocks"))
    assert len(kept) == 3 * 6 + 2 + (not tied) + 1
    assert all(torch.equal(a, b) for a, b in zip(kept, recomputed, strict=True))


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_recomputing_compiled_blocks_changes_no_bit() -> None:
    shape = Shape(2, 64, 4, 4, 224, 96, context=128)  # as in the tests of memory, whose graph serves here too
    kept, recomputed = (loss_and_gradients(shape, way, torch.bfloat16, compiled=True) for way in ("none", "blocks"))
    assert all(torch.equal(a, b) for a, b in zip(kept, recomputed, strict=True))


def test_run_that_recomputes_ends_with_the_same_weights(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    weights = []
    for recompute in ("none", "blocks"):
        train(tiny_config(recompute=recompute), tmp_path / recompute)
        assert Run(tmp_path / recompute).config.recompute == recompute
        newest = checkpoint.latest(tmp_path / recompute)
        assert newest is not None
        weights.append((newest / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_recomputing_saves_most_of_a_deep_models_peak(peak_bytes: Callable[[Callable[[], object]], int]) -> None:
    shape = Shape(8, 64, 4, 4, 224, 64, context=128)
    kept, recomputed = (
        peak_bytes(lambda way=way: loss_and_gradients(shape, way, torch.float32))  # type: ignore[misc]
        for way in ("none", "blocks")
    )
    assert recomputed < 0.4 * kept
