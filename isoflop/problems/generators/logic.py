"""Truth of comparisons joined by and, or and not; people in an order that is told in pairs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from isoflop.problems.generators.draft import Draft, Maker, worked
from isoflop.problems.generators.words import NAMES

COMPARATIVES = (("taller", "tallest", "shortest"), ("older", "oldest", "youngest"), ("faster", "fastest", "slowest"))
PLACES = ("", "second ", "third ")


@dataclass(frozen=True)
class Claim:
    """What is claimed, whether it is true, whether it needs parentheses beside others, and why."""

    text: str
    true: bool
    compound: bool = False
    steps: tuple[str, ...] = ()


def boolean(chance: random.Random, level: int) -> Draft:
    """As many operators as the level says; as often true as false."""
    wanted = chance.random() < 0.5
    while True:
        claim = claimed(chance, level)
        if claim.true is wanted:
            return worked(f"True or False: {claim.text}", claim.steps, claim.true, "truth")


def claimed(chance: random.Random, operators: int) -> Claim:
    """A claim of so many operators besides not."""
    if operators == 0:
        return negated(comparison(chance)) if chance.random() < 0.3 else comparison(chance)
    of_left = chance.randrange(operators)
    left, right = claimed(chance, of_left), claimed(chance, operators - 1 - of_left)
    word = chance.choice(("and", "or"))
    true = left.true and right.true if word == "and" else left.true or right.true
    texts = [f"({side.text})" if side.compound else side.text for side in (left, right)]
    step = f"{left.true} {word} {right.true} is {true}"
    return Claim(f" {word} ".join(texts), true, True, (*left.steps, *right.steps, step))


def comparison(chance: random.Random) -> Claim:
    """Two numbers, the one said to be less or more."""
    a, b = chance.sample(range(1, 100), 2)
    sign = chance.choice("<>")
    true = a < b if sign == "<" else a > b
    return Claim(f"{a} {sign} {b}", true, steps=(f"{a} {sign} {b} is {true}",))


def negated(claim: Claim) -> Claim:
    """The contrary of a comparison."""
    return Claim(f"not {claim.text}", not claim.true, steps=(*claim.steps, f"not {claim.true} is {not claim.true}"))


def order(chance: random.Random, level: int) -> Draft:
    """level + 2 people, each compared with the next; pairs shuffled from level 2 on, places asked from level 3 on."""
    people = chance.sample(NAMES, level + 2)
    more, most, least = chance.choice(COMPARATIVES)
    told = [f"{a} is {more} than {b}." for a, b in pairwise(people)]
    if level >= 2:
        chance.shuffle(told)
    place = chance.randrange(3) if level >= 3 else 0
    top = chance.random() < 0.5
    asked = f"{PLACES[place]}{most if top else least}"
    answer = people[place] if top else people[-1 - place]
    return worked(f"{' '.join(told)} Who is {asked}?", [" > ".join(people)], answer, "name")


KINDS: dict[str, Maker] = {"boolean": boolean, "order": order}
