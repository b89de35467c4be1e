"""Experts, norms of heads and soft caps: what they compute, and that each is nothing when it is off or alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.model.attention import ShortAttention, causal_attention
from isoflop.model.convert import to_transformers
from isoflop.model.experts import _multiply as grouped_operator
from isoflop.model.experts import balance_loss, grouped_linear, mixture
from isoflop.model.llama import Llama
from isoflop.planning.experts import Experts
from isoflop.planning.shape import Shape
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import has_compiler
from isoflop.training.loop import train
from isoflop.training.run import Run

DENSE = Shape(2, 32, 4, 2, 48, 64, context=40)
SPARSE = replace(DENSE, experts=Experts(4, 2))
IDS = torch.randint(64, (3, 40), generator=torch.Generator().manual_seed(0))


def weights(count: int = 4, width: int = 32, ffn: int = 48) -> list[Tensor]:
    """x (2, 10, width), router, gate_up, down, in fp64."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 10, width), (count, width), (count, 2 * ffn, width), (count, width, ffn))
    return [torch.randn(size, dtype=torch.float64, generator=generator) * size[-1] ** -0.5 for size in sizes]


def derived_mixture(x: Tensor, router: Tensor, gate_up: Tensor, down: Tensor, active: int) -> tuple[Tensor, Tensor]:
    """Every expert on every token, those that were not chosen weighed by 0; and the balance loss by its definition."""
    flat = x.flatten(0, 1)
    scores = flat @ router.T
    threshold = scores.sort(-1, descending=True).values[:, active - 1, None]
    chosen = (scores >= threshold).to(scores.dtype)
    shares = scores.exp() * chosen
    shares = shares / shares.sum(-1, keepdim=True)
    gate, up = torch.einsum("tw,efw->etf", flat, gate_up).chunk(2, -1)
    answers = torch.einsum("etf,ewf->etw", F.silu(gate) * up, down)
    balance = scores.shape[1] * (chosen.mean(0) / active * scores.softmax(-1).mean(0)).sum()
    return torch.einsum("te,etw->tw", shares, answers).view_as(x), balance


@pytest.mark.parametrize("active", [1, 2, 4])
def test_experts_and_their_gradients_are_the_derivations_in_float64(active: int) -> None:
    exact = [t.requires_grad_() for t in weights()]
    single = [t.detach().float().requires_grad_() for t in exact]
    expected, expected_balance = derived_mixture(*exact, active)
    mixed, balance, load = mixture(*single, active)
    assert load.sum() == 20 * active
    torch.testing.assert_close(mixed.double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(balance.double(), expected_balance, atol=1e-6, rtol=1e-5)
    grad = torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((mixed * grad).sum() + balance, single)
    theirs = torch.autograd.grad((expected * grad).sum() + expected_balance, exact)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), other, atol=1e-5, rtol=1e-4)


def test_no_token_is_dropped_when_all_want_one_expert() -> None:
    x, router, gate_up, down = (t.float() for t in weights())
    x = x.abs()
    router = torch.stack([torch.full((32,), -1.0), torch.ones(32), torch.full((32,), -2.0), torch.full((32,), -3.0)])
    mixed, balance, load = mixture(x, router, gate_up, down, 1)
    assert load.tolist() == [0, 20, 0, 0]
    gate, up = F.linear(x, gate_up[1]).chunk(2, -1)
    torch.testing.assert_close(mixed, F.linear(F.silu(gate) * up, down[1]))
    assert balance > 3


def test_rows_of_experts_without_tokens_have_no_gradient() -> None:
    x, many = torch.ones(6, 8), torch.ones(3, 16, 8, requires_grad=True)
    (grouped_linear(x, many, torch.tensor([2, 2, 6], dtype=torch.int32)) * torch.ones(6, 16)).sum().backward()
    assert many.grad is not None
    assert [float(g.abs().amax()) for g in many.grad] == [2.0, 0.0, 4.0]


def test_balance_loss_is_one_where_all_is_even() -> None:
    assert float(balance_loss(torch.zeros(8, 4), torch.full((4,), 4.0))) == 1.0


def test_one_expert_is_the_dense_model() -> None:
    dense, single = Llama(DENSE).initialise(0), Llama(replace(DENSE, experts=Experts(1))).initialise(0)
    for ours, theirs in zip(single.blocks, dense.blocks, strict=True):
        for name, tensor in theirs.named_parameters():
            getattr(ours, name).data = tensor.data.reshape(getattr(ours, name).shape).clone()
    outs = []
    for model in (dense, single):
        hidden = model.hidden(IDS)
        hidden.square().sum().backward()
        outs.append([hidden.detach(), *(p.grad for n, p in model.named_parameters() if "router" not in n)])
    for ours, theirs in zip(*outs, strict=True):
        torch.testing.assert_close(ours.view_as(theirs), theirs, atol=1e-5, rtol=1e-5)
    assert all(float(block.router.grad.abs().amax()) == 0 for block in single.blocks)


