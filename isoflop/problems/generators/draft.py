"""What a generator makes, before it has a name and a level."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """A problem's prompt, answer, checker and solution."""

    prompt: str
    answer: str
    checker: str
    solution: str


Maker = Callable[[random.Random, int], Draft]
"""From chance and a level."""


def worked(prompt: str, steps: Sequence[str], answer: str | int | bool, checker: str) -> Draft:
    """A problem whose solution is its steps, a line each, and the answer in the form that all kinds share."""
    return Draft(prompt, str(answer), checker, "\n".join([*steps, f"Answer: {answer}"]))
