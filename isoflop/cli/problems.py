"""``isoflop problems``: problems whose answers can be checked, and the check."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.problems.problem import Problem
    from isoflop.problems.verdict import Verdict

DESCRIPTION = """Makes problems with worked solutions whose answers can be checked, to train on, to sample answers to,
to measure with; or checks answers. Training and held-out problems never share a prompt, whenever and with whatever seed
they were made. Without --out some are shown.

examples:
  isoflop problems                                         a look at every kind
  isoflop problems add sorting --level 1 2 --count 500 --part training --out train.jsonl
  isoflop problems add sorting --level 1 2 --count 50 --part held-out --out held-out.jsonl
  isoflop problems --check held-out.jsonl answers.jsonl    rows {"prompt": ..., "text": ...} or samples.jsonl
"""

SHOWN = 3


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop problems``.

    Attributes:
        kinds: Kinds or groups of them: arithmetic, algebra, logic, sorting, strings, programs; all by default.
        level: Difficulties, from 1 to 8.
        count: Problems of each kind and level; 1,000 by default, a few where they are only shown.
        seed: Chooses other problems.
        part: Only those to train on, or only those held out from it.
        share: Share of prompts that are held out; both sides must be made with the same.
        out: File of JSON lines to write them to.
        json: Print them as JSON lines; with --check, a verdict a line.
        check: A file of problems, and a file of answers to them.
        seconds: Time that a program may take when answers are checked.
    """

    kinds: tyro.conf.Positional[tuple[str, ...]] = ()
    level: tuple[int, ...] = (1,)
    count: int | None = None
    seed: int = 0
    part: Literal["all", "training", "held-out"] = "all"
    share: float = 0.1
    out: Path | None = None
    json: bool = False
    check: tuple[Path, Path] | None = None
    seconds: float = 5.0


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop problems", description=DESCRIPTION)
    if a.check is not None:
        check(*a.check, a.seconds, as_json=a.json)
        return
    made = make(a)
    if a.out is not None:
        from isoflop.problems.problem import write_problems

        a.out.parent.mkdir(parents=True, exist_ok=True)
        write_problems(a.out, made)
        print(f"{a.out}: {len(made):,} problems", file=sys.stderr)
    if a.json:
        from isoflop.problems.problem import to_row

        for problem in made:
            print(json.dumps(to_row(problem), ensure_ascii=False))
    elif a.out is None:
        show(made)


def make(a: Arguments) -> list[Problem]:
    """The problems asked for, kinds by turns so that any beginning of the file has all of them."""
    from isoflop.problems.generators import ExhaustedError, generate, kinds_of
    from isoflop.progress import console

    if not 0 < a.share < 1:
        raise ValueError(f"--share must be between 0 and 1, not {a.share}")
    count = a.count if a.count is not None else 1000 if a.out else SHOWN
    if count < 1:
        raise ValueError(f"--count must be at least 1, not {count}")
    families = [(kind, level) for kind in kinds_of(a.kinds) for level in dict.fromkeys(a.level)]
    made = []
    with console() as report:
        for number, (kind, level) in enumerate(families, 1):
            try:
                made.append(generate(kind, level, count, a.seed, a.part, a.share))
            except ExhaustedError as error:
                print(f"isoflop: {error}; these are all taken", file=sys.stderr)
                made.append(error.found)
            report("problems", number, len(families))
    return [problem for row in zip_longest(*made) for problem in row if problem is not None]


def show(problems: list[Problem]) -> None:
    """Print problems with their solutions, by kind and level."""
    from isoflop.cli.tables import show as table

    rows = [(p.kind, str(p.level), p.prompt, p.solution) for p in sorted(problems, key=lambda p: (p.kind, p.level))]
    if sys.stdout.isatty():
        table(("kind", "level", "prompt", "solution"), rows)
    else:
        table((), [tuple(cell.replace("\n", " | ") for cell in row) for row in rows])


def check(problems_file: Path, answers_file: Path, seconds: float, *, as_json: bool) -> None:
    """Verify the answers of a file and print what came of them."""
    from isoflop.problems.datasets import read_problems
    from isoflop.problems.problem import read_rows
    from isoflop.problems.programs import READERS
    from isoflop.problems.sandbox import Limits, weaknesses
    from isoflop.problems.verify import require_checkable, verify_all

    problems = read_problems(problems_file)
    require_checkable(problems)
    rows = [answer for where, row in read_rows(answers_file) for answer in answers_of(where, row)]
    answers = paired(problems, rows, answers_file)
    if any(problem.checker in READERS for problem, _ in answers):
        for weakness in weaknesses():
            print(f"programs are not kept from this on this machine: they can {weakness}", file=sys.stderr)
    verdicts = verify_all(answers, Limits(seconds))
    if as_json:
        for (problem, text), verdict in zip(answers, verdicts, strict=True):
            print(json.dumps({"prompt": problem.prompt, "text": text, **vars(verdict)}, ensure_ascii=False))
    else:
        tell(answers, verdicts)


def answers_of(where: str, row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The answers of a row: itself, or all those that ``isoflop sample`` wrote into one for a prompt."""
    if "samples" not in row:
        return [(where, row)]
    try:
        question = next(message["content"] for message in row["prompt"] if message["role"] == "user")
        return [(where, {"prompt": question, "text": sample["text"]}) for sample in row["samples"]]
    except (KeyError, TypeError, StopIteration):
        raise ValueError(f"{where}: no row of samples as isoflop sample writes them") from None


def paired(problems: list[Problem], rows: list[tuple[str, dict[str, Any]]], file: Path) -> list[tuple[Problem, str]]:
    """Each answer with its problem: by its prompt, or by its line where no row has one."""
    if not rows:
        raise ValueError(f"{file} has no answers")
    for where, row in rows:
        if not isinstance(row.get("text"), str):
            raise ValueError(f'{where}: an answer needs a field "text"')
    if all("prompt" in row for _, row in rows):
        by_prompt = {problem.prompt: problem for problem in problems}
        for where, row in rows:
            if row["prompt"] not in by_prompt:
                raise ValueError(f"{where}: no problem has the prompt {row['prompt']!r:.80}")
        return [(by_prompt[row["prompt"]], row["text"]) for _, row in rows]
    if len(rows) != len(problems):
        raise ValueError(f'{file} has {len(rows)} answers to {len(problems)} problems; give each its "prompt"')
    return [(problem, row["text"]) for problem, (_, row) in zip(problems, rows, strict=True)]


def tell(answers: list[tuple[Problem, str]], verdicts: list[Verdict]) -> None:
    """Print the share of right answers and the counts of the others, by kind and level."""
    from isoflop.cli.tables import show as table
    from isoflop.problems.verdict import STATUSES, counted

    families: dict[tuple[str, int], list[Verdict]] = {}
    for (problem, _), verdict in zip(answers, verdicts, strict=True):
        families.setdefault((problem.kind, problem.level), []).append(verdict)
    rows = []
    for (kind, level), found in sorted(families.items()):
        counts = counted(found)
        share = f"{counts['right'] / len(found):.1%}"
        rows.append((kind, str(level), str(len(found)), share, *(str(counts[status]) for status in STATUSES)))
    head = ("kind", "level", "answers", "share right", *STATUSES)
    table(head, rows if sys.stdout.isatty() else [head, *rows])
