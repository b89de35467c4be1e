"""Small stories about how many there are: one sentence for a start, one for each change, a question."""

from __future__ import annotations

import random

from isoflop.problems.generators.draft import Draft, Maker, worked
from isoflop.problems.generators.words import NAMES, THINGS

CHANGES = {
    "+": ("finds {n} more", "buys {n} more", "gets {n} from {other}"),
    "-": ("loses {n}", "gives {n} to {other}", "sells {n}"),
    "*": ("then has {n} times as many",),
}


def story(chance: random.Random, level: int) -> Draft:
    """As many changes as the level says; from level 3 on some of them multiply."""
    who, other = chance.sample(NAMES, 2)
    things = chance.choice(THINGS)
    count = chance.randrange(2, 30 if level == 1 else 100)
    told, steps = [f"{who} has {count} {things}."], []
    for _ in range(level):
        number = chance.randrange(2, 30)
        if level >= 3 and chance.random() < 0.25 and count < 200:
            number, sign = chance.randrange(2, 5), "*"
        else:
            sign = "+" if chance.random() < 0.5 or count <= number else "-"
        after = {"+": count + number, "-": count - number, "*": count * number}[sign]
        told.append(f"{who} {chance.choice(CHANGES[sign]).format(n=number, other=other)}.")
        steps.append(f"{count} {sign} {number} = {after}")
        count = after
    return worked(f"{' '.join(told)} How many {things}?", steps, count, "number")


KINDS: dict[str, Maker] = {"story": story}
