"""Questions whose answers are checked, and prompts that show by example how they are to be answered.

Rows are GSM8K's (``question``, ``answer`` whose last line is ``#### 42``; Cobbe et al. 2021, arXiv 2110.14168), SVAMP's
(``context``, ``answer``) or ``context`` and ``continuation``. An answer is right where the last number in it is, as a
number, the right one: ``1,000.0`` is 1000. Problems of ``isoflop.problems`` say themselves who checks them. Examples
are questions of the same file, which are then not asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from isoflop.evaluation.rows import Row, text_of
from isoflop.problems.problem import Problem
from isoflop.problems.verify import verify

NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
STEPS = re.compile(r"<<[^>]*>>")


@dataclass(frozen=True)
class Question:
    """What is asked, the number that answers it, and a worked answer to learn from."""

    prompt: str
    answer: Fraction
    worked: str

    def check(self, text: str) -> bool:
        """Whether a text's last number is the answer."""
        return last_number(text) == self.answer


@dataclass(frozen=True)
class Posed:
    """A problem as a question: its own verifier says what is right."""

    problem: Problem

    @property
    def prompt(self) -> str:
        """What is asked."""
        return self.problem.prompt

    @property
    def worked(self) -> str:
        """A worked answer."""
        return self.problem.solution

    def check(self, text: str) -> bool:
        """Whether a text answers it."""
        return verify(self.problem, text).right


def question_of(row: Row) -> Question:
    """The question of a row; a ValueError or KeyError where it has none, or no number for an answer."""
    asked = text_of(row, "question" if "question" in row else "context")
    said = text_of(row, "answer" if "answer" in row else "continuation")
    worked = STEPS.sub("", said).strip()
    if (number := last_number(said)) is None:
        raise ValueError(f"the answer has no number: {said[:80]!r}")
    return Question(asked.strip(), number, worked)


def last_number(text: str) -> Fraction | None:
    """The last number in a text; None where there is none. Thousands may be parted by commas."""
    found = NUMBER.findall(text)
    if not found:
        return None
    try:
        return Fraction(found[-1].replace(",", "").replace("$", "").replace("−", "-"))
    except ZeroDivisionError:
        return None


def few_shot(question: Question | Posed, examples: Sequence[Question | Posed]) -> str:
    """A prompt with worked examples before it, to be gone on with."""
    shown = "".join(f"Question: {each.prompt}\nAnswer: {each.worked}\n\n" for each in examples)
    return f"{shown}Question: {question.prompt}\nAnswer:"
