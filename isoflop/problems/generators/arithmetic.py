"""Whole numbers: sums and differences by columns, products and quotients by places, expressions step by step.

Level 1 has numbers below 100; every level adds digits, or an operation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from isoflop.problems.generators.draft import Draft, Maker, worked

LARGEST = 999  # value inside an expression


def of_digits(chance: random.Random, digits: int) -> int:
    """A number of so many digits; of two, any from 1 to 99."""
    return chance.randrange(1 if digits <= 2 else 10 ** (digits - 1), 10**digits)


def columns(number: int) -> list[int]:
    """The digits of a number, units first."""
    return [int(digit) for digit in reversed(str(number))]


def add(chance: random.Random, level: int) -> Draft:
    """A sum, column by column with what is carried."""
    a, b = of_digits(chance, level + 1), of_digits(chance, level + 1)
    x, y = columns(a), columns(b)
    steps: list[str] = []
    carry = 0
    for place in range(max(len(x), len(y))):
        terms = [row[place] for row in (x, y) if place < len(row)] + [1] * carry
        steps.append(f"{' + '.join(map(str, terms))} = {sum(terms)}")
        carry = sum(terms) // 10
    return worked(f"What is {a} + {b}?", steps, a + b, "number")


def subtract(chance: random.Random, level: int) -> Draft:
    """A difference, column by column with what is borrowed; below zero from level 3 on."""
    b, a = sorted((of_digits(chance, level + 1), of_digits(chance, level + 1)))
    below = level >= 3 and a > b and chance.random() < 0.5
    steps = [f"{b} - {a} = -({a} - {b})"] if below else []
    x, y = columns(a), columns(b)
    borrowed = 0
    for place, digit in enumerate(x):
        taken = y[place] if place < len(y) else 0
        top = digit - borrowed
        borrowed = int(top < taken)
        top += 10 * borrowed
        steps.append(f"{top} - {taken} = {top - taken}")
    first, second = (b, a) if below else (a, b)
    return worked(f"What is {first} - {second}?", steps, first - second, "number")


def multiply(chance: random.Random, level: int) -> Draft:
    """A product: the places of one factor, one by one, and their sum."""
    a, b = of_digits(chance, 2 + level // 2), of_digits(chance, 1 + (level - 1) // 2)
    long, short = (a, b) if level <= 2 else (b, a)  # places of the factor with more of them, as long as that is short
    parts = [digit * 10**place for place, digit in enumerate(columns(long)) if digit]
    steps = [f"{part} * {short} = {part * short}" for part in parts]
    total = parts[0] * short
    for part in parts[1:]:
        steps.append(f"{total} + {part * short} = {total + part * short}")
        total += part * short
    first, second = chance.sample((a, b), 2)
    return worked(f"What is {first} * {second}?", steps, a * b, "number")


def divide(chance: random.Random, level: int) -> Draft:
    """A quotient without remainder, by long division."""
    divisor = chance.randrange(2, 10) if level <= 2 else of_digits(chance, 2) + 1
    quotient = of_digits(chance, level + 1)
    steps: list[str] = []
    rest = 0
    for digit in reversed(columns(divisor * quotient)):
        rest = rest * 10 + digit
        if steps or rest >= divisor:
            steps.append(f"{rest} = {divisor} * {rest // divisor} + {rest % divisor}")
            rest %= divisor
    return worked(f"What is {divisor * quotient} / {divisor}?", steps, quotient, "number")


@dataclass(frozen=True)
class Term:
    """A part of an expression: as it is written, what it is worth, how its outermost operation binds, and its steps."""

    text: str
    value: int
    binding: int
    steps: tuple[str, ...] = ()


BINDING = {"+": 1, "-": 1, "*": 2}
NUMBER = 3


def expression(chance: random.Random, level: int) -> Draft:
    """Several operations, with parentheses where they are needed; nothing on the way is below zero or large."""
    while True:
        term = grown(chance, level + 1)
        if term is not None:
            return worked(f"What is {term.text}?", term.steps, term.value, "number")


def grown(chance: random.Random, operations: int) -> Term | None:
    """A term of so many operations; None if a value in it is out of bounds."""
    if operations == 0:
        number = chance.randrange(1, 20)
        return Term(str(number), number, NUMBER)
    of_left = chance.randrange(operations)
    left, right = grown(chance, of_left), grown(chance, operations - 1 - of_left)
    if left is None or right is None:
        return None
    return joined(left, chance.choice("+-*"), right)


def joined(left: Term, sign: str, right: Term) -> Term | None:
    """Two terms and what stands between them; None if the value is out of bounds."""
    value = {"+": left.value + right.value, "-": left.value - right.value, "*": left.value * right.value}[sign]
    if not 0 <= value <= LARGEST:
        return None
    binding = BINDING[sign]
    first = left.text if left.binding >= binding else f"({left.text})"
    second = right.text if right.binding > binding else f"({right.text})"
    step = f"{left.value} {sign} {right.value} = {value}"
    return Term(f"{first} {sign} {second}", value, binding, (*left.steps, *right.steps, step))


KINDS: dict[str, Maker] = {
    "add": add,
    "subtract": subtract,
    "multiply": multiply,
    "divide": divide,
    "expression": expression,
}
