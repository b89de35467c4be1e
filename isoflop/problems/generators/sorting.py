"""Numbers and words put in order: level + 2 of them, larger and more alike as the level grows."""

from __future__ import annotations

import random

from isoflop.problems.generators.draft import Draft, Maker, worked
from isoflop.problems.generators.words import WORDS


def in_order(chance: random.Random, level: int, items: list[str], ordered: list[str]) -> Draft:
    """The problem; downwards half of the time from level 3 on."""
    down = level >= 3 and chance.random() < 0.5
    answer = ", ".join(reversed(ordered) if down else ordered)
    return worked(f"Sort {'down' if down else 'up'}: {', '.join(items)}", [], answer, "list")


def sort_numbers(chance: random.Random, level: int) -> Draft:
    """Different numbers, below 100 at first."""
    numbers = chance.sample(range(1, 10 ** (2 + (level - 1) // 2)), level + 2)
    return in_order(chance, level, [str(n) for n in numbers], [str(n) for n in sorted(numbers)])


def sort_words(chance: random.Random, level: int) -> Draft:
    """Different words; their first letters differ at level 1 and are few from level 3 on."""
    count = level + 2
    if level == 1:
        by_letter = [[word for word in WORDS if word[0] == letter] for letter in sorted({word[0] for word in WORDS})]
        words = [chance.choice(group) for group in chance.sample(by_letter, count)]
    elif level == 2:
        words = chance.sample(WORDS, count)
    else:
        letters = chance.sample("abcdfghlmnprstw", 2 + level // 3)
        words = chance.sample([word for word in WORDS if word[0] in letters], count)
    return in_order(chance, level, words, sorted(words))


KINDS: dict[str, Maker] = {"sort-numbers": sort_numbers, "sort-words": sort_words}
