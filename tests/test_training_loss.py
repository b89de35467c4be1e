"""Chunked cross-entropy equals the plain one, in value and gradient, however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.training import loss as module
from isoflop.training.config import TrainConfig
from isoflop.training.loop import train
from isoflop.training.loss import Terms, chunk_rows, cross_entropy, losses
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(2, 60), st.sampled_from([64, 600, 1 << 20]), st.floats(0.1, 30))
def test_value_and_gradients_equal_the_plain_cross_entropy(rows: int, vocab: int, elements: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden, head = (torch.randn(n, 8, generator=generator) * scale for n in (rows, vocab))
    targets = torch.randint(vocab, (rows,), generator=generator)
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_ELEMENTS", elements)
        for dtype, function in ((torch.float32, cross_entropy), (torch.float64, plain)):
            h, w = (t.to(dtype).detach().requires_grad_() for t in (hidden, head))
            value = function(h, w, targets) / rows
            value.backward()
            results.append([t.double() for t in (value.detach(), h.grad, w.grad)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-4 * scale, rtol=1e-4)


def plain(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    return F.cross_entropy(hidden @ head.T, targets, reduction="sum", ignore_index=ignore_index)


def test_without_gradients_the_value_is_the_same() -> None:
    hidden, head, targets = torch.randn(12, 8), torch.randn(20, 8), torch.randint(20, (12,))
    with torch.no_grad():
        value = cross_entropy(hidden, head, targets)
    torch.testing.assert_close(value, plain(hidden, head, targets))


def test_bf16_logits_are_summed_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 32, generator=generator) for n in (4096, 512))
    targets = torch.randint(512, (4096,), generator=generator)
    exact = plain(hidden.bfloat16().double(), head.bfloat16().double(), targets) / 4096
    ours = cross_entropy(hidden.bfloat16(), head, targets) / 4096
    assert abs(float(ours - exact)) < 2e-3


@given(st.integers(1, 5000), st.integers(2, 200_000))
def test_chunks_are_equal_and_within_the_limit(rows: int, vocab: int) -> None:
    size = chunk_rows(rows, vocab)
    assert rows % size == 0
    assert size == 1 or size * vocab <= module.CHUNK_ELEMENTS


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_padding_has_no_loss_and_no_gradient(fast: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 8, generator=generator) for n in (12, 20))
    targets = torch.tensor([3, -1, 5, 0, -1, 19, 2, 2, -1, 7, 8, -1])
    results = []
    for function in (partial(cross_entropy, fast=fast, padded=True), partial(plain, ignore_index=-1)):
        h, w = (t.clone().requires_grad_() for t in (hidden, head))
        value = function(h, w, targets)
        value.backward()
        results.append([value.detach(), h.grad, w.grad])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact)
    assert torch.equal(results[0][1][targets < 0], torch.zeros(4, 8))
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(hidden, head, targets, padded=True), results[1][0])


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("terms", [Terms(z=1e-2), Terms(cap=3.0), Terms(z=1e-2, cap=3.0)])
def test_z_loss_and_cap_equal_their_definitions(terms: Terms, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 100)  # several chunks
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, 8, generator=generator) for n in (12, 20))
    targets = torch.tensor([3, -1, 5, 0, -1, 19, 2, 2, -1, 7, 8, -1])
    h, w = (t.clone().requires_grad_() for t in (hidden, head))
    ours, nats = losses(h, w, targets, fast=fast, padded=True, terms=terms)
    ours.backward()
    h64, w64 = (t.double().requires_grad_() for t in (hidden, head))
    logits = h64 @ w64.T
    if terms.cap:
        logits = terms.cap * torch.tanh(logits / terms.cap)
    plain = F.cross_entropy(logits, targets, reduction="sum", ignore_index=-1)
    exact = plain + terms.z * logits.logsumexp(-1)[targets >= 0].square().sum()
    exact.backward()
    for mine, theirs in ((ours, exact), (nats, plain), (h.grad, h64.grad), (w.grad, w64.grad)):
        torch.testing.assert_close(mine.double(), theirs, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        value = cross_entropy(hidden, head, targets, padded=True, cap=terms.cap)
    torch.testing.assert_close(value.double(), plain)


def test_z_loss_draws_the_logits_of_a_run_towards_zero(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    torch.set_num_threads(1)

    def mean_log_z(run: Path) -> float:
        trainer = Trainer.build(Run(run).config, Run(run))
        with torch.no_grad():
            return float(trainer.model(trainer.validation.tokens[:, :-1]).logsumexp(-1).mean())

    for name, weight in (("without", 0.0), ("with", 1.0)):
        train(tiny_config(z_loss=weight), tmp_path / name)
    assert abs(mean_log_z(tmp_path / "with")) < 0.9 * abs(mean_log_z(tmp_path / "without"))
