"""Whether answers are of a healthy kind: how long they are, how many never ended, how many went round in circles."""

from __future__ import annotations

from collections.abc import Sequence

from isoflop.evaluation.intervals import Figure, mean, share
from isoflop.inference.requests import Completion

GRAM = 4
LONGEST_PERIOD = 32
"""Tokens of a loop at most."""
ROUNDS, LEAST = 3, 12
"""A loop has gone round so often, and is so many tokens in all."""


def watched(answers: Sequence[Sequence[Completion]]) -> dict[str, Figure]:
    """Figures of several prompts' answers; answers to the same prompt are not independent."""
    flat = [(number, answer) for number, own in enumerate(answers) for answer in own]
    prompts = [number for number, _ in flat]
    ids = [answer.ids for _, answer in flat]
    return {
        "tokens": mean([float(len(each)) for each in ids], prompts),
        "hit the limit": share([answer.finish == "length" for _, answer in flat], prompts),
        "repeated 4-grams": mean([repeated(each) for each in ids], prompts),
        "looping": share([loops(each) for each in ids], prompts),
    }


def repeated(ids: Sequence[int]) -> float:
    """The share of 4-grams of tokens that the text already had; 0 of a text too short for two."""
    grams = [tuple(ids[at : at + GRAM]) for at in range(len(ids) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def loops(ids: Sequence[int]) -> bool:
    """Whether a text ends by going round: its last tokens are some loop three times, and at least twelve tokens."""
    for period in range(1, LONGEST_PERIOD + 1):
        span = max(ROUNDS * period, LEAST)
        if len(ids) < span:
            continue
        end = ids[len(ids) - span :]
        if all(end[at] == end[at + period] for at in range(span - period)):
            return True
    return False
