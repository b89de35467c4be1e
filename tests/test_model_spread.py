"""Parts of a model put together are the model, and what one rank computes of attention is a slice of the whole."""

from __future__ import annotations

import pytest
import torch

from isoflop.model.attention import causal_attention
from isoflop.model.collectives import Axis
from isoflop.model.cuts import cuts
from isoflop.model.laid_out import initialise, lay_out
from isoflop.model.llama import Llama
from isoflop.model.spread import Spread, tail_attention
from isoflop.planning.parallel import Parallel
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape

SHAPES = [
    Shape(4, 32, 4, 2, 48, 301, context=64, rope_scaling=RopeScaling()),  # a vocabulary that does not divide
    Shape(6, 32, 4, 2, 48, 300, context=64, tied=False),
]


@pytest.mark.parametrize("shape", SHAPES, ids=["tied", "untied"])
def test_parts_are_the_whole_models_bit_by_bit(shape: Shape) -> None:
    whole = Llama(shape).initialise(7)
    expected, rules = dict(whole.named_parameters()), cuts(shape)
    parallel, found = Parallel(tensor=2, pipeline=4), {}
    for stage in range(4):
        for rank in range(2):
            spread = Spread(Axis(rank, 2), stages=Axis(stage, 4), vocab=shape.vocab)
            part = initialise(lay_out(shape, parallel, spread), 7)
            assert torch.equal(part.cos, whole.cos)
            for name, parameter in part.named_parameters():
                cut = rules.get(name.rsplit(".", 1)[-1])
                room = found.setdefault(name, torch.full_like(expected[name], torch.nan))
                if cut:
                    cut.put(room.detach(), parameter.detach(), rank, 2)
                else:
                    room.data.copy_(parameter)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("count", [2, 4])
def test_head_and_tail_chunks_cover_a_sequence_and_share_its_work_evenly(count: int) -> None:
    positions = torch.arange(64)[None]
    mine = [Spread(context=Axis(rank, count)).local(positions)[0] for rank in range(count)]
    assert torch.equal(torch.cat(mine).sort()[0], positions[0])
    assert len({int((part + 1).sum()) for part in mine}) == 1  # keys seen by a rank's queries


@pytest.mark.parametrize("masked", [False, True])
def test_last_queries_see_what_they_do_in_the_whole(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 48, 8, generator=generator) for heads in (4, 2, 2))
    documents = torch.tensor([[0] * 10 + [1] * 30 + [2] * 8, [0] * 48]) if masked else None
    whole = causal_attention(q, k, v, documents)
    tail = tail_attention(q[:, :, 24:36], k[:, :, :36], v[:, :, :36], documents)
    torch.testing.assert_close(tail, whole[:, :, 24:36], atol=2e-6, rtol=1e-5)
