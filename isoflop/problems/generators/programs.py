"""Small Python programs from a description: what is to be done to a number or a list, step after step.

The reference is the same steps done here; it becomes tests such as ``f(2) == 7``, on inputs around the constants of the
steps, where an almost right program fails. Levels: one step on a number with large constants, two steps, a choice, then
lists with more and more steps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from isoflop.problems.generators.draft import Draft, Maker

TESTS = 6


@dataclass(frozen=True)
class Step:
    """One thing to do: in words, in Python of the value ``x``, and done; ``{k}`` stands for its constant."""

    words: str
    code: str
    act: Callable[[Any, int], Any]
    sum: bool = False

    def told(self, k: int) -> str:
        """In words."""
        return self.words.format(k=k)

    def written(self, k: int, value: str) -> str:
        """In Python, of the expression ``value``."""
        return self.code.format(k=k, x=value)


NUMBER_STEPS = (
    Step("plus {k}", "{x} + {k}", lambda x, k: x + k, sum=True),
    Step("minus {k}", "{x} - {k}", lambda x, k: x - k, sum=True),
    Step("times {k}", "{x} * {k}", lambda x, k: x * k),
    Step("modulo {k}", "{x} % {k}", lambda x, k: x % k),
)
CONDITIONS = (
    Step("above {k}", "{x} > {k}", lambda x, k: x > k),
    Step("below {k}", "{x} < {k}", lambda x, k: x < k),
    Step("a multiple of {k}", "{x} % {k} == 0", lambda x, k: x % k == 0),
)
LIST_STEPS = (
    Step("keep those above {k}", "[x for x in {x} if x > {k}]", lambda xs, k: [x for x in xs if x > k]),
    Step("keep those below {k}", "[x for x in {x} if x < {k}]", lambda xs, k: [x for x in xs if x < k]),
    Step("drop multiples of {k}", "[x for x in {x} if x % {k}]", lambda xs, k: [x for x in xs if x % k]),
    Step("add {k} to each", "[x + {k} for x in {x}]", lambda xs, k: [x + k for x in xs]),
    Step("multiply each by {k}", "[x * {k} for x in {x}]", lambda xs, k: [x * k for x in xs]),
    Step("drop the first {k}", "{x}[{k}:]", lambda xs, k: xs[k:]),
    Step("keep the first {k}", "{x}[:{k}]", lambda xs, k: xs[:k]),
    Step("sort", "sorted({x})", lambda xs, k: sorted(xs)),
    Step("reverse", "{x}[::-1]", lambda xs, k: xs[::-1]),
)
LIST_ENDS = (
    Step("return the sum", "sum({x})", lambda xs, k: sum(xs)),
    Step("return how many", "len({x})", lambda xs, k: len(xs)),
    Step("return the largest or 0", "max({x}, default=0)", lambda xs, k: max(xs, default=0)),
    Step("return the list", "{x}", lambda xs, k: xs),
)

Course = Sequence[tuple[Step, int]]
"""Steps with their constants."""


def course(chance: random.Random, steps: Sequence[Step], length: int, largest: int) -> list[tuple[Step, int]]:
    """So many steps, none twice in a row."""
    chosen: list[Step] = []
    while len(chosen) < length:
        chosen.append(chance.choice([step for step in steps if step not in chosen[-1:]]))
    return [(step, chance.randrange(2, largest)) for step in chosen]


def done(steps: Course, value: Any) -> Any:
    """The value after every step."""
    for step, k in steps:
        value = step.act(value, k)
    return value


def told(steps: Course) -> str:
    """The steps in words."""
    return ", ".join(step.told(k) for step, k in steps)


def nested(steps: Course, value: str) -> str:
    """The steps as one expression, with parentheses where a sum is to be multiplied."""
    bare = True
    for step, k in steps:
        value = step.written(k, value if bare or step.sum else f"({value})")
        bare = not step.sum
    return value


def tests(chance: random.Random, inputs: Sequence[Any], answer: Callable[[Any], Any]) -> str:
    """Some of the inputs with their answers; all that decide between branches are among them as they come first."""
    chosen = [*inputs[:4], *chance.sample(inputs[4:], TESTS - 4)]
    return "\n".join(f"f({value!r}) == {answer(value)!r}" for value in chosen)


def numbers_around(steps: Course) -> list[int]:
    """Numbers that tell almost right programs apart: the constants and their neighbours first."""
    constants = [k for _, k in steps][:2]
    near = [value for k in constants for value in (k, k + 1)]
    return list(dict.fromkeys([*near, 0, 1, -3, 2, 7, 12, 25, -8]))


def expression(chance: random.Random, level: int) -> Draft:
    """An expression of x: as many steps as the level says."""
    steps = course(chance, NUMBER_STEPS, level, 1000 if level == 1 else 20)
    checks = tests(chance, numbers_around(steps), lambda x: done(steps, x))
    return Draft(f"Python expression: x {told(steps)}", checks, "expression", nested(steps, "x"))


def function(chance: random.Random, level: int) -> Draft:
    """A function: of a number up to level 3, of a list from there on."""
    if level <= 2:
        return of_number(chance, level)
    return choosing(chance) if level == 3 else of_list(chance, level - 3)


def of_number(chance: random.Random, length: int) -> Draft:
    """Steps on a number."""
    steps = course(chance, NUMBER_STEPS, length, 1000 if length == 1 else 20)
    checks = tests(chance, numbers_around(steps), lambda x: done(steps, x))
    lines = [f"    x = {step.written(k, 'x')}" for step, k in steps[:-1]]
    lines.append(f"    return {steps[-1][0].written(steps[-1][1], 'x')}")
    return Draft(f"Write f(x): x {told(steps)}", checks, "program", "\n".join(["def f(x):", *lines]))


def choosing(chance: random.Random) -> Draft:
    """One step if a condition holds, and another if not."""
    (condition,) = course(chance, CONDITIONS, 1, 10)
    yes, no = course(chance, NUMBER_STEPS, 2, 20)
    checks = tests(chance, numbers_around([condition]), lambda x: done([yes if done([condition], x) else no], x))
    prompt = f"Write f(x): if x is {told([condition])}, x {told([yes])}, else x {told([no])}"
    lines = [f"if {nested([condition], 'x')}:", f"    return {nested([yes], 'x')}", f"return {nested([no], 'x')}"]
    return Draft(prompt, checks, "program", "\n".join(["def f(x):", *(f"    {line}" for line in lines)]))


def of_list(chance: random.Random, length: int) -> Draft:
    """Steps on a list, and what to return."""
    steps = course(chance, LIST_STEPS, length, 8)
    (end,) = course(chance, LIST_ENDS, 1, 3)
    whole = [*steps, end]
    inputs = [chance.sample(range(-5, 15), size) for size in (9, 8, 7, 6, 1, 4, 5, 10)] + [[]]
    checks = tests(chance, inputs, lambda xs: done(whole, xs))
    lines = [f"    xs = {step.written(k, 'xs')}" for step, k in steps] + [f"    return {end[0].written(end[1], 'xs')}"]
    return Draft(f"Write f(xs): {told(whole)}", checks, "program", "\n".join(["def f(xs):", *lines]))


KINDS: dict[str, Maker] = {"expression-code": expression, "function": function}
