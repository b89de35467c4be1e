"""A response in a row with others has the states, the loss and the gradients that it would have by itself."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from isoflop.model import flex
from isoflop.model.attention import causal_attention
from isoflop.model.llama import Llama
from isoflop.model.sight import planes, sees
from isoflop.model.spread import tail_attention
from isoflop.planning.layout import Recompute
from isoflop.planning.shape import Shape
from isoflop.posttraining.branches import Tree, lay_out, portions, room_for
from isoflop.training.hardware import has_compiler

SHAPE = Shape(2, 32, 4, 2, 48, 64, context=128)


def trees_of(count: int, seed: int = 0, longest: int = 40) -> list[Tree]:
    draw = random.Random(seed)

    def ids() -> list[int]:
        return [draw.randrange(64) for _ in range(draw.randrange(1, longest))]

    return [Tree(ids(), [ids() for _ in range(draw.randrange(2, 5))]) for _ in range(count)]


def in_rows(trees: list[Tree], room: int) -> list[list[Tree]]:
    """The trees in their order, each in the row before it while there is room."""
    rows: list[list[Tree]] = [[]]
    for tree in trees:
        if sum(other.size for other in rows[-1]) + tree.size > room:
            rows.append([])
        rows[-1].append(tree)
    return rows


def alone(model: Llama, tree: Tree, response: int) -> Tensor:
    """The states of prompt and one response, nothing else in the row."""
    return model.hidden(torch.tensor([[*tree.prompt, *tree.responses[response]]]))[0]


@pytest.mark.parametrize("room", [256, 640])  # scores written out, and the library's kernel with a mask
@pytest.mark.parametrize("recompute", ["none", "blocks"])
def test_states_and_gradients_are_those_of_prompt_and_response_alone(room: int, recompute: Recompute) -> None:
    model, trees = Llama(SHAPE, recompute=recompute).initialise(0), trees_of(7)
    packed = lay_out(in_rows(trees, room), room)
    assert len(packed.tokens) < len(trees)
    states = packed.states(model)
    weights = torch.randn(32, generator=torch.Generator().manual_seed(1))
    together, apart = torch.zeros(()), torch.zeros(())
    for tree, places in zip(trees, packed.places, strict=True):
        for number, place in enumerate(places):
            own = alone(model, tree, number)
            columns = [place.row] * (place.end - place.start), list(range(place.start, place.end))
            torch.testing.assert_close(states[columns], own[len(tree.prompt) :], atol=5e-6, rtol=1e-5)
            together = together + (states[[place.row], place.sources] @ weights).square().sum()
            apart = apart + (own[len(tree.prompt) - 1 : -1] @ weights).square().sum()
    for ours, theirs in zip(
        *(torch.autograd.grad(x, [*model.parameters()][1:-1]) for x in (together, apart)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=2e-4)


def test_last_states_are_in_the_order_of_trees_and_responses() -> None:
    model, trees = Llama(SHAPE).initialise(0), trees_of(5, seed=3)
    packed = lay_out(in_rows(trees, 192), 192)
    expected = [alone(model, tree, n)[-1] for tree in trees for n in range(len(tree.responses))]
    torch.testing.assert_close(packed.last(packed.states(model)), torch.stack(expected), atol=5e-6, rtol=1e-5)


def test_a_row_may_be_longer_than_the_context_that_its_responses_keep_to() -> None:
    model, tree = Llama(replace(SHAPE, context=32)).initialise(0), Tree([1] * 20, [[n] * 12 for n in range(2, 8)])
    assert tree.size > 64 > tree.reach == 32
    packed = lay_out([[tree]], room_for([tree.size]))
    torch.testing.assert_close(packed.last(packed.states(model))[3], alone(model, tree, 3)[-1], atol=5e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="context of 32"):
        model.hidden(packed.tokens)


@pytest.mark.parametrize("cap", [0.0, 2.0])
def test_a_gpus_mask_and_a_tails_have_the_same_values(cap: float) -> None:
    documents = lay_out(in_rows(trees_of(6), 200), 200).documents
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(len(documents), n, 200, 16, generator=generator) for n in (4, 2, 2))
    expected = causal_attention(q, k, v, documents, cap)
    torch.testing.assert_close(
        causal_attention(q, k, v, flex.block_mask(documents), cap), expected, atol=1e-5, rtol=1e-4
    )
    if not cap:
        torch.testing.assert_close(
            tail_attention(q[:, :, 150:], k, v, documents), expected[:, :, 150:], atol=1e-5, rtol=1e-4
        )


def test_documents_without_branches_are_documents() -> None:
    documents = torch.tensor([[0, 0, 1, 1, -1]])
    paired = torch.stack((documents, torch.zeros_like(documents)), -1)
    q = torch.randn(1, 2, 5, 16)
    assert torch.equal(causal_attention(q, q, q, documents), causal_attention(q, q, q, paired))
    assert not sees(planes(documents[:, :2]), planes(documents[:, 2:4])).any()


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")
def test_compiled_is_eager_and_one_graph_serves_any_branches() -> None:
    eager, fast = (Llama(replace(SHAPE, layers=1), compiled=compiled).initialise(0) for compiled in (False, True))
    one, other = (lay_out([trees_of(3, seed)], 512) for seed in (0, 1))
    assert one.tokens.shape == other.tokens.shape
    torch.testing.assert_close(one.states(fast), one.states(eager), atol=1e-4, rtol=1e-4)
    with torch._dynamo.config.patch(error_on_recompile=True):
        torch.testing.assert_close(other.states(fast), other.states(eager), atol=1e-4, rtol=1e-4)


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100))
@settings(max_examples=50, deadline=None)
def test_portions_hold_every_tree_once_and_keep_to_their_limit(sizes: list[int], limit: int) -> None:
    found = list(portions(sizes, limit))
    assert sorted(n for portion in found for n in portion) == list(range(len(sizes)))
    assert all(len(p) == 1 or sum(sizes[n] for n in p) <= limit for p in found)
