"""Files of problems, and what is made of verdicts: feedback, corrections, preference pairs; and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isoflop.cli import dispatch
from isoflop.problems.datasets import problem_of, read_problems
from isoflop.problems.feedback import LONGEST, feedback
from isoflop.problems.generators import KINDS, generate
from isoflop.problems.preferences import mean_gap, pairs
from isoflop.problems.problem import Problem, is_held_out, to_row, write_problems
from isoflop.problems.verdict import Verdict
from isoflop.problems.verify import verify

RIGHT, WRONG = Verdict("right", "1"), Verdict("wrong", "2", "2 is not right")


def test_problems_come_back_from_their_file(tmp_path: Path) -> None:
    problems = [problem for kind in KINDS for problem in generate(kind, 3, 3)]
    write_problems(tmp_path / "p.jsonl", problems)
    assert read_problems(tmp_path / "p.jsonl") == problems
    row = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, '"messages" must be a user'),
        ({"messages": [{"role": "user"}, {}]}, '"messages" must be'),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}, '"messages" must be'),
        ({"messages": [{"role": "user", "content": 3}, {"role": "assistant", "content": "b"}]}, '"prompt" must be str'),
        ({"answer": 5}, '"answer" must be str, not 5'),
        ({"answer": " "}, "a problem needs an answer"),
        ({"level": True}, '"level" must be int'),
        ({"level": 0}, "levels begin with 1"),
        ({"kind": None}, '"kind" must be str'),
    ],
)
def test_a_row_that_is_no_problem_is_named_by_file_and_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    good = to_row(generate("add", 1, 1)[0])
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join([json.dumps(good), "", json.dumps({**good, **change})]))
    with pytest.raises(ValueError, match=r"p\.jsonl:3: ") as caught:
        read_problems(file)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"p\.jsonl:1: broken JSON"),
        ("[1]", r"p\.jsonl:1: must be a JSON object, not list"),
        ('{"text": "a"}', "it needs the fields messages and checker; question and answer; context"),
        ('{"question": "a", "answer": "b"}', "does not end with ####"),
        ('{"question": "", "answer": "#### 1"}', '"question" must be a text'),
        ("[" * 100_000, "broken JSON"),
        ("\n", "has no problems"),
        ("\udcff\udcfe", "broken JSON"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        read_problems(file)
    with pytest.raises(ValueError, match="cannot be read"):
        read_problems(tmp_path / "none.jsonl")


def test_calculator_notes_are_taken_out_of_a_published_solution() -> None:
    row = {"question": "How many?", "answer": "He has 3*4=$<<3*4=12>>12.\nThen 12+1=<<12+1=13>>13.\n#### 13"}
    problem = problem_of(row)
    assert problem.solution == "He has 3*4=$12.\nThen 12+1=13.\n#### 13"
    assert (problem.answer, problem.level) == ("13", 2)
    row = {"context": "Left?", "chain_of_thought": "( ( 8.0 - 7.5 ) * 2.0 )", "answer": "1"}
    assert problem_of(row).solution == "( 8 - 7.5 ) * 2 = 1\nAnswer: 1"


def test_feedback_says_what_failed_and_a_right_answer_needs_none() -> None:
    problem = Problem("Write f(x): x squared", "f(3) == 9", "function", 1, "program", "def f(x):\n    return x * x")
    said = feedback(verify(problem, "def f(x):\n    return x + x"))
    assert said == "That is not right: f(3) is 6 but should be 9. Try again."
    with pytest.raises(ValueError, match="needs no correction"):
        feedback(RIGHT)


def test_feedback_is_short_plain_text_whatever_a_program_said() -> None:
    problem = Problem("Write f(x)", "f(3) == 9", "function", 1, "program", "...")
    loud = "def f(x):\n    raise ValueError('\\x1b[31m' + 'a' * 5000 + '<|eot_id|>')"
    said = feedback(verify(problem, loud))
    assert len(said) <= LONGEST + 4
    assert "\x1b" not in said
    assert str(Path(__file__).parents[1]) not in said


def test_pairs_are_right_over_wrong_and_closest_in_length() -> None:
    answers = [("aa", RIGHT), ("a" * 50, RIGHT), ("bb b", WRONG), ("b" * 49, WRONG), ("b" * 500, WRONG), ("", WRONG)]
    assert pairs(answers) == [("a" * 50, "b" * 49)]
    both = pairs(answers, most=5)
    assert both == [("a" * 50, "b" * 49), ("aa", "bb b")]
    assert pairs(reversed(answers), most=5) == both
    assert mean_gap(both) == -0.5
    assert mean_gap([]) == 0


def test_a_prompt_that_is_all_right_or_all_wrong_gives_no_pair() -> None:
    assert pairs([("a", RIGHT), ("b", RIGHT)]) == pairs([("a", WRONG)]) == pairs([]) == []


def test_equally_close_pairs_are_chosen_by_seed_and_not_by_place() -> None:
    answers = [(f"{n}", RIGHT) for n in range(5)] + [(f"-{n}", WRONG) for n in range(5)]
    chosen = {tuple(pairs(answers, seed=seed)) for seed in range(20)}
    assert len(chosen) > 5
    assert pairs(answers[::-1], seed=3) == pairs(answers, seed=3)


def test_the_command_writes_training_and_held_out_problems_apart(tmp_path: Path) -> None:
    for part in ("training", "held-out"):
        arguments = ["problems", "add", "sorting", "--level", "1", "2", "--count", "20", "--part", part]
        assert dispatch([*arguments, "--out", str(tmp_path / part / "p.jsonl")]) == 0
    training, held = (read_problems(tmp_path / part / "p.jsonl") for part in ("training", "held-out"))
    assert len(training) == len(held) == 3 * 2 * 20
    assert [is_held_out(p.prompt) for p in (*training, *held)] == [False] * 120 + [True] * 120
    assert {p.kind for p in training[:6]} == {"add", "sort-numbers", "sort-words"}


def test_the_command_takes_all_there_are_of_an_exhausted_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.jsonl"
    assert dispatch(["problems", "multiply", "add", "--count", "3000", "--out", str(out)]) == 0
    assert "hardly more than" in capsys.readouterr().err
    kinds = [problem.kind for problem in read_problems(out)]
    assert kinds.count("add") == 3000
    assert 1000 < kinds.count("multiply") < 3000


def test_the_command_checks_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [*generate("add", 1, 4), *generate("function", 1, 2)]
    write_problems(tmp_path / "p.jsonl", problems)
    texts = [problems[0].solution, "Answer: -1", "?", problems[3].answer, problems[4].solution, "def f(x): return"]
    answers = tmp_path / "a.jsonl"
    rows = [{"prompt": p.prompt, "text": text} for p, text in zip(problems, texts, strict=True)]
    answers.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    assert dispatch(["problems", "--check", str(tmp_path / "p.jsonl"), str(answers), "--json"]) == 0
    told = [json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["wrong", "right", "right", "unreadable", "wrong", "right"]
    answers.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert dispatch(["problems", "--check", str(tmp_path / "p.jsonl"), str(answers)]) == 0
    assert "add\t1\t4\t50.0%\t2\t1\t1\t0\t0" in capsys.readouterr().out
    answers.write_text("")
    assert dispatch(["problems", "--check", str(tmp_path / "p.jsonl"), str(answers)]) == 1
    assert "has no answers" in capsys.readouterr().err


def test_the_command_refuses_answers_to_other_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_problems(tmp_path / "p.jsonl", generate("add", 1, 3))
    answers = tmp_path / "a.jsonl"
    for row, message in (
        ({"prompt": "What?", "text": "1"}, "a.jsonl:1: no problem has the prompt 'What?'"),
        ({"text": "1"}, "has 1 answers to 3 problems"),
        ({"prompt": "What?"}, 'a.jsonl:1: an answer needs a field "text"'),
    ):
        answers.write_text(json.dumps(row))
        assert dispatch(["problems", "--check", str(tmp_path / "p.jsonl"), str(answers)]) == 1
        assert message in capsys.readouterr().err
    assert dispatch(["problems", "addition"]) == 1
    assert "kinds are arithmetic" in capsys.readouterr().err
