"""Whether an answer is right: the final answer found in a text, and compared as its kind of answer is compared.

``verify`` never raises for what a model wrote: no answer in it, a program that hangs or prints garbage are verdicts
like any other. A final answer is looked for as people and data sets mark it (``#### 42``, ``Answer: 42``, ``the answer
is 42``, ``\\boxed{42}``), the last mark counting; without one it is the last number, truth value or line, by kind.
Numbers are compared exactly, as fractions, so 1,000 = 1000 = $1000.00. A program is right if its results equal the
references, which it never sees: they stay in this process.

Only a text's last ``LOOKED_AT`` characters are searched, so that cost is bounded; all but programs take microseconds.
Left out: equivalence of formulas, and units.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from isoflop.problems import programs
from isoflop.problems.problem import Problem
from isoflop.problems.sandbox import Limits
from isoflop.problems.verdict import Verdict
from isoflop.processors import processors

LOOKED_AT = 20_000
LONGEST_NUMBER = 100  # characters

MARK = re.compile(r"####|\banswer\s*(?:is\b\s*:?|[:=])|^[ \t]*A:|\\boxed\{", re.IGNORECASE | re.MULTILINE)
NUMBER = re.compile(r"[-−–]?\s?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+)?")
TRUTHS = {"true": "True", "yes": "True", "correct": "True", "false": "False", "no": "False", "incorrect": "False"}
TRUTH = re.compile(rf"\b(?:{'|'.join(TRUTHS)})\b", re.IGNORECASE)
SEPARATOR = re.compile(r"[\s,;]+")
WRAPPED = "\"'`*_ \t"


def marked(text: str) -> str | None:
    """What follows the last mark of a final answer, to the end of its line; None without a mark."""
    marks = list(MARK.finditer(text))
    if not marks:
        return None
    line = text[marks[-1].end() :].lstrip(WRAPPED + "\n").split("\n", 1)[0]
    return line.split("}", 1)[0] if marks[-1].group().endswith("{") else line


def final(text: str) -> str:
    """The final answer without what wraps it: quotation marks, emphasis, a full stop; the last line without a mark."""
    after = marked(text)
    if after is None:
        after = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return after.strip(WRAPPED).removesuffix(".").strip(WRAPPED)


def read_text(text: str) -> str | None:
    """The very characters of the final answer."""
    return final(text) or None


def read_name(text: str) -> str | None:
    """The words of the final answer; case does not matter."""
    return " ".join(final(text).casefold().split()) or None


def read_number(text: str) -> str | None:
    """The number of the final answer, or what its equation comes to; the last number of a text without a mark."""
    after = marked(text)
    numbers = NUMBER.findall(text if after is None else after.rsplit("=", 1)[-1])
    return spelled(numbers[-1 if after is None else 0]) if numbers else None


def spelled(number: str) -> str | None:
    """The one spelling of a number as it is written in prose; None if it is none, or too long to be meant."""
    digits = re.sub(r"[\s,$]", "", number).replace("−", "-").replace("–", "-")
    if len(digits) > LONGEST_NUMBER:
        return None
    try:
        return str(Fraction(digits))
    except (ValueError, ZeroDivisionError):
        return None


def read_truth(text: str) -> str | None:
    """The truth value of the final answer; the last one of a text without a mark."""
    after = marked(text)
    words = TRUTH.findall(text if after is None else after)
    return TRUTHS[words[-1 if after is None else 0].lower()] if words else None


def read_list(text: str) -> str | None:
    """The items of the final answer in their order, whatever separates and brackets them."""
    return " ".join(_items(text)) or None


def read_set(text: str) -> str | None:
    """The items of the final answer, each as often as it is there, in no order."""
    return " ".join(sorted(_items(text))) or None


def _items(text: str) -> list[str]:
    words = (word.strip(WRAPPED) for word in SEPARATOR.split(final(text).strip("[](){}. ")))
    return [(spelled(word) or word.casefold()) for word in words if word]


READERS: dict[str, Callable[[str], str | None]] = {
    "number": read_number,
    "text": read_text,
    "name": read_name,
    "list": read_list,
    "set": read_set,
    "truth": read_truth,
}
CHECKERS = (*READERS, *programs.READERS)
"""The names that a problem's ``checker`` may have."""


def verify(problem: Problem, text: str, limits: Limits | None = None) -> Verdict:
    """Whether ``text`` answers ``problem``; ``limits`` bound programs.

    Raises ValueError for what is wrong with the problem: a checker that there is none of, a reference it cannot read.
    """
    text = text[-LOOKED_AT:]
    if problem.checker in programs.READERS:
        return programs.check(problem.checker, problem.answer, text, limits)
    if problem.checker not in READERS:
        raise ValueError(f"there is no checker {problem.checker!r}; there are {', '.join(CHECKERS)}")
    read = READERS[problem.checker]
    reference, found = read(problem.answer), read(text)
    if reference is None:
        raise ValueError(f"the reference {problem.answer!r:.80} has nothing that {problem.checker!r} can compare")
    if found is None:
        return Verdict("unreadable", None, f"there is no {problem.checker} in the answer")
    return Verdict("right", found) if found == reference else Verdict("wrong", found, f"{found} is not right")


def verify_all(answers: Iterable[tuple[Problem, str]], limits: Limits | None = None) -> list[Verdict]:
    """Verdicts on many (problem, text), in their order; programs run as many at a time as there are processors."""
    with ThreadPoolExecutor(len(processors())) as pool:
        return list(pool.map(lambda answer: verify(answer[0], answer[1], limits), answers))


def require_checkable(problems: Iterable[Problem]) -> None:
    """Raise the ValueError that ``verify`` would raise for one of these, before hours are spent on answers."""
    for problem in problems:
        verify(problem, "")
