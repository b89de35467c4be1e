"""Files of problems: isoflop's own, GSM8K's (arXiv 2110.14168) and SVAMP's, told apart by the fields of each row.

GSM8K's solutions hold what a calculator was asked, as ``<<48/2=24>>``; people do not write so, and it is taken out.
Its level is the number of steps of the solution.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isoflop.problems.problem import Problem, from_row, read_rows

CALCULATOR = re.compile(r"<<[^<>]*>>")
WHOLE = re.compile(r"(?<=\d)\.0\b")

Row = dict[str, Any]


def read_problems(path: Path) -> list[Problem]:
    """The problems of a file; a ValueError names file and line of a row that is none, or says that there are none."""
    found = [problem_of(row, where) for where, row in read_rows(path)]
    if not found:
        raise ValueError(f"{path} has no problems")
    return found


def problem_of(row: Row, where: str = "row") -> Problem:
    """The problem of a row of any known form; a ValueError begins with ``where``."""
    for fields, read in FORMS.items():
        if row.keys() >= set(fields):
            return read(row, where)
    known = "; ".join(" and ".join(fields) for fields in FORMS)
    raise ValueError(f"{where}: not a problem: it needs the fields {known}")


def texts_of(row: Row, fields: tuple[str, ...], where: str) -> list[str]:
    """Fields that must be strings."""
    for field in fields:
        if not isinstance(row[field], str) or not row[field].strip():
            raise ValueError(f'{where}: "{field}" must be a text, not {row[field]!r:.80}')
    return [row[field].strip() for field in fields]


def from_gsm8k(row: Row, where: str) -> Problem:
    """A row of GSM8K: its solution ends with a line ``#### answer``."""
    question, solution = texts_of(row, ("question", "answer"), where)
    steps, mark, answer = CALCULATOR.sub("", solution).rpartition("####")
    if not mark or not answer.strip():
        raise ValueError(f'{where}: the "answer" does not end with #### and a number')
    level = max(1, len(steps.strip().splitlines()))
    return Problem(question, answer.strip(), "gsm8k", level, "number", f"{steps.strip()}\n#### {answer.strip()}")


def from_svamp(row: Row, where: str) -> Problem:
    """A row of SVAMP in the form of context, chain of thought (a formula) and answer."""
    question, formula, answer = texts_of(row, ("context", "chain_of_thought", "answer"), where)
    formula = WHOLE.sub("", formula.removeprefix("( ").removesuffix(" )"))
    level = max(1, len(re.findall(r" [-+*/] ", formula)))
    return Problem(question, answer, "svamp", level, "number", f"{formula} = {answer}\nAnswer: {answer}")


FORMS: dict[tuple[str, ...], Callable[[Row, str], Problem]] = {
    ("messages", "checker"): from_row,
    ("question", "answer"): from_gsm8k,
    ("context", "chain_of_thought", "answer"): from_svamp,
}
