"""Linear equations in one unknown, solved a line a step: x alone, a factor, x on both sides, parentheses.

From level 3 on x may be below zero; levels past the last form have larger numbers.
"""

from __future__ import annotations

import random

from isoflop.problems.generators.draft import Draft, Maker, worked


def plus(number: int) -> str:
    """A number as it is added: `` + 3``, `` - 3``, nothing for 0."""
    return "" if number == 0 else f" {'+' if number > 0 else '-'} {abs(number)}"


def of_x(factor: int) -> str:
    """x so many times."""
    return {1: "x", -1: "-x"}.get(factor, f"{factor}x")


def alone(chance: random.Random, x: int, size: int) -> list[str]:
    """x + b = c."""
    b = chance.choice((-1, 1)) * chance.randrange(1, size)
    return [f"x{plus(b)} = {x + b}"]


def scaled(chance: random.Random, x: int, size: int) -> list[str]:
    """ax + b = c."""
    a, b = chance.randrange(2, 10), chance.randrange(-size, size)
    return list(dict.fromkeys([f"{a}x{plus(b)} = {a * x + b}", f"{a}x = {a * x}"]))


def both_sides(chance: random.Random, x: int, size: int) -> list[str]:
    """ax + b = cx + d."""
    c = chance.randrange(1, 6)
    a, b = c + chance.randrange(1, 6), chance.randrange(-size, size)
    d = (a - c) * x + b
    steps = [f"{of_x(a)}{plus(b)} = {of_x(c)}{plus(d)}", f"{of_x(a - c)}{plus(b)} = {d}"]
    return list(dict.fromkeys([*steps, f"{of_x(a - c)} = {(a - c) * x}"]))


def parentheses(chance: random.Random, x: int, size: int) -> list[str]:
    """a(x + b) + e = cx + d."""
    a, b, e = chance.randrange(2, 6), chance.choice((-1, 1)) * chance.randrange(1, 10), chance.randrange(-size, size)
    c = chance.choice([factor for factor in range(-4, 6) if factor not in (0, a)])
    d = (a - c) * x + a * b + e
    opened = f"{of_x(a)}{plus(a * b + e)} = {of_x(c)}{plus(d)}"
    steps = [f"{a}(x{plus(b)}){plus(e)} = {of_x(c)}{plus(d)}", opened, f"{of_x(a - c)}{plus(a * b + e)} = {d}"]
    return list(dict.fromkeys([*steps, f"{of_x(a - c)} = {(a - c) * x}"]))


FORMS = (alone, scaled, both_sides, parentheses)


def solve(chance: random.Random, level: int) -> Draft:
    """An equation of the level's form, and the simpler ones that follow from it."""
    form = FORMS[min(level, len(FORMS)) - 1]
    size = 50 * 4 ** max(0, level - len(FORMS))
    x = chance.randrange(1 if level < 3 else -size // 2, size if level == 1 else size // 2)
    equation, *steps = form(chance, x, size)
    steps = [step for step in dict.fromkeys([*steps, f"x = {x}"]) if step != equation]
    return worked(f"Solve for x: {equation}", steps, x, "number")


KINDS: dict[str, Maker] = {"equation": solve}
