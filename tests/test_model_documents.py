"""A token sees its own document only, whichever way attention is computed, and at the cost of documents alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.model import attention, flex
from isoflop.model.attention import ShortAttention, causal_attention, visible
from isoflop.model.document_attention import _attend as document_operator
from isoflop.model.document_attention import document_attention
from isoflop.model.llama import Llama
from isoflop.planning.layout import Recompute
from isoflop.planning.schedule import Schedule
from isoflop.planning.shape import Shape
from isoflop.tokens.dataset import TokenDataset
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import has_compiler
from isoflop.training.loop import train
from isoflop.training.loss import cross_entropy
from isoflop.training.run import Run
from isoflop.training.trainer import Trainer

LENGTHS = {200: [[1, 70, 129], [200]], 700: [[300, 1, 399], [50, 513, 137]]}  # scores written out, and the fused kernel


def documents_of(time: int) -> Tensor:
    """Ids (2, time) of documents of the lengths above; the last of row 0 is padding."""
    ids = torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in LENGTHS[time]])
    ids[0] = torch.where(ids[0] == ids[0].max(), -1, ids[0])
    return ids


def inputs(time: int, heads: int = 4, kv_heads: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)
    sizes = [(2, n, time, 16) for n in (heads, kv_heads, kv_heads)]
    return [torch.randn(size, dtype=dtype, generator=generator) for size in sizes]


def derived(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """Softmax over the tokens of one's document up to oneself, query by query."""
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
    out = torch.zeros_like(q)
    for row in range(q.shape[0]):
        for i in range(q.shape[2]):
            seen = [j for j in range(i + 1) if documents[row, j] == documents[row, i]]
            scores = torch.einsum("hd,hkd->hk", q[row, :, i], k[row, :, seen]) / q.shape[-1] ** 0.5
            out[row, :, i] = torch.einsum("hk,hkd->hd", scores.softmax(-1), v[row, :, seen])
    return out


