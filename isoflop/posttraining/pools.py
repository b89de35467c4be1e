"""Which problems a model is aligned on: kinds and levels in given shares, drawn without repetition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from isoflop.keys import derive_key
from isoflop.problems.generators import ExhaustedError, Part, generate
from isoflop.problems.problem import Problem


@dataclass(frozen=True)
class Pool:
    """Problems of one kind and level; ``weight`` is its share beside other pools', on any positive scale."""

    kind: str
    level: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a kind or a level that there is none of."""
        if not self.weight > 0:
            raise ValueError(f"the weight of {self.kind} problems must be above 0, not {self.weight}")
        generate(self.kind, self.level, 0)


def drawn(pools: Sequence[Pool], count: int, seed: int, part: Part) -> list[Problem]:
    """``count`` problems of the pools, all different, in an order that mixes them; fewer where a pool is too small.

    More of the same begin, pool by pool, with the same.
    """
    ends = list(accumulate((pool.weight for pool in pools), initial=0.0))
    edges = [round(count * end / ends[-1]) for end in ends]
    shares = zip(pools, pairwise(edges), strict=True)
    found = [problem for pool, (start, end) in shares for problem in members(pool, end - start, seed, part)]
    return sorted(found, key=lambda problem: derive_key(seed, "order", problem.prompt))


def members(pool: Pool, count: int, seed: int, part: Part) -> list[Problem]:
    """Up to ``count`` problems of a pool."""
    try:
        return generate(pool.kind, pool.level, count, seed, part)
    except ExhaustedError as error:
        return error.found
