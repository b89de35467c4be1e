"""The ladder: a well-proportioned Llama of any size, from about 0.05M to 400B parameters.

Proportions follow the released Llamas where there are any (width/layers ≈ 128 from 8B up, heads of 128 or 64,
at most 8 key-value heads, FFN 3.5 × width) and shrink smoothly below them: a four-layer model of width 64 is as
well-formed a member as Llama 3 8B, so a law fitted on one end speaks about the other. What was left out:
layouts over devices (divisibility by tensor-parallel degree), which belongs to the full planner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from isoflop.planning.shape import Convention, Shape

SHALLOWEST = 2  # one block cannot compose attention with attention, and falls off every law
TIED_BELOW = 4e9  # Llama 3.2 ties its 1B and 3B, Llama 3 unties its 8B


def aspect(width: int) -> float:
    """The width-to-layers ratio aimed at: 18 at width 48, growing slowly to Llama 3's 128."""
    return min(128.0, 18.0 * math.exp(0.45 * math.log(width / 48)))


def heads_of(width: int) -> int:
    """Query heads: the even number whose heads come nearest to 32 wide, 64 from width 512, 128 from 4,096."""
    aim = 32 if width < 512 else 64 if width < 4096 else 128
    even = [h for h in range(2, width // 8, 2) if width % (2 * h) == 0] or [2]
    return min(even, key=lambda heads: abs(math.log(width / heads / aim)))


def shape_of(width: int, layers: int, vocab: int, *, context: int = 256, tied: bool = True) -> Shape:
    """The ladder's member with this width and depth: heads, key-value heads and FFN follow from the width."""
    heads = heads_of(width)
    kv_heads = max(k for k in range(1, 9) if heads % k == 0 and 2 * k <= heads)
    step = 16 if width < 1024 else 256
    ffn = round(3.5 * width / step) * step
    theta = 10_000.0 if context <= 4096 else 500_000.0
    return Shape(layers, width, heads, kv_heads, ffn, vocab, context, tied, theta)


def widths() -> Iterator[int]:
    """Widths that run well: multiples of 8 when tiny and of 2,048 when huge, so that heads come out even.

    Fine steps matter most at the bottom, where one layer more or less is half a model: depth then changes
    seldom, and neighbours in size are neighbours in shape.
    """
    width = 24
    while width <= 20_480:
        yield width
        width += 8 if width < 128 else 32 if width < 256 else 64 if width < 512 else 2 ** int(math.log2(width / 4))


def smallest(vocab: int, *, context: int = 256) -> Shape:
    """The ladder's smallest member with this vocabulary."""
    return shape_of(next(widths()), SHALLOWEST, vocab, context=context)


def near(
    params: float, vocab: int, *, context: int = 256, tied: bool = True, counts: Convention = "matmul"
) -> Iterator[tuple[float, Shape]]:
    """At every width the two depths nearest to ``params`` parameters, each with its :func:`badness`."""
    for width in widths():
        one, two = (shape_of(width, n, vocab, context=context, tied=tied).count(counts) for n in (1, 2))
        layers = 1 + (params - one) / (two - one)
        for depth in {max(SHALLOWEST, math.floor(layers)), max(SHALLOWEST, math.ceil(layers))}:
            shape = shape_of(width, depth, vocab, context=context, tied=tied)
            yield badness(shape, params, counts), shape


def badness(shape: Shape, params: float, counts: Convention) -> float:
    """How far a shape is from a size and from good proportions; 0 is perfect.

    Being 10% off in size costs as much as being 20% off in aspect.
    """
    miss = math.log(shape.count(counts) / params)
    skew = math.log(shape.width / shape.layers / aspect(shape.width))
    return (2 * miss) ** 2 + skew**2


def shape_for(
    params: float, vocab: int, *, context: int = 256, tied: bool | None = None, counts: Convention = "matmul"
) -> Shape:
    """The ladder's best member near ``params`` parameters, counted in the given convention.

    Raises ValueError when the vocabulary alone is larger.
    """
    tied = params < TIED_BELOW if tied is None else tied
    _, best = min(near(params, vocab, context=context, tied=tied, counts=counts), key=lambda scored: scored[0])
    if abs(math.log(best.count(counts) / params)) > math.log(1.5):
        raise ValueError(
            f"no model on the ladder has about {params:.3g} parameters with a vocabulary of {vocab}: "
            f"the nearest has {best.count(counts):,}; ask for a size nearer to it, or a smaller vocabulary"
        )
    return best
