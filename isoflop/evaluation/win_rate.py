"""Two models' answers to the same prompts, judged by a reward: how often the second's is better, at equal length too.

A tie is half a win. A reward model likes long answers, so wins are also given by how much longer the second's answer
is, and at equal length: a logistic curve in the difference of the logarithms of lengths is fitted to the wins, and read
where it is 0 (the idea of length-controlled AlpacaEval; Dubois et al. 2024, arXiv 2404.04475). Its interval is from
refits to resampled prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isoflop.evaluation.intervals import DRAWS, Figure, Floats, share
from isoflop.keys import derive_key

BUCKETS = {"shorter": (-math.inf, -0.1), "alike": (-0.1, 0.1), "longer": (0.1, math.inf)}
"""By the logarithm of how many times longer the second answer is: within 10% is alike."""
LEAST_SPREAD = 0.1
"""Of the logarithms of lengths: answers that differ less say nothing of what length is worth."""
RIDGE = 1e-2
"""Of the curve's two numbers, so that wins all on one side have an answer."""


class Rated(NamedTuple):
    """An answer's reward, and its length in characters."""

    reward: float
    length: int


@dataclass(frozen=True)
class WinRate:
    """How often the second model's answer is better: in all, at equal length, and by which of the two is longer."""

    rate: Figure
    at_equal_length: Figure
    buckets: dict[str, Figure]
    ties: int


def win_rate(first: Sequence[Rated], second: Sequence[Rated]) -> WinRate:
    """Judge ``second`` against ``first``, answers to the same prompts in order.

    Raises ValueError where there are not as many of both, or a reward is not a number.
    """
    if len(first) != len(second):
        raise ValueError(f"answers to the same prompts are as many, not {len(first):,} and {len(second):,}")
    wins = [won(a.reward, b.reward) for a, b in zip(first, second, strict=True)]
    longer = np.array([math.log((1 + b.length) / (1 + a.length)) for a, b in zip(first, second, strict=True)])
    found = np.array(wins)
    buckets = {name: found[(longer >= low) & (longer < high)].tolist() for name, (low, high) in BUCKETS.items()}
    return WinRate(
        share(wins),
        at_equal_length(found, longer),
        {name: share(own) for name, own in buckets.items() if own},
        int((found == 0.5).sum()),
    )


def won(first: float, second: float) -> float:
    """1 where the second reward is higher, ½ where they are the same."""
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ValueError(f"a reward is not a number: {first}, {second}")
    return 0.5 if first == second else float(second > first)


def at_equal_length(wins: Floats, longer: Floats) -> Figure:
    """The chance to win where ``longer``, the logarithm of the ratio of lengths, is 0."""
    if len(wins) < 2:
        return Figure(float(wins.mean()) if len(wins) else math.nan, 0.0, 1.0, len(wins))
    generator = np.random.default_rng(derive_key(0, "resampled wins"))
    weights = generator.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), DRAWS).astype(float)
    low, high = np.quantile(intercepts(wins, longer, weights), (0.025, 0.975))
    middle = intercepts(wins, longer, np.ones((1, len(wins))))[0]
    return Figure(float(middle), float(low), float(high), len(wins))


def intercepts(wins: Floats, longer: Floats, weights: Floats) -> Floats:
    """The fitted chance at 0 for every row of ``weights`` (fits, prompts), by Newton's method."""
    inputs = np.stack((np.ones_like(longer), longer / max(LEAST_SPREAD, float(longer.std()))))  # (2, prompts)
    found = np.zeros((len(weights), 2))
    for _ in range(15):
        chance = 1 / (1 + np.exp(-(found @ inputs)))
        slope = (weights * (wins - chance)) @ inputs.T - RIDGE * found
        curve = np.einsum("fn,in,jn->fij", weights * chance * (1 - chance), inputs, inputs) + RIDGE * np.eye(2)
        found += np.clip(np.linalg.solve(curve, slope[:, :, None])[:, :, 0], -4, 4)
    return np.asarray(1 / (1 + np.exp(-found[:, 0])))
