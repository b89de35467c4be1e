"""What is done with the letters of words: backwards, counted, in capitals, taken from the front or the end.

Words are made up, so that there is no end of them and none is known beforehand; what needs letters one by one is first
spelled out, because tokens hide them.
"""

from __future__ import annotations

import random

from isoflop.problems.generators.draft import Draft, Maker, worked
from isoflop.problems.generators.words import CONSONANTS, VOWELS, WORDS


def made_up(chance: random.Random, letters: int) -> str:
    """A word that can be said, of so many letters."""
    start = chance.randrange(2)
    return "".join(chance.choice((CONSONANTS, VOWELS)[(start + place) % 2]) for place in range(letters))


def reverse(chance: random.Random, level: int) -> Draft:
    """A word of level + 2 or 3 letters backwards."""
    word = made_up(chance, level + chance.randrange(2, 4))
    back = word[::-1]
    return worked(f"Reverse: {word}", [f"{' '.join(word)} | {' '.join(back)}"], back, "text")


def count_letter(chance: random.Random, level: int) -> Draft:
    """How often a letter is in a word of 2 level + 3 or 4 letters; in one of four it is not there."""
    word = made_up(chance, 2 * level + chance.randrange(3, 5))
    letter = chance.choice(word if chance.random() < 0.75 else CONSONANTS + VOWELS)
    marked = " ".join(letter.upper() if found == letter else found for found in word)
    return worked(f"How many {letter} in {word}?", [marked], word.count(letter), "number")


CASES = {"Upper": str.upper, "Lower": str.lower, "Title": str.title, "Swap": str.swapcase}


def change_case(chance: random.Random, level: int) -> Draft:
    """Words in another case: capitals at level 1, then small letters too, then titles and exchanged cases."""
    name = chance.choice(list(CASES)[: min(level, len(CASES))])
    words = " ".join(made_up(chance, chance.randrange(3, 5 + level)) for _ in range((level + 2) // 2))
    given = {"Lower": words.upper(), "Swap": words.title()}.get(name, words)
    return worked(f"{name} case: {given}", [], CASES[name](given), "text")


def take_letters(chance: random.Random, level: int) -> Draft:
    """The first letters of level + 2 words; the last ones half of the time from level 2 on."""
    words = chance.sample(WORDS, level + 2)
    last = level >= 2 and chance.random() < 0.5
    taken = "".join(word[-1 if last else 0] for word in words)
    return worked(f"{'Last' if last else 'First'} letters of: {' '.join(words)}", [], taken, "text")


KINDS: dict[str, Maker] = {
    "reverse": reverse,
    "count-letter": count_letter,
    "case": change_case,
    "letters": take_letters,
}
