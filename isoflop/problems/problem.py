"""A problem whose answer can be checked, its files, and the split that keeps held-out problems out of training.

A file has one JSON object a line: ``messages`` as OpenAI writes them, so that fine-tuning reads it as it is, and beside
them ``answer``, ``checker``, ``kind`` and ``level``, from which an answer to the same prompt is checked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.keys import derive_key

HELD_OUT_SHARE = 0.1
CONTROL = {chr(code) for code in (*range(32), 127)} - {"\n", "\t"}


@dataclass(frozen=True)
class Problem:
    """What is asked, what is right, and who says so.

    Attributes:
        prompt: What a user asks.
        answer: The reference that ``checker`` compares with; of a program, tests such as ``f(2) == 5``, one a line.
        kind: The family it is of.
        level: Its difficulty, from 1.
        checker: Name of the verifier, one of ``isoflop.problems.verify.CHECKERS``.
        solution: A worked answer that ends with the answer, to learn from.
    """

    prompt: str
    answer: str
    kind: str
    level: int
    checker: str
    solution: str

    def __post_init__(self) -> None:
        """Refuse what cannot be asked or checked."""
        if not self.prompt.strip():
            raise ValueError("a problem needs a prompt")
        if not self.answer.strip():
            raise ValueError("a problem needs an answer")
        if self.level < 1:
            raise ValueError(f"levels begin with 1, not {self.level}")


def is_held_out(prompt: str, share: float = HELD_OUT_SHARE) -> bool:
    """Whether a prompt belongs to the held-out side: a property of it, so that neither side need know the other.

    White space and case are looked past, because prompts that differ in nothing else are the same question.
    """
    return derive_key(0, "held-out problem", " ".join(prompt.lower().split())) < share * 2**64


def split(problems: Iterable[Problem], share: float = HELD_OUT_SHARE) -> tuple[list[Problem], list[Problem]]:
    """Training and held-out problems, each in their order; about ``share`` of them are held out."""
    sides: tuple[list[Problem], list[Problem]] = ([], [])
    for problem in problems:
        sides[is_held_out(problem.prompt, share)].append(problem)
    return sides


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write problems as JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(to_row(problem), ensure_ascii=False) + "\n" for problem in problems))


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file, each with where it stands (``file:line``); empty lines are passed over.

    Raises ValueError, with file and line, for what is not one.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: broken JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: must be a JSON object, not {type(row).__name__}")
        rows.append((where, row))
    return rows


def to_row(problem: Problem) -> dict[str, Any]:
    """The JSON object of a problem."""
    said = (("user", problem.prompt), ("assistant", problem.solution))
    return {
        "messages": [{"role": role, "content": content} for role, content in said],
        "answer": problem.answer,
        "checker": problem.checker,
        "kind": problem.kind,
        "level": problem.level,
    }


def from_row(row: dict[str, Any], where: str = "row") -> Problem:
    """The problem of a JSON object; a ValueError that begins with ``where`` says what is wrong with it."""
    values: dict[str, Any] = {key: row[key] for key in ("answer", "checker", "kind", "level") if key in row}
    try:
        (asker, values["prompt"]), (solver, values["solution"]) = (
            (message["role"], message["content"]) for message in row["messages"]
        )
    except (KeyError, TypeError, ValueError):
        asker, solver = None, None
    if (asker, solver) != ("user", "assistant"):
        raise ValueError(
            f"{where}: \"messages\" must be a user's prompt and an assistant's solution, role and content each"
        )
    require(values, where)
    try:
        return Problem(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def require(values: dict[str, Any], where: str) -> None:
    """Raise ValueError if a field of a problem is not there or of another type."""
    for field in dataclasses.fields(Problem):
        kind = int if field.name == "level" else str
        if field.name not in values:
            raise ValueError(f'{where}: no field "{field.name}"')
        if type(values[field.name]) is not kind:
            raise ValueError(f'{where}: "{field.name}" must be {kind.__name__}, not {values[field.name]!r:.80}')


def bounded(text: str, most: int) -> str:
    """Plain text of at most ``most`` characters and a few dots: control characters are left out."""
    kept = "".join(character for character in text if character not in CONTROL)
    return kept if len(kept) <= most else kept[:most].rstrip() + " ..."
