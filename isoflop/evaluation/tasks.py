"""Tasks by name, or by a file: where their rows are, of what form, and how a model is put to them.

A task is a line of ``TASKS``; its files are looked for anywhere below the folder of data. A file of one's own says by
the keys of its first row what it is (``KINDS``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isoflop.evaluation.continuation import complete, continuation_of
from isoflop.evaluation.exact_match import Answering, answer
from isoflop.evaluation.likelihood import Scorer
from isoflop.evaluation.multiple_choice import choose, item_of
from isoflop.evaluation.olmes import gathered, request_of
from isoflop.evaluation.perplexity import predict
from isoflop.evaluation.pieces import Ids
from isoflop.evaluation.questions import Posed, Question, few_shot, question_of
from isoflop.evaluation.result import Result
from isoflop.evaluation.rows import Row, lines_of, object_of, read_rows, some, text_of
from isoflop.inference.engine import Engine
from isoflop.problems.problem import from_row
from isoflop.progress import Report, silent


@dataclass(frozen=True)
class Setting:
    """What is the same for all models.

    Attributes:
        answering: how answers to questions are written.
        shots: worked examples before a question.
        chat: makes the ids of a prompt out of what a user asks, for models that answer; they are shown no examples.
        stride: of windows over long texts; 0 for half of the model's context.
    """

    answering: Answering = field(default_factory=lambda: Answering(stop_texts=("\n\n", "Question:")))
    shots: int = 4
    chat: Callable[[str], Ids] | None = None
    stride: int = 0


Run = Callable[[Scorer, Sequence[Any], Setting, Report], Result]


def run_questions(scorer: Scorer, questions: Sequence[Question | Posed], setting: Setting, report: Report) -> Result:
    """Ask questions, the first ones being examples for the others."""
    shots = 0 if setting.chat else setting.shots
    examples, asked = questions[:shots], questions[shots:]
    if not asked:
        raise ValueError(f"{len(questions):,} questions leave none to ask after {shots:,} examples")
    if setting.chat is not None:
        prompts = [setting.chat(question.prompt) for question in asked]
    else:
        encode, bos = scorer.tokenizer.encode, scorer.tokenizer.bos
        prompts = [(bos, *encode(few_shot(question, examples))) for question in asked]
    engine = Engine(scorer.decoder, scorer.tokenizer)
    found = answer(engine, prompts, lambda number, text: asked[number].check(text), setting.answering, report)
    if found.too_long == len(asked):
        raise ValueError(
            f"none of {len(asked):,} questions leaves room for an answer in a context of {engine.context:,} tokens "
            f"with {shots:,} examples before it; show fewer (--shots), or ask as in a conversation (--chat)"
        )
    return found.result


@dataclass(frozen=True)
class Kind:
    """A form of rows: the keys that tell it, what a row becomes, and how a model is put to all of them."""

    keys: frozenset[str]
    parse: Callable[[Row, str], Any]
    run: Run
    gather: Callable[[list[Any]], list[Any]] = list


KINDS = {
    "requests": Kind(frozenset({"request", "doc"}), request_of, lambda s, i, _, r: choose(s, i, r), gathered),
    "pairs": Kind(frozenset({"sentence_good"}), item_of, lambda s, i, _, r: choose(s, i, r)),
    "schemas": Kind(frozenset({"context_options"}), item_of, lambda s, i, _, r: choose(s, i, r)),
    "choices": Kind(frozenset({"query", "choices"}), item_of, lambda s, i, _, r: choose(s, i, r)),
    "continuations": Kind(
        frozenset({"context", "continuation"}), continuation_of, lambda s, i, _, r: complete(s, i, r)
    ),
    "gsm8k": Kind(frozenset({"question", "answer"}), lambda row, _: question_of(row), run_questions),
    "questions": Kind(frozenset({"context", "answer"}), lambda row, _: question_of(row), run_questions),
    "problems": Kind(frozenset({"messages", "checker"}), lambda row, _: Posed(from_row(row)), run_questions),
    "texts": Kind(
        frozenset({"text"}),
        lambda row, _: text_of(row, "text"),
        lambda s, i, setting, r: predict(s, i, stride=setting.stride or None, report=r),
    ),
}


@dataclass(frozen=True)
class Task:
    """Where a task's rows are, of what kind they are, and what stands between a query and its answer."""

    files: str
    kind: str
    delimiter: str = ""