def gradients(function: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """The result and what a fixed gradient of it makes of the inputs."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    out.backward(torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1)))
    return [out.detach(), *(t.grad for t in leaves if t.grad is not None)]


def test_masked_attention_is_the_derivations() -> None:
    tensors, documents = inputs(200), documents_of(200)
    torch.testing.assert_close(
        causal_attention(*tensors, documents), derived(*tensors, documents), atol=2e-6, rtol=1e-5
    )


@pytest.mark.parametrize("time", [200, 700])
def test_every_way_of_masking_gives_the_librarys_values_and_gradients(time: int) -> None:
    tensors, documents = inputs(time, kv_heads=4), documents_of(time)
    seen = visible(time, 0, documents, documents.device)
    expected = gradients(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=seen), tensors)
    ways = [
        lambda q, k, v: ShortAttention.apply(q, k, v, documents, 0.0),
        lambda q, k, v: document_attention(q, k, v, documents),
    ]
    for way in ways:
        for ours, theirs in zip(gradients(way, tensors), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=5e-5)


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_what_a_gpu_does_has_the_same_values(cap: float) -> None:
    tensors, documents = inputs(200, dtype=torch.float32), documents_of(200)
    fast = causal_attention(*tensors, flex.block_mask(documents), cap)
    torch.testing.assert_close(fast, causal_attention(*tensors, documents, cap), atol=1e-5, rtol=1e-4)


def test_a_masked_gpu_kernel_skips_the_blocks_between_documents() -> None:
    apart = torch.arange(1024).div(128, rounding_mode="floor")[None]
    assert flex.block_mask(apart).sparsity() == pytest.approx(100 * (1 - 8 / 64))


def test_scores_across_documents_are_never_computed_at_long_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    import isoflop.model.document_attention as module

    kernel = module._forward
    monkeypatch.setattr(module, "_forward", lambda q, *a, **k: sizes.append(q.shape[2]) or kernel(q, *a, **k))
    causal_attention(*inputs(700), documents_of(700))
    assert sizes == [300, 1, 399, 50, 513, 137]


@pytest.mark.parametrize("time", [200, 700])
@pytest.mark.parametrize("recompute", ["none", "blocks"])
def test_packed_and_masked_is_document_by_document(time: int, recompute: Recompute) -> None:
    shape = Shape(2, 32, 4, 2, 48, 64, context=time)
    model = Llama(shape, recompute=recompute).initialise(0)
    tokens = torch.randint(64, (2, time + 1), generator=torch.Generator().manual_seed(0))
    packed = cross_entropy(model.hidden(tokens[:, :-1], documents_of(time)), model.head, tokens[:, 1:])
    alone = torch.zeros(())
    for row, lengths in zip(tokens, LENGTHS[time], strict=True):
        for end, length in zip(accumulate(lengths), lengths, strict=True):
            own, targets = row[None, end - length : end], row[None, end - length + 1 : end + 1]
            alone = alone + cross_entropy(model.hidden(own), model.head, targets)
    together, apart = (torch.autograd.grad(loss, [*model.parameters()]) for loss in (packed, alone))
    torch.testing.assert_close(packed, alone)
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def test_one_document_a_row_is_no_mask_at_all() -> None:
    tensors, one = inputs(200, dtype=torch.float32), torch.zeros(2, 200, dtype=torch.long)
    assert torch.equal(causal_attention(*tensors, one), causal_attention(*tensors))
    tensors, one = inputs(700, dtype=torch.float32), torch.zeros(2, 700, dtype=torch.long)
    assert torch.equal(causal_attention(*tensors, one), causal_attention(*tensors))


@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.parametrize("time", [200, 700])
def test_compiled_and_masked_is_eager_and_one_graph_serves_any_documents(time: int) -> None:
    shape = Shape(1, 32, 2, 1, 64, 64, context=time)
    tokens = torch.randint(64, (2, time), generator=torch.Generator().manual_seed(0))
    eager, fast = (Llama(shape, compiled=compiled).initialise(0) for compiled in (False, True))
    other = torch.arange(time).div(37, rounding_mode="floor").repeat(2, 1)
    found = fast.hidden(tokens, documents_of(time))
    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(found, eager.hidden(tokens, documents_of(time)), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(fast.hidden(tokens, other), eager.hidden(tokens, other), atol=1e-4, rtol=1e-4)
        for model in (eager, fast):
            model.hidden(tokens, other).square().sum().backward()
        for ours, theirs in zip(fast.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)


def test_lengths_tried_are_on_both_sides_of_where_the_way_changes() -> None:
    assert min(LENGTHS) <= attention.SHORT < max(LENGTHS)


@pytest.mark.parametrize("packing", ["cut", "fit"])
def test_masked_run_measures_documents_apart(
    write_tokens: Callable[..., Path], tiny_config: Callable[..., TrainConfig], tmp_path: Path, packing: str
) -> None:
    data = write_tokens(tmp_path / "data", [[5 + i % 7] * (i % 5 + 3) for i in range(200)], validation=40)
    config = tiny_config(data=str(data), packing=packing, schedule=Schedule(1024, 0.01), validation_tokens=256)
    masked, plain = (train(replace(config, document_mask=mask), tmp_path / str(mask)) for mask in (True, False))
    assert masked["validation_loss"] != plain["validation_loss"]
    assert abs(masked["validation_loss"] - plain["validation_loss"]) < 0.5


def test_trainer_and_validation_tell_the_model_where_documents_begin(
    write_tokens: Callable[..., Path], tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    data = write_tokens(tmp_path / "data", [[5 + i % 7] * (i % 5 + 3) for i in range(200)], validation=40)
    config = tiny_config(data=str(data), document_mask=True, validation_tokens=256)
    run = Run(tmp_path / "run")
    run.start(config)
    trainer, bos = Trainer.build(config, run), TokenDataset.open(data).tokenizer.bos
    told: list[Tensor] = []
    hidden = trainer.model.hidden

    def listen(tokens: Tensor, documents: Tensor | None = None, arriving: Tensor | None = None) -> Tensor:
        assert documents is not None
        begins = torch.cat([torch.zeros(len(tokens), 1), (tokens == bos)[:, 1:]], 1)
        assert torch.equal(documents, begins.cumsum(1).long())
        told.append(documents)
        return hidden(tokens, documents, arriving)

    trainer.model.hidden = listen  # type: ignore[method-assign, assignment]
    trainer.step()
    trained = len(told)
    trainer.validation.measure(trainer.model, trainer.ranks)
    assert 0 < trained < len(told)
    assert max(int(ids.max()) for ids in told) > 2


def test_operator_keeps_torchs_rules_for_operators() -> None:
    tensors = [t.requires_grad_() for t in inputs(200, dtype=torch.float32)]
    torch.library.opcheck(document_operator, (*tensors, documents_of(200)))
