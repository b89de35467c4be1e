"""What is said to whoever answered wrongly.

Feedback is a short text: what failed, never a path of this machine or more than a line of what a program printed,
control characters left out. The reference is not told, but a failed test of a program is, as whoever runs one sees it.
"""

from __future__ import annotations

from isoflop.problems.problem import bounded
from isoflop.problems.verdict import Verdict

LONGEST = 300  # characters of feedback
LONGEST_ANSWER = 2000  # characters of a wrong answer that are worth showing


def feedback(verdict: Verdict) -> str:
    """The user's next message after an answer that is not right. Raises ValueError for a right one."""
    if verdict.right:
        raise ValueError("a right answer needs no correction")
    return bounded(f"That is not right: {verdict.why}. Try again.", LONGEST)