@pytest.mark.parametrize("shape", [SPARSE, replace(SPARSE, tied=False), replace(DENSE, qk_norm=True)])
def test_shape_counts_what_is_there_and_what_a_token_meets(shape: Shape) -> None:
    model = Llama(shape)
    assert sum(p.numel() for p in model.parameters()) == shape.total
    matrices = {n: p for n, p in model.named_parameters() if n.startswith("blocks") and p.dim() > 1}
    met = sum(p.numel() if p.dim() == 2 else p.numel() // 4 * 2 for p in matrices.values())
    assert shape.body == met
    assert shape.matmul == met + 64 * 32


def test_dense_and_sparse_of_one_active_width_differ_in_flops_by_the_router() -> None:
    wide = replace(DENSE, ffn=96)
    assert SPARSE.flops_per_token - wide.flops_per_token == 6 * 2 * 4 * 32
    assert SPARSE.name != replace(DENSE, experts=Experts(8, 2)).name


def test_recomputed_experts_change_no_bit() -> None:
    found = []
    for recompute in ("none", "blocks"):
        model = Llama(SPARSE, recompute=recompute).initialise(0)
        (model.hidden(IDS).square().sum() + model.routing.penalty).backward()
        found.append([model.routing.load, model.routing.penalty.detach(), *(p.grad for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_compiled_experts_norms_and_caps_compute_what_the_eager_ones_do() -> None:
    shape = replace(SPARSE, layers=1, qk_norm=True, attention_cap=2.0)
    found = []
    for compiled in (False, True):
        model = Llama(shape, compiled=compiled).initialise(0)
        (model.hidden(IDS).square().sum() + model.routing.penalty).backward()
        found.append([model.routing.load, model.routing.penalty.detach(), *(p.grad for p in model.parameters())])
    for eager, fast in zip(*found, strict=True):
        torch.testing.assert_close(eager, fast, atol=1e-3, rtol=1e-3)


def test_a_run_with_experts_learns_and_says_how_busy_they_are(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny_config()
    summary = train(replace(config, shape=replace(config.shape, experts=Experts(4, 2))), tmp_path / "run")
    lines = Run(tmp_path / "run").metrics()
    assert summary["validation_loss"] < lines[0]["loss"] < 7
    assert all(0.25 <= line["busiest_expert"] <= 0.5 for line in lines)


def test_balance_loss_keeps_a_router_from_choosing_one_expert() -> None:
    spread = []
    for weight in (0.0, 0.1):
        model = Llama(replace(DENSE, layers=1, experts=Experts(4, 1, weight))).initialise(1)
        with torch.no_grad():
            model.blocks[0].router[0] += 2 * model.blocks[0].router[1]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        for _ in range(60):
            optimizer.zero_grad()
            model.hidden(IDS)
            (model.routing.penalty / IDS.numel()).backward() if weight else None
            optimizer.step()
        spread.append(float(model.routing.load.amax() / model.routing.load.sum()))
    assert spread[1] < spread[0]


def test_attention_cap_is_the_derivation_in_value_and_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [4 * torch.randn(2, 2, 150, 16, dtype=torch.float64, generator=generator) for _ in range(3)]

    def derived(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = 5.0 * torch.tanh(q @ k.transpose(-2, -1) / 4 / 5.0)
        return scores.masked_fill(torch.ones(150, 150).triu(1).bool(), -torch.inf).softmax(-1) @ v

    found = []
    for way in (lambda *t: ShortAttention.apply(*t, None, 5.0), derived):
        leaves = [t.clone().requires_grad_() for t in tensors]
        out = way(*leaves)
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_capped_scores_and_logits_are_gemma_2s() -> None:
    gemma = pytest.importorskip("transformers.models.gemma2.modeling_gemma2")
    module = torch.nn.Module()
    module.num_key_value_groups, module.training = 2, False
    generator = torch.Generator().manual_seed(0)
    q, k, v = (4 * torch.randn(1, heads, 30, 16, generator=generator) for heads in (4, 2, 2))
    causal = torch.zeros(1, 1, 30, 30).masked_fill(torch.ones(30, 30).triu(1).bool(), -torch.inf)
    theirs, _ = gemma.eager_attention_forward(module, q, k, v, causal, scaling=0.25, softcap=3.0)
    torch.testing.assert_close(causal_attention(q, k, v, None, 3.0).transpose(1, 2), theirs, atol=1e-5, rtol=1e-4)
    capped, plain = Llama(replace(DENSE, logit_cap=0.5)).initialise(0), Llama(DENSE).initialise(0)
    torch.testing.assert_close(capped(IDS), 0.5 * torch.tanh(plain(IDS) / 0.5))


def test_head_norms_are_qwen_3s() -> None:
    transformers = pytest.importorskip("transformers", minversion="4.51")
    model = Llama(replace(DENSE, qk_norm=True)).initialise(0)
    with torch.no_grad():
        for block in model.blocks:
            block.q_norm.uniform_(0.5, 2)
            block.k_norm.uniform_(0.5, 2)
    plain = Llama(DENSE)
    plain.load_state_dict(model.state_dict(), strict=False)
    config, state = to_transformers(plain)
    reference = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config, head_dim=DENSE.head_dim))
    for i, block in enumerate(model.blocks):
        state[f"model.layers.{i}.self_attn.q_norm.weight"] = block.q_norm.detach()
        state[f"model.layers.{i}.self_attn.k_norm.weight"] = block.k_norm.detach()
    reference.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS), reference(IDS).logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"experts": Experts(2)}, {"qk_norm": True}, {"attention_cap": 1.0}])
def test_what_no_llama_has_is_not_handed_to_transformers(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no plain Llama"):
        to_transformers(Llama(replace(DENSE, **change)).initialise(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"ffn": 44, "experts": Experts(2)}, "multiples of 8"), ({"logit_cap": -1.0}, "caps are above 0")],
)
def test_shape_says_what_its_options_need(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(DENSE, **change)  # type: ignore[arg-type]


def test_grouped_product_keeps_torchs_rules_for_operators() -> None:
    x, many = torch.randn(10, 8, requires_grad=True), torch.randn(3, 16, 8, requires_grad=True)
    torch.library.opcheck(grouped_operator, (x, many, torch.tensor([2, 2, 10], dtype=torch.int32)))