ANSWER = "\nAnswer:"
TASKS = {
    "arc_easy": Task("arc_easy.jsonl", "choices", ANSWER),
    "arc_challenge": Task("arc_challenge.jsonl", "choices", ANSWER),
    "arithmetic": Task("simple_arithmetic_withspaces.jsonl", "continuations"),
    "arithmetic_nospaces": Task("simple_arithmetic_nospaces.jsonl", "continuations"),
    "blimp": Task("blimp/data/*.jsonl", "pairs"),
    "boolq": Task("boolq.jsonl", "choices", ANSWER),
    "copa": Task("copa.jsonl", "choices"),
    "gsm8k": Task("grade_school_math/data/test.jsonl", "gsm8k"),
    "hellaswag_5shot": Task("hellaswag-5shot/requests.jsonl.gz", "requests"),
    "lambada": Task("lambada_openai.jsonl", "continuations", " "),
    "openbook_qa": Task("openbook_qa.jsonl", "choices"),
    "piqa": Task("piqa.jsonl", "choices", ANSWER),
    "svamp": Task("svamp.jsonl", "questions"),
    "winograd": Task("winograd_wsc.jsonl", "schemas"),
    "winogrande": Task("winogrande.jsonl", "schemas"),
}


@dataclass(frozen=True)
class Loaded:
    """A task's items, ready for any model, and the rows that could not be used."""

    name: str
    kind: Kind
    items: list[Any]
    bad: list[str]

    def run(self, scorer: Scorer, setting: Setting, report: Report = silent) -> Result:
        """Put a model to it."""
        result = self.kind.run(scorer, self.items, setting, report)
        return result if not self.bad else result.counting("rows skipped", len(self.bad))


def load(name: str, data: Path, limit: int | None = None) -> Loaded:
    """The task of this name, its files below ``data``, or of this path to a .jsonl(.gz) or text file.

    Raises ValueError where there is none, or its files are not there or not of that form.
    """
    if name in TASKS:
        task = TASKS[name]
        if not (paths := sorted(data.rglob(task.files))):
            raise ValueError(f"the task {name} needs {task.files}, and nothing below {data} is called that; see --data")
        kind = KINDS[task.kind]
        found, bad = read_rows(paths, lambda row: kind.parse(row, task.delimiter))
    elif Path(name).is_file() and not name.removesuffix(".gz").endswith((".jsonl", ".json")):
        kind, found, bad = KINDS["texts"], ["\n".join(lines_of(Path(name)))], []
    elif Path(name).is_file():
        kind = kind_of(Path(name))
        found, bad = read_rows([Path(name)], lambda row: kind.parse(row, ""))
    else:
        near = difflib.get_close_matches(name, TASKS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; tasks are {', '.join(TASKS)}"
        raise ValueError(f"there is no task and no file {name!r}{hint}")
    return Loaded(name, kind, some(kind.gather(found), limit), bad)


def kind_of(path: Path) -> Kind:
    """What the first usable row of a file says it is."""
    for line in lines_of(path):
        try:
            row = object_of(line)
        except ValueError:
            continue
        for kind in KINDS.values():
            if kind.keys <= row.keys():
                return kind
        forms = "; ".join(", ".join(sorted(kind.keys)) for kind in KINDS.values())
        raise ValueError(f"{path} has rows with {', '.join(row)}, which is no form known here ({forms})")
    raise ValueError(f"{path} has no row that is a JSON object")
