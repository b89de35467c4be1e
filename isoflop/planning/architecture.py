"""From a number of parameters to the layers of a real Llama, with every candidate and why it was dropped.

Candidates are the ladder's members near the size (:mod:`isoflop.planning.ladder`), a few depths at every width. What
is left after the refusals below is ranked by closeness in size and by proportions. Models that will need more than
one device must divide over them: FFN and key-value heads over eight tensor-parallel ranks, depth over four pipeline
stages or sixteen, as the released ones do. Milliseconds. Left out: choosing the vocabulary by what it does to the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from isoflop.planning.ladder import SHALLOWEST, TIED_BELOW, aspect, badness, near, shape_of
from isoflop.planning.layout import Layout
from isoflop.planning.released import Released, nearest
from isoflop.planning.shape import Convention, Shape, human

MOST_OFF = 0.25
"""Relative miss in size that no proportions make up for, where anything nearer is to be had."""
MOST_SKEW = 2.0
"""Factor by which width over depth may differ from the ladder's."""
DEEPEST = 256
ONE_DEVICE = 5e8
"""Parameters above which someone will want to split a model, to train it or to serve it."""
WORTH_A_LOOK = 2.0  # badness above which a shape is not even a candidate


@dataclass(frozen=True)
class Candidate:
    """A shape near the size asked for: ``off`` is its relative miss, ``dropped`` why it was not taken, or None."""

    shape: Shape
    off: float
    score: float
    dropped: str | None

    def __str__(self) -> str:
        s = self.shape
        fate = "taken" if self.dropped is None else f"dropped: {self.dropped}"
        return f"{s.layers} layers, width {s.width}, FFN {s.ffn}: {human(s.total)} ({self.off:+.1%}), {fate}"


@dataclass(frozen=True)
class Flops:
    """Training FLOPs by where they are spent: the blocks' matrices, attention's products, the head."""

    linear: float
    attention: float
    output: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.linear + self.attention + self.output


@dataclass(frozen=True)
class Architecture:
    """The shape taken, the candidates it was taken from, best first, and the released model nearest to it."""

    shape: Shape
    candidates: tuple[Candidate, ...]
    nearest: Released

    @property
    def flops_per_token(self) -> Flops:
        """Exact training FLOPs of a token at the shape's context."""
        s = self.shape
        linear, output = 6 * s.body, 6 * s.vocab * s.width
        return Flops(linear, s.flops_per_token - linear - output, output)

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain values."""
        s, flops = self.shape, self.flops_per_token
        return {
            "shape": s.to_json(),
            "N_total": s.total,
            "N_matmul": s.matmul,
            "N_body": s.body,
            "flops_per_token": vars(flops) | {"total": flops.total, "6N": 6 * s.matmul},
            "nearest_released": self.nearest.name,
            "candidates": [
                {"layers": c.shape.layers, "width": c.shape.width, "N_total": c.shape.total, "dropped": c.dropped}
                for c in self.candidates
            ],
        }


def architecture(
    params: float,
    vocab: int,
    *,
    context: int,
    tied: bool | None = None,
    counts: Convention = "matmul",
    most: float = math.inf,
) -> Architecture:
    """Choose the layers of a Llama of about ``params`` parameters, and at most ``most``, in the given convention.

    Raises ValueError when the ladder has nothing within half of that size, naming the nearest there is.
    """
    tied = params < TIED_BELOW if tied is None else tied
    judged = sorted(judge(params, vocab, context, tied, counts, most), key=lambda c: (c.dropped is not None, c.score))
    standing = [c for c in judged if c.dropped is None]
    if not standing:
        closest = min(judged, key=lambda c: abs(math.log1p(c.off)))
        raise ValueError(
            f"no Llama of about {human(params)} parameters can be built with a vocabulary of {vocab:,}: the nearest "
            f"has {human(closest.shape.count(counts))} ({closest.shape.layers} layers, width {closest.shape.width}); "
            f"give a size, or a budget, nearer to it"
        )
    taken = standing[0]
    beaten = [
        Candidate(c.shape, c.off, c.score, f"{taken.shape.layers} layers of width {taken.shape.width} fit better")
        for c in standing[1:]
    ]
    rest = [c for c in judged if c.dropped is not None]
    return Architecture(taken.shape, (taken, *beaten, *rest), nearest(taken.shape))


def judge(params: float, vocab: int, context: int, tied: bool, counts: Convention, most: float) -> Iterator[Candidate]:
    """Every candidate, with the first reason that speaks against it."""
    everything = list(around(params, vocab, context, tied, counts))
    shapes = [s for s in everything if badness(s, params, counts) < WORTH_A_LOOK] or everything
    nearest_off = min(abs(shape.count(counts) / params - 1) for shape in shapes)
    for shape in shapes:
        off = shape.count(counts) / params - 1
        skew = shape.width / shape.layers / aspect(shape.width)
        dropped = layout_for(shape).objection(shape)
        if shape.count(counts) > most:
            dropped = f"larger than the {human(most)} that are possible"
        elif abs(off) > min(max(MOST_OFF, 1.001 * nearest_off), 0.5):
            dropped = f"{off:+.0%} off in size"
        elif not 1 / MOST_SKEW < skew < MOST_SKEW:
            dropped = f"{skew:.2g} times as wide for its depth as Llamas are"
        yield Candidate(shape, off, badness(shape, params, counts), dropped)


def around(params: float, vocab: int, context: int, tied: bool, counts: Convention) -> Iterator[Shape]:
    """The ladder's members near a size.

    Where depth must divide over stages, neighbours in depth too, and FFN widths that make up for them, as Llama 3
    405B's 3.25 times its width does for 126 layers.
    """
    depths: dict[int, set[int]] = {}
    for _, shape in near(params, vocab, context=context, tied=tied, counts=counts):
        reach = layout_for(shape).pipeline // 2
        neighbours = range(shape.layers - reach, shape.layers + reach + 1)
        depths.setdefault(shape.width, set()).update(min(max(n, SHALLOWEST), DEEPEST) for n in neighbours)
    for width, layers in depths.items():
        for n in sorted(layers):
            shape = shape_of(width, n, vocab, context=context, tied=tied)
            yield shape
            if layout_for(shape).pipeline > 1:
                yield from (replace(shape, ffn=shape.ffn + eighths * width // 8) for eighths in (-2, 2))


def layout_for(shape: Shape) -> Layout:
    """The parallelism that a shape of this size must be able to bear, whatever it is first trained on."""
    if shape.total < ONE_DEVICE:
        return Layout()
    if shape.total < TIED_BELOW:
        return Layout(tensor=2)
    return Layout(tensor=8, pipeline=16 if shape.total > 1e11 else 4)
