"""Log-likelihoods in chunks equal the plain ones, in value and gradient, whatever the weights of their sum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.posttraining import likelihood as module
from isoflop.posttraining.likelihood import log_likelihoods


def drawn(rows: int, vocab: int, dtype: torch.dtype, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)
    hidden, head = (torch.randn(n, 8, generator=generator, dtype=dtype) * scale for n in (rows, vocab))
    return hidden.requires_grad_(), head.requires_grad_(), torch.randint(vocab, (rows,), generator=generator)


def plain(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, cap: float) -> torch.Tensor:
    logits = hidden @ head.T
    logits = cap * torch.tanh(logits / cap) if cap else logits
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(2, 60), st.sampled_from([1, 64, 600, 1 << 20]), st.sampled_from([0.0, 3.0]))
def test_values_and_gradients_equal_the_plain_ones(rows: int, vocab: int, elements: int, cap: float) -> None:
    weights = torch.linspace(-1, 2, rows)  # as preferences weigh sequences: not all alike, some not at all
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_ELEMENTS", elements)
        patch.setattr(module, "LEAST_ROWS", 1)
        for dtype, function in ((torch.float32, log_likelihoods), (torch.float64, plain)):
            hidden, head, targets = drawn(rows, vocab, torch.float64, 2.0)
            h, w = (t.to(dtype).detach().requires_grad_() for t in (hidden, head))
            found = function(h, w, targets, cap)
            (found * weights).sum().backward()
            results.append([t.double() for t in (found.detach(), h.grad, w.grad)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_gradient_is_that_of_finite_differences(cap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 30)
    monkeypatch.setattr(module, "LEAST_ROWS", 1)
    hidden, head, targets = drawn(7, 11, torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: log_likelihoods(h, w, targets, cap), (hidden, head))


def test_frozen_head_has_no_gradient_and_bf16_is_reduced_in_fp32() -> None:
    hidden, head, targets = drawn(300, 200, torch.float32)
    narrow, frozen = hidden.detach().bfloat16().requires_grad_(), head.detach()
    found = log_likelihoods(narrow, frozen, targets)
    assert found.dtype == torch.float32
    exact = plain(narrow.detach().double(), frozen.bfloat16().double(), targets, 0.0)
    assert (found.double() - exact).abs().mean() < 0.01
    found.sum().backward()
    assert narrow.grad is not None
    assert frozen.grad is None


def test_all_logits_are_never_there(
    peak_bytes: Callable[[Callable[[], object]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1 << 14)
    monkeypatch.setattr(module, "LEAST_ROWS", 1)
    hidden, head, targets = drawn(1024, 512, torch.float32)

    def peak(function: Callable[..., torch.Tensor]) -> int:
        return peak_bytes(lambda: function(hidden, head, targets, 0.0).sum().backward())

    assert peak(log_likelihoods) < 1024 * 512 < peak(plain)  # a quarter of what all logits take
