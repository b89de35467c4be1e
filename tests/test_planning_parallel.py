"""Layouts that do not fit are refused before anything starts, and every block belongs to one stage."""

from __future__ import annotations

import pytest

from isoflop.planning.experts import Experts
from isoflop.planning.parallel import Parallel
from isoflop.planning.shape import Shape

SHAPE = Shape(4, 32, 4, 2, 48, 300, context=64)


def test_processes_left_over_are_copies() -> None:
    assert Parallel(shard=2, tensor=2).copies(12) == 3
    assert Parallel(shard=2, tensor=2).processes(9) == 8
    assert Parallel(shard=2, tensor=2).processes(1) == 4
    assert Parallel(replicate=3, pipeline=2).processes(100) == 6


@pytest.mark.parametrize(
    ("layout", "world"), [(Parallel(shard=3), 4), (Parallel(replicate=2), 1), (Parallel(tensor=2), 1)]
)
def test_world_that_does_not_divide_is_refused(layout: Parallel, world: int) -> None:
    with pytest.raises(ValueError, match=f"{world} process.* cannot be arranged as"):
        layout.copies(world)


@pytest.mark.parametrize(
    ("layout", "world", "batches", "said"),
    [
        (Parallel(tensor=4), 4, [(8, 64)], "2 key-value heads do not divide over 4"),
        (Parallel(pipeline=4), 4, [(1, 64)], None),
        (Parallel(pipeline=5), 5, [(8, 64)], "4 layers .* do not divide over 5"),
        (Parallel(context=4), 4, [(8, 64)], None),
        (Parallel(context=4, tensor=2), 8, [(8, 24)], "a context of 24 does not cut into 16 pieces"),
        (Parallel(shard=4), 8, [(16, 64), (4, 64)], "a batch of 4 sequences does not divide over 8 ranks"),
        (Parallel(), 8, [(4, 64)], None),
    ],
)
def test_objections_name_what_does_not_divide(
    layout: Parallel, world: int, batches: list[tuple[int, int]], said: str | None
) -> None:
    if said is None:
        layout.check(SHAPE, world, batches)
    else:
        with pytest.raises(ValueError, match=said):
            layout.check(SHAPE, world, batches)


def test_experts_are_replicated_or_sharded_only() -> None:
    shape = Shape(4, 32, 4, 2, 48, 300, experts=Experts(4))
    Parallel(shard=2).check(shape, 2, [(8, 256)])
    with pytest.raises(ValueError, match="experts are only replicated or sharded"):
        Parallel(tensor=2).check(shape, 2, [(8, 256)])


@pytest.mark.parametrize(("layers", "stages"), [(4, 4), (8, 2), (126, 16), (6, 4), (5, 1)])
def test_every_block_is_on_one_stage(layers: int, stages: int) -> None:
    parts = [Parallel(pipeline=stages).stage(layers, stage) for stage in range(stages)]
    assert [block for part in parts for block in part] == list(range(layers))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("name", ["shard", "context", "tensor", "pipeline"])
def test_degrees_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"parallel.{name} must be at least 1, not 0"):
        Parallel(**{name: 0})
