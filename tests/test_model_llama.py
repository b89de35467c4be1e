"""The network is a Llama: equal to transformers', causal, and the same compiled as eager."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from isoflop.model.attention import ShortAttention
from isoflop.model.convert import from_transformers, to_transformers
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.training.loss import cross_entropy

SHAPES = [
    Shape(2, 64, 4, 2, 96, 300, context=160, tied=True),
    Shape(3, 48, 2, 1, 80, 257, context=64, tied=False, rope_theta=5e5, norm_eps=1e-6),
    Shape(1, 32, 2, 2, 64, 100, context=600, tied=True),
]


def tokens(shape: Shape, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(shape.vocab, (batch, shape.context), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_logits_equal_transformers_on_the_same_weights(shape: Shape) -> None:
    transformers = pytest.importorskip("transformers")
    model = Llama(shape).initialise(0)
    config, weights = to_transformers(model)
    reference = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    reference.load_state_dict(weights, strict=False)
    ids = tokens(shape)
    with torch.no_grad():
        torch.testing.assert_close(model(ids), reference(ids).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_weights_survive_the_way_to_transformers_and_back(shape: Shape) -> None:
    model = Llama(shape).initialise(0)
    back = from_transformers(*to_transformers(model), context=shape.context)
    assert back.shape == shape
    for (name, ours), (_, theirs) in zip(model.named_parameters(), back.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_parameter_count_is_the_shapes(shape: Shape) -> None:
    assert sum(p.numel() for p in Llama(shape).parameters()) == shape.total


def test_a_token_never_sees_what_comes_after_it() -> None:
    shape = SHAPES[0]
    model, ids = Llama(shape).initialise(0), tokens(shape)
    changed = ids.clone()
    changed[:, 100:] = (changed[:, 100:] + 1) % shape.vocab
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :100], after[:, :100])
    assert not torch.allclose(before[:, 100:], after[:, 100:])


@pytest.mark.parametrize("time", [1, 127, 128, 129, 300])
def test_short_attention_equals_the_library_in_value_and_gradient(time: int) -> None:
    generator = torch.Generator().manual_seed(time)
    q, k, v, grad = (torch.randn(2, 3, time, 16, dtype=torch.float64, generator=generator) for _ in range(4))
    results = []
    for function in (ShortAttention.apply, lambda *qkv: F.scaled_dot_product_attention(*qkv, is_causal=True)):
        inputs = [t.clone().requires_grad_() for t in (q, k, v)]
        out = function(*inputs)
        out.backward(grad)
        results.append([out.detach(), *(t.grad for t in inputs)])
    for ours, theirs in zip(*results, strict=True):
        # Scores and probabilities pass through fp32, as they do in the library's half-precision kernels.
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-5)


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, two, other = (Llama(SHAPES[0]).initialise(seed) for seed in (1, 1, 2))
    assert torch.equal(one.blocks[1].qkv, two.blocks[1].qkv)
    assert not torch.equal(one.blocks[1].qkv, other.blocks[1].qkv)


def test_initial_loss_is_that_of_knowing_nothing() -> None:
    shape = SHAPES[0]
    model, ids = Llama(shape).initialise(0), tokens(shape, batch=8)
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert torch.log(torch.tensor(shape.vocab)) < loss < torch.log(torch.tensor(shape.vocab)) + 1


def test_compiled_model_computes_what_the_eager_one_does() -> None:
    from isoflop.training.hardware import has_compiler

    if not has_compiler():
        pytest.skip("no C++ compiler")
    shape = Shape(2, 32, 2, 1, 64, 64, context=32)
    ids = tokens(shape, batch=4)
    results = []
    for compiled in (False, True):
        model = Llama(shape, compiled=compiled).initialise(0)
        loss = cross_entropy(model.hidden(ids[:, :-1]), model.head, ids[:, 1:], fast=compiled)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(eager, fast, atol=1e-4, rtol=1e-4)


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit this model's context of 160"):
        Llama(SHAPES[0])(torch.zeros(1, 161, dtype=torch.long))
