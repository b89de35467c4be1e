"""Problems from a seed: right, different, harder with the level, apart from those held out."""

from __future__ import annotations

import ast
import operator
import re
from itertools import permutations

import pytest

from isoflop.problems.generators import GROUPS, KINDS, LEVELS, ExhaustedError, generate, kinds_of
from isoflop.problems.problem import Problem, is_held_out, split
from isoflop.problems.verify import verify, verify_all

OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def value(node: ast.expr, x: float = 0) -> float:
    """What an arithmetic expression of x is worth, computed apart from the generators."""
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](value(node.left, x), value(node.right, x))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -value(node.operand, x)
    if isinstance(node, ast.Name):
        return x
    assert isinstance(node, ast.Constant)
    return node.value


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in GROUPS["programs"]])
def test_solutions_are_right_at_every_level(kind: str) -> None:
    for level in range(1, LEVELS + 1):
        for problem in generate(kind, level, 25, seed=level):
            assert verify(problem, problem.solution).right, problem


@pytest.mark.parametrize("kind", list(GROUPS["programs"]))
def test_reference_programs_pass_their_tests_in_the_sandbox(kind: str) -> None:
    problems = [problem for level in range(1, LEVELS + 1) for problem in generate(kind, level, 2, seed=level)]
    assert all(verdict.right for verdict in verify_all((problem, problem.solution) for problem in problems))


@pytest.mark.parametrize("kind", ["add", "subtract", "multiply", "divide", "expression"])
def test_answers_and_every_step_of_arithmetic_hold(kind: str) -> None:
    for level in range(1, LEVELS + 1):
        for problem in generate(kind, level, 25):
            asked = problem.prompt.removeprefix("What is ").removesuffix("?")
            assert value(parsed(asked)) == int(problem.answer)
            for step in problem.solution.splitlines()[:-1]:
                left, right = step.split(" = ")
                assert value(parsed(left)) == value(parsed(right)), problem


def test_equations_and_every_step_of_their_solution_hold_for_the_answer() -> None:
    for level in range(1, LEVELS + 1):
        for problem in generate("equation", level, 40):
            x = int(problem.answer)
            for line in [problem.prompt.removeprefix("Solve for x: "), *problem.solution.splitlines()[:-1]]:
                sides = [re.sub(r"(\d)(?=x|\()", r"\1*", side) for side in line.split(" = ")]
                left, right = (value(parsed(side.strip()), x) for side in sides)
                assert left == right, problem


def test_truth_is_python_s_and_balanced() -> None:
    problems = [problem for level in range(1, 6) for problem in generate("boolean", level, 60)]
    for problem in problems:
        assert str(eval(problem.prompt.removeprefix("True or False: "))) == problem.answer
    assert 0.4 < sum(problem.answer == "True" for problem in problems) / len(problems) < 0.6


def test_only_one_order_of_people_fits_what_is_told() -> None:
    for level in (1, 2, 3):
        for problem in generate("order", level, 10):
            pairs = re.findall(r"(\w+) is \w+ than (\w+)\.", problem.prompt)
            people = sorted({name for pair in pairs for name in pair})
            fits = [p for p in permutations(people) if all(p.index(a) < p.index(b) for a, b in pairs)]
            assert problem.solution.splitlines()[0] == " > ".join(fits[0])
            assert len(fits) == 1
            place = {"second": 1, "third": 2}.get(problem.prompt.split()[-2], 0)
            top = problem.prompt.rstrip("?").split()[-1] in ("tallest", "oldest", "fastest")
            assert problem.answer == (fits[0][place] if top else fits[0][-1 - place])


def test_strings_and_lists_are_as_python_says() -> None:
    for level in range(1, LEVELS + 1):
        for problem in generate("reverse", level, 10):
            assert problem.answer == problem.prompt.removeprefix("Reverse: ")[::-1]
        for problem in generate("count-letter", level, 10):
            _, _, letter, _, word = problem.prompt.removesuffix("?").split()
            assert int(problem.answer) == word.count(letter)
        for problem in (*generate("sort-numbers", level, 10), *generate("sort-words", level, 10)):
            way, items = problem.prompt.removeprefix("Sort ").split(": ")
            key = int if problem.kind == "sort-numbers" else str
            assert problem.answer.split(", ") == sorted(items.split(", "), key=key, reverse=way == "down")


def test_the_same_seed_gives_the_same_problems_and_more_begin_with_fewer() -> None:
    for kind in KINDS:
        assert generate(kind, 2, 12, seed=5)[:7] == generate(kind, 2, 7, seed=5)
        assert generate(kind, 2, 7, seed=5) != generate(kind, 2, 7, seed=6)
    assert generate("add", 1, 2, seed=0)[0].prompt == "What is 6 + 12?"  # for ever, on every machine


def test_no_problem_is_given_twice() -> None:
    for kind in KINDS:
        prompts = [problem.prompt for problem in generate(kind, 1, 300)]
        assert len(set(prompts)) == 300


def test_problems_are_short_at_first_and_grow_with_the_level() -> None:
    for kind in KINDS:
        mean = [sum(len(p.prompt) + len(p.solution) for p in generate(kind, level, 50)) / 50 for level in (1, 3, 5, 8)]
        assert max(len(problem.prompt) for problem in generate(kind, 1, 200)) <= 64, kind
        assert mean[0] < mean[1] < mean[3], kind
        assert mean[1] < mean[3], kind
        assert max(len(problem.prompt + problem.solution) for problem in generate(kind, 1, 200)) < 200, kind


def test_held_out_prompts_are_never_trained_on_whatever_the_seeds() -> None:
    for kind in ("add", "order", "function"):
        training = {p.prompt for seed in (0, 1) for p in generate(kind, 1, 300, seed, part="training")}
        held = {p.prompt for seed in (0, 9) for p in generate(kind, 1, 40, seed, part="held-out")}
        assert not training & held
        assert all(is_held_out(prompt) for prompt in held)


def test_split_takes_the_share_and_looks_past_case_and_spaces() -> None:
    problems = generate("add", 2, 2000)
    training, held = split(problems, 0.2)
    assert len(training) + len(held) == 2000
    assert 0.17 < len(held) / 2000 < 0.23
    assert all(is_held_out(f"  {p.prompt.upper()} ", 0.2) for p in held)


def test_an_exhausted_kind_says_so_and_gives_what_there_is() -> None:
    with pytest.raises(ExhaustedError, match="multiply problems of level 1") as caught:
        generate("multiply", 1, 100_000)
    found: list[Problem] = caught.value.found
    assert 1300 < len(found) < 1800
    assert len({problem.prompt for problem in found}) == len(found)


def test_what_cannot_be_made_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="no problems of kind 'ad'; kinds are arithmetic: add"):
        generate("ad", 1, 1)
    with pytest.raises(ValueError, match="levels are 1 to 8"):
        generate("add", 9, 1)
    with pytest.raises(ValueError, match="cannot make -1"):
        generate("add", 1, -1)
    assert kinds_of(("sorting", "add", "sort-words")) == ["sort-numbers", "sort-words", "add"]
    assert kinds_of(()) == list(KINDS)
    assert generate("add", 1, 0) == []
