"""Families of problems without end, each from a seed: the same arguments give the same problems, on any machine.

``generate`` draws them one by one, each from a key of its own, and leaves out what it drew before and what belongs to
the other side of the split. To add a kind: a function from chance and level to a ``Draft``, and a line in a ``KINDS``.
Costs 10 to 60 µs a problem. Prompts of level 1 have at most 64 characters; solutions grow with the level.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from isoflop.keys import derive_key
from isoflop.problems.generators import algebra, arithmetic, logic, programs, sorting, stories, strings
from isoflop.problems.generators.draft import Maker
from isoflop.problems.problem import HELD_OUT_SHARE, Problem, is_held_out

Part = Literal["all", "training", "held-out"]

GROUPS: dict[str, dict[str, Maker]] = {
    "arithmetic": arithmetic.KINDS | stories.KINDS,
    "algebra": algebra.KINDS,
    "logic": logic.KINDS,
    "sorting": sorting.KINDS,
    "strings": strings.KINDS,
    "programs": programs.KINDS,
}
KINDS: dict[str, Maker] = {kind: maker for group in GROUPS.values() for kind, maker in group.items()}
LEVELS = 8
PATIENCE = 500  # drawings in a row that bring nothing new before a family counts as exhausted


class ExhaustedError(ValueError):
    """A family has hardly more problems than were found; they are in ``found``."""

    def __init__(self, kind: str, level: int, found: list[Problem]) -> None:
        super().__init__(f"there are hardly more than {len(found)} {kind} problems of level {level} to be had")
        self.found = found


def kinds_of(names: tuple[str, ...]) -> list[str]:
    """Kinds by their own names and those of their groups, each once; all of them for no name. ValueError for others."""
    found: list[str] = []
    for name in names:
        if name not in GROUPS and name not in KINDS:
            raise ValueError(f"there are no problems of kind {name!r}; kinds are {described()}")
        found += GROUPS.get(name, [name])
    return list(dict.fromkeys(found)) or list(KINDS)


def described() -> str:
    """The kinds by group, in a line."""
    return "; ".join(f"{group}: {', '.join(kinds)}" for group, kinds in GROUPS.items())


def generate(
    kind: str, level: int, count: int, seed: int = 0, part: Part = "all", share: float = HELD_OUT_SHARE
) -> list[Problem]:
    """``count`` different problems; of a ``part`` only, if the caller trains on one and measures on the other.

    More of the same begin with the same. Raises ValueError for an unknown kind, a level that there is none of;
    ExhaustedError, which has those found, where the kind has not so many at this level.
    """
    if kind not in KINDS:
        raise ValueError(f"there are no problems of kind {kind!r}; kinds are {described()}")
    if not 1 <= level <= LEVELS:
        raise ValueError(f"levels are 1 to {LEVELS}, not {level}")
    if count < 0:
        raise ValueError(f"cannot make {count} problems")
    found: dict[str, Problem] = {}
    barren = 0
    drawn = draw(kind, level, seed)
    while len(found) < count:
        problem = next(drawn)
        wanted = part == "all" or is_held_out(problem.prompt, share) == (part == "held-out")
        barren = 0 if wanted and problem.prompt not in found else barren + 1
        if not barren:
            found[problem.prompt] = problem
        elif barren * min(1.0, share if part == "held-out" else 1.0) > PATIENCE:
            raise ExhaustedError(kind, level, list(found.values()))
    return list(found.values())


def draw(kind: str, level: int, seed: int) -> Iterator[Problem]:
    """Problems without end, repetitions included."""
    number = 0
    while True:
        chance = random.Random(derive_key(seed, "problem", kind, level, number))
        draft = KINDS[kind](chance, level)
        yield Problem(draft.prompt, draft.answer, kind, level, draft.checker, draft.solution)
        number += 1
