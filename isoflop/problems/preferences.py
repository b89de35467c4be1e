"""Preference pairs from verdicts: right answers to a prompt over wrong ones, without teaching length.

Right and wrong answers differ in length (a wrong one may run on to the limit), and pairs drawn at random would teach
that. Each pair is therefore the right and the wrong answer that are closest in length among those left, so that what is
preferred differs in little else; equally close ones are chosen by a key of their texts, so that the order of sampling
changes nothing. Where all wrong answers are longer the difference stays: ``mean_gap`` says how large it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from isoflop.keys import derive_key
from isoflop.problems.verdict import Verdict


class Pair(NamedTuple):
    """Two answers to one prompt."""

    chosen: str
    rejected: str


def pairs(answers: Iterable[tuple[str, Verdict]], most: int = 1, seed: int = 0) -> list[Pair]:
    """At most ``most`` pairs of the answers to one prompt, each answer in at most one; none if all are right or wrong.

    Answers that are alike count once; an empty one is in no pair.
    """
    verdicts = {text: verdict.right for text, verdict in answers if text.strip()}
    closest = sorted(
        (Pair(right, wrong) for right in verdicts if verdicts[right] for wrong in verdicts if not verdicts[wrong]),
        key=lambda pair: (abs(len(pair.chosen) - len(pair.rejected)), derive_key(seed, *pair)),
    )
    found: list[Pair] = []
    used: set[str] = set()
    for pair in closest:
        if len(found) < most and not used & set(pair):
            found.append(pair)
            used |= set(pair)
    return found


def mean_gap(found: Sequence[Pair]) -> float:
    """By how many characters the chosen answers are longer than the rejected ones, on average; 0 for no pairs."""
    return sum(len(pair.chosen) - len(pair.rejected) for pair in found) / len(found) if found else 0.0
