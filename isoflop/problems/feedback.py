"""What is said to whoever answered wrongly, and conversations in which a wrong answer is put right.

Feedback is a short text: what failed, never a path of this machine or more than a line of what a program printed,
control characters left out. The reference is not told, but a failed test of a program is, as whoever runs one sees it.
A correction is to be learned from its last answer alone: its row gives the wrong one ``weight`` 0, which is OpenAI's
way to keep a message out of the loss.
"""

from __future__ import annotations

from typing import Any

from isoflop.problems.problem import Problem, bounded
from isoflop.problems.verdict import Verdict

LONGEST = 300  # characters of feedback
LONGEST_ANSWER = 2000  # characters of a wrong answer that are worth showing

Said = list[tuple[str, str]]
"""(role, content) pairs."""


def feedback(verdict: Verdict) -> str:
    """The user's next message after an answer that is not right. Raises ValueError for a right one."""
    if verdict.right:
        raise ValueError("a right answer needs no correction")
    return bounded(f"That is not right: {verdict.why}. Try again.", LONGEST)


def correction(problem: Problem, wrong: str, verdict: Verdict) -> Said:
    """Prompt, wrong answer, feedback and the worked solution."""
    return [
        ("user", problem.prompt),
        ("assistant", bounded(wrong, LONGEST_ANSWER)),
        ("user", feedback(verdict)),
        ("assistant", problem.solution),
    ]


def retry(problem: Problem, wrong: str, verdict: Verdict) -> Said:
    """The same, without the solution: what a model is asked so that it corrects itself."""
    return correction(problem, wrong, verdict)[:-1]


def correction_row(problem: Problem, wrong: str, verdict: Verdict) -> dict[str, Any]:
    """A correction as a line for fine-tuning; only what is right is trained on."""
    said = correction(problem, wrong, verdict)
    messages = [{"role": role, "content": content} for role, content in said]
    return {"messages": [messages[0], {**messages[1], "weight": 0}, *messages[2:]], "kind": problem.kind}
