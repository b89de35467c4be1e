"""A program as an answer: found in a text, run on the calls of the tests, its results compared outside the sandbox.

Tests are lines such as ``f(2) == 5``: a call that the program is asked, and a literal that stays here, so that no
program can read, patch or fake what it is compared with; nor does it pass by leaving early. Results must be of the same
type and equal, floats to nine digits.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Any

from isoflop.problems.problem import bounded
from isoflop.problems.sandbox import Limits, Outcome, run
from isoflop.problems.verdict import Status, Verdict

RESULT = "\x1e"  # begins a line that holds a result
FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
CODE_BEGINS = re.compile(r"^(?:def |class |import |from |@)", re.MULTILINE)
SHOWN = 200  # characters of a value or an error in a verdict
LONGEST_RESULT = 10_000  # characters that are worth parsing
WHAT = {
    "timeout": "the program did not end in time",
    "too much output": "the program printed too much",
    "killed": "the program crashed",
}


def of_program(text: str) -> str:
    """The program in a text: its last fenced block, else from the first line that begins one."""
    blocks = FENCE.findall(text)
    if blocks:
        return str(blocks[-1])
    begins = CODE_BEGINS.search(text)
    return text[begins.start() :] if begins else ""


def of_expression(text: str) -> str:
    """The expression of ``x`` in a text, as a function ``f``: its last fenced block, else its last line."""
    blocks = FENCE.findall(text)
    lines = [line for line in (blocks[-1] if blocks else text).splitlines() if line.strip()]
    if not lines:
        return ""
    expression = re.sub(r"^\s*answer\s*:", "", lines[-1], flags=re.IGNORECASE).strip().strip("`")
    return f"f = lambda x: (\n{expression}\n)\n"


READERS: dict[str, Callable[[str], str]] = {"program": of_program, "expression": of_expression}


def parse_tests(answer: str) -> list[tuple[str, Any]]:
    """(call, expected value) of every line; a ValueError names the line that is not ``call == literal``."""
    tests = []
    for line in filter(str.strip, answer.splitlines()):
        try:
            tree = ast.parse(line.strip(), mode="eval").body
            if not (isinstance(tree, ast.Compare) and len(tree.ops) == 1 and isinstance(tree.ops[0], ast.Eq)):
                raise ValueError
            tests.append((ast.unparse(tree.left), ast.literal_eval(tree.comparators[0])))
        except (ValueError, SyntaxError):
            raise ValueError(f"a test must be a call == a literal, not {line!r}") from None
    return tests


def check(reader: str, answer: str, text: str, limits: Limits | None = None) -> Verdict:
    """Run the program in ``text`` on every test; the first that fails is told."""
    tests = parse_tests(answer)
    program = READERS[reader](text)
    if not program.strip():
        return Verdict("unreadable", None, "there is no Python code in the answer")
    values = ("''", *(f"repr({call})" for call, _ in tests))
    asked = "".join(f"print('\\n' + {RESULT!r} + {value}, flush=True)\n" for value in values)
    outcome = run(f"{program}\n\n{asked}", limits)
    said = [line[1:] for line in outcome.output.split("\n") if line.startswith(RESULT)]
    for (call, expected), result in zip(tests, said[1:], strict=False):
        if not equal(read_literal(result), expected):
            return Verdict("wrong", program, f"{call} is {bounded(result, SHOWN)} but should be {expected!r}")
    if outcome.status == "ok" and len(said) > len(tests):
        return Verdict("right", program)
    stopped_at = tests[len(said) - 1][0] if 0 < len(said) <= len(tests) else ""
    return failure(outcome, program, stopped_at)


def failure(outcome: Outcome, program: str, call: str) -> Verdict:
    """The verdict on a program that did not answer every test; ``call`` is where it stopped, "" if before the first."""
    status: Status = "timeout" if outcome.status == "timeout" else "error"
    error = last_error(outcome.errors, program.count("\n") + 1) or "the program ended before the tests did"
    what = WHAT.get(outcome.status, error)
    return Verdict(status, program, f"{call}: {what}" if call else what)


def last_error(errors: str, length: int) -> str:
    """The exception that ended a program of ``length`` lines, with its line; no path of this machine is in it."""
    lines = [line for line in errors.splitlines() if line.strip()]
    places = [int(place) for place in re.findall(r'File "program\.py", line (\d+)', errors) if int(place) <= length]
    if not lines:
        return ""
    return bounded(lines[-1].strip(), SHOWN) + (f" (line {places[-1]})" if places else "")


def read_literal(text: str) -> Any:
    """The value that a result spells; a result that is no literal is its own text, and equal to none."""
    try:
        return ast.literal_eval(text) if len(text) <= LONGEST_RESULT else NotImplemented
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return NotImplemented


def equal(found: Any, expected: Any) -> bool:
    """Equal values; floats to nine digits, lists and tuples apart."""
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return type(found) is type(expected) and bool(found == expected)
