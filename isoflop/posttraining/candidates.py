"""Models of a round beside each other: how many problems each solves, and what each step of the round brought."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isoflop.evaluation.exact_match import Answering, answer
from isoflop.evaluation.intervals import Figure, difference, share
from isoflop.files import write_json
from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.load import load_model
from isoflop.posttraining.chat import Chat
from isoflop.posttraining.conversation import Message
from isoflop.problems.problem import Problem
from isoflop.problems.verify import verify
from isoflop.progress import Report, silent

SHOWN = 12
"""Answers that are kept to be looked at: to the last problems of the last set."""


@dataclass(frozen=True)
class Candidate:
    """What a model answered: by set of problems whether each was solved and its kind, figures of how it writes, and
    some answers to look at."""

    outcomes: dict[str, list[bool]]
    kinds: dict[str, list[str]]
    writing: dict[str, float]
    shown: list[dict[str, Any]]

    def accuracy(self, name: str) -> float:
        """The share of a set's problems that it solved."""
        return sum(self.outcomes[name]) / len(self.outcomes[name])

    def figure(self, name: str) -> Figure:
        """The same with its 95% interval."""
        return share(self.outcomes[name])

    def by_kind(self, name: str) -> dict[str, Figure]:
        """The same kind by kind."""
        groups: dict[str, list[bool]] = defaultdict(list)
        for kind, right in zip(self.kinds[name], self.outcomes[name], strict=True):
            groups[kind].append(right)
        return {kind: share(outcomes) for kind, outcomes in sorted(groups.items())}

    def to_json(self) -> dict[str, Any]:
        """Figures without single outcomes."""
        return {
            name: vars(self.figure(name)) | {"kinds": {k: vars(f) for k, f in self.by_kind(name).items()}}
            for name in self.outcomes
        } | {"writing": self.writing}


def judge(
    model: Path, problems: Mapping[str, Sequence[Problem]], max_tokens: int, file: Path, report: Report = silent
) -> Candidate:
    """Let the model at a path answer all problems greedily; what is found is kept in ``file``, for the next time."""
    if not file.exists():
        llama, tokenizer = load_model(model)
        chat, engine = Chat(tokenizer), Engine(Decoder(llama), tokenizer)
        how = Answering(max_tokens=max_tokens, stop_ids=chat.stop_ids)
        flat = [problem for own in problems.values() for problem in own]
        prompts = [tuple(chat.prompt((Message("user", problem.prompt),))) for problem in flat]
        found = answer(engine, prompts, lambda number, text: verify(flat[number], text).right, how, report)
        right = iter(own == [True] for own in found.right)
        outcomes = {name: [next(right) for _ in own] for name, own in problems.items()}
        kinds = {name: [problem.kind for problem in own] for name, own in problems.items()}
        figures = found.result.figures
        writing = {name: figures[name].value for name in ("tokens", "hit the limit", "looping")}
        file.parent.mkdir(parents=True, exist_ok=True)
        shown = [
            {"prompt": problem.prompt, "answer": problem.answer, "text": own[0].text, "right": right == [True]}
            for problem, own, right in list(zip(flat, found.completions, found.right, strict=True))[-SHOWN:]
        ]
        write_json(file, {"outcomes": outcomes, "kinds": kinds, "writing": writing, "shown": shown})
    return Candidate(**json.loads(file.read_text()))


STEPS = (
    ("rejection sampling", "sft-random", "sft"),
    ("DPO", "sft", "dpo-1"),
    ("averaging", "dpo-1", "average"),
)
"""What each step of a round brought: with it against without it."""


def compare(found: Mapping[str, Candidate], chosen: str) -> list[dict[str, Any]]:
    """The differences on the test problems that a round's steps made, with intervals and McNemar's p."""
    wanted = [*STEPS, ("the round", "before", chosen)]
    return [
        {"step": step, "without": without, "with": having} | gain(found[without], found[having])
        for step, without, having in wanted
        if without in found and having in found and without != having
    ]


def gain(without: Candidate, having: Candidate) -> dict[str, Any]:
    """How much more of the test problems the second solves."""
    found = difference([float(x) for x in without.outcomes["test"]], [float(x) for x in having.outcomes["test"]])
    return {"gain": found.figure.value, "low": found.figure.low, "high": found.figure.high, "p": found.p}
