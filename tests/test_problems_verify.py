"""Answers found in texts and compared: right is right however it is written, and nothing written is a crash."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoflop.problems.datasets import from_gsm8k, read_problems
from isoflop.problems.problem import Problem
from isoflop.problems.sandbox import Limits
from isoflop.problems.verdict import counted
from isoflop.problems.verify import CHECKERS, READERS, require_checkable, verify, verify_all

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GSM8K = SHARED / "posttraining" / "gsm8k" / "grade_school_math" / "data"
SVAMP = SHARED / "evaluation" / "arithmetic" / "svamp.jsonl"


def problem(checker: str, answer: str) -> Problem:
    return Problem("?", answer, "test", 1, checker, answer)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("42", "42"),
        ("42", "#### 42"),
        ("42", "It is 6 * 7 = 42.\nAnswer: 42"),
        ("42", "So the answer is 42."),
        ("42", "The ANSWER IS: **42**"),
        ("42", r"so \boxed{42}, since 6 * 7"),
        ("42", "6 * 7\nA: 42"),
        ("42", "Answer:\n42"),
        ("42", "I have 3 dogs, so it must be 42"),
        ("42", "Answer: x = 42"),
        ("42", "Answer: 6 * 7 = 42 apples"),
        ("1000", "1,000"),
        ("1,000", "$1000.00"),
        ("1000", "The answer is $1,000."),
        ("-5", "Answer: −5"),
        ("-5", "-$5"),
        ("0.5", "Answer: 1/2."),
        ("50", "50%"),
        ("7", "answer: 3\nno, answer: 7"),
    ],
)
def test_a_number_is_right_however_it_is_written(reference: str, text: str) -> None:
    assert verify(problem("number", reference), text).right


@pytest.mark.parametrize("text", ["43", "-42", "4.2", "420", "#### 4 2", "Answer: 41\nAnswer: 24", "Answer: 7 of 42"])
def test_another_number_is_wrong(text: str) -> None:
    verdict = verify(problem("number", "42"), text)
    assert verdict.status == "wrong"
    assert verdict.extracted is not None
    assert "42" not in verdict.why.split()  # the reference is not given away


@pytest.mark.parametrize("text", ["", "   ", "no idea", "Answer: none", "1/0", "9" * 5000, "\0\x1b[J", "####"])
def test_a_text_without_a_number_is_unreadable(text: str) -> None:
    assert verify(problem("number", "42"), text).status == "unreadable"


@pytest.mark.parametrize(
    ("checker", "reference", "right", "wrong"),
    [
        (
            "text",
            "Cab",
            ["Cab", "Answer: Cab", "c a b\nAnswer: 'Cab'", "Answer: `Cab`."],
            ["cab", "Cab b", "Answer: C"],
        ),
        ("name", "Ann", ["ann", "Answer: Ann.", "The answer is **Ann**"], ["Anna", "Answer: Bob"]),
        ("truth", "False", ["False", "Answer: no", "5 < 3 is False, true?\nAnswer: false", "no."], ["True", "yes"]),
        ("list", "3, 7, 19", ["3 7 19", "[3, 7, 19]", "Answer: 3; 7; 19."], ["7, 3, 19", "3, 7", "3, 7, 19, 19"]),
        ("list", "ant, bee", ["Ant Bee", "Answer: ('ant', 'bee')"], ["bee, ant"]),
        ("set", "3, 7, 19", ["19 7 3", "{7, 3, 19}"], ["3, 7", "3, 7, 7, 19"]),
    ],
)
def test_other_answers_are_compared_as_their_kind_is(
    checker: str, reference: str, right: list[str], wrong: list[str]
) -> None:
    for text in right:
        assert verify(problem(checker, reference), text).right, text
    for text in wrong:
        assert verify(problem(checker, reference), text).status == "wrong", text
    assert verify(problem(checker, reference), " \n ").status == "unreadable"


TESTS = "f(2) == 4\nf(-3) == 9\nf(0) == 0"


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return x * x",
        "Here it is:\n```python\ndef f(x):\n    return x ** 2\n```\nHope it helps.",
        "Sure!\n\nimport math\ndef f(x):\n    print('noise')\n    return int(math.pow(x, 2))",
        "def f(x):\n    print('no newline', end='')\n    return x * x",
    ],
)
def test_a_program_whose_results_are_right_is_right(text: str) -> None:
    assert verify(problem("program", TESTS), text).right


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ("def f(x):\n    return x + x", "wrong", "f(-3) is -6 but should be 9"),
        ("def f(x):\n    return float(x * x)", "wrong", "f(2) is 4.0 but should be 4"),
        ("def f(x):\n    return 4 if x > 0 else 1 / 0", "error", "f(-3): ZeroDivisionError: division by zero (line 2)"),
        ("def g(x):\n    return x", "error", "f(2): NameError"),
        ("def f(x) return x", "error", "SyntaxError: expected ':' (line 1)"),
        ("def f(x):\n    while True: pass", "timeout", "f(2): the program did not end in time"),
        ("def f(x):\n    while True: print(x)", "error", "f(2): the program printed too much"),
        ("import os\nos._exit(0)", "error", "the program ended before the tests did"),
        ("def f(x):\n    raise SystemExit", "error", "f(2): the program ended before the tests did"),
        ("import ctypes\nctypes.string_at(0)", "error", "the program crashed"),
        ("class A:\n    def __eq__(self, other): return True\n    def __repr__(self): return 'A()'\nf = lambda x: A()",
         "wrong", "f(2) is A() but should be 4"),
        ("def f(x):\n    return '(' * 9000", "wrong", "..."),
        ("import builtins\nbuiltins.repr = lambda x: '4'\ndef f(x): pass", "wrong", "f(-3) is 4 but should be 9"),
        ("I cannot do that.", "unreadable", "there is no Python code in the answer"),
        ("```python\n```", "unreadable", "there is no Python code"),
        ("\0\x1b", "unreadable", "no Python code"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_program_is_told(text: str, status: str, why: str) -> None:
    verdict = verify(problem("program", TESTS), text, Limits(seconds=1.0))
    assert verdict.status == status
    assert why in verdict.why
    assert len(verdict.why) < 500


def test_an_expression_is_checked_as_a_function_of_x() -> None:
    square = problem("expression", TESTS)
    assert verify(square, "x * x").right
    assert verify(square, "so:\nAnswer: `x ** 2`").right
    assert verify(square, "x + x").status == "wrong"
    assert verify(square, "x +").status == "error"
    assert verify(square, "").status == "unreadable"


def test_what_is_wrong_with_a_problem_is_an_error_before_any_answer() -> None:
    for checker, answer, message in (
        ("nmber", "4", "no checker 'nmber'; there are number, text"),
        ("number", "four", "nothing that 'number' can compare"),
        ("truth", "maybe", "nothing that 'truth' can compare"),
        ("program", "f(2) is 4", "a test must be a call == a literal"),
        ("program", "f(2) == g(3)", "a test must be a call == a literal"),
    ):
        with pytest.raises(ValueError, match=message):
            require_checkable([problem(checker, answer)])


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(list(READERS)), st.text(max_size=300) | st.text("0123456789,./-$#A: \nanswerboxd{}\\", max_size=300)
)
def test_no_text_is_a_crash(checker: str, text: str) -> None:
    reference = {"number": "1", "truth": "True"}.get(checker, "a")
    assert verify(problem(checker, reference), text).status in ("right", "wrong", "unreadable")


def test_long_texts_cost_no_more_than_their_ends() -> None:
    began = time.monotonic()
    for text in ("\n" * 10**6, "answer " * 10**5, "1," * 10**6, "-" * 10**6, "9/" * 10**6, "answer" + " " * 10**6):
        for checker in READERS:
            verify(problem(checker, {"number": "1", "truth": "True"}.get(checker, "a")), text)
    assert time.monotonic() - began < 5


def test_many_verdicts_are_in_order_and_counted() -> None:
    verdicts = verify_all([(problem("number", "1"), text) for text in ("1", "2", "?", "1.0")])
    assert counted(verdicts) == {"right": 2, "wrong": 1, "unreadable": 1, "timeout": 0, "error": 0}
    assert set(CHECKERS) == {*READERS, "program", "expression"}


@pytest.mark.skipif(not GSM8K.exists(), reason="the shared data are not here")
def test_verdicts_on_published_model_answers_are_those_that_were_published() -> None:
    answers = published = 0
    for line in (GSM8K / "example_model_solutions.jsonl").read_text().splitlines():
        row = json.loads(line)
        asked = from_gsm8k({**row, "answer": row["ground_truth"].replace("\nA: ", "\n#### ")}, "row")
        for entry in row.values():
            if isinstance(entry, dict):
                assert verify(asked, entry["solution"]).right == entry["is_correct"]
                answers, published = answers + 1, published + entry["is_correct"]
    assert (answers, published) == (5276, 2001)


@pytest.mark.skipif(not GSM8K.exists() or not SVAMP.exists(), reason="the shared data are not here")
@pytest.mark.parametrize(("file", "count"), [(GSM8K / "test.jsonl", 1319), (SVAMP, 300)])
def test_public_problems_are_read_and_their_own_solutions_are_right(file: Path, count: int) -> None:
    problems = read_problems(file)
    assert len(problems) == count
    assert all(verify(p, p.solution).right for p in problems)
    assert not any("<<" in p.solution for p in problems)
