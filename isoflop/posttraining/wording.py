"""Manners that answers overuse, and a limit on how many of them are learnt from.

Llama 3 found early data full of apologies, emoji and exclamation marks and balanced them (arXiv 2407.21783, section
4.2.3). A rule names the manner of an answer; of those that have it at most a stated share of all answers is kept,
chosen by a key of the text, because a manner that is never seen is unlearnt too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from isoflop.keys import derive_key

OPENINGS = re.compile(
    r"\W*(?:i(?:['’]m| am)(?: (?:so|very|really|truly))? (?:sorry|afraid)|i apologi[sz]e|(?:my )?apologies|sorry\b|"
    r"as an ai\b|unfortunately,? i\b)",
    re.IGNORECASE,
)
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\U0001f1e6-\U0001f1ff]")
MANY = 3
"""Emoji, or exclamation marks, that are too many in one answer."""

RULES: dict[str, Callable[[str], bool]] = {
    "apology": lambda text: OPENINGS.match(text) is not None,
    "exclamations": lambda text: text.count("!") >= MANY,
    "emoji": lambda text: len(EMOJI.findall(text)) >= MANY,
}


def manners(text: str) -> tuple[str, ...]:
    """The names of the rules that an answer falls under."""
    return tuple(name for name, falls in RULES.items() if falls(text))


def tempered(answers: Sequence[str], most: float = 0.02) -> tuple[list[int], dict[str, int]]:
    """Numbers of the answers to keep, ascending, and how many were left out for each manner.

    Of all answers at most ``most`` may have a manner, at least one where any has it. One that has several counts for
    the first in the order of ``RULES`` that is full.
    """
    if not 0 <= most <= 1:
        raise ValueError(f"the share of answers that may have a manner is between 0 and 1, not {most}")
    found = [manners(answer) for answer in answers]
    room = {name: max(1, int(most * len(answers))) if most else 0 for name in RULES}
    left_out, kept = dict.fromkeys(RULES, 0), []
    for number in sorted(range(len(answers)), key=lambda n: (derive_key(0, "manner", answers[n]), n)):
        if full := next((name for name in found[number] if not room[name]), None):
            left_out[full] += 1
            continue
        for name in found[number]:
            room[name] -= 1
        kept.append(number)
    return sorted(kept), left_out
