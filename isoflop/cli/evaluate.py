"""``isoflop evaluate``: several models side by side on the same tasks, every figure with an interval."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from isoflop.cli.tables import plain, show
from isoflop.files import write_json
from isoflop.progress import console, labelled

if TYPE_CHECKING:
    import torch

    from isoflop.evaluation.intervals import Figure
    from isoflop.evaluation.likelihood import Scorer
    from isoflop.evaluation.result import Result
    from isoflop.evaluation.tasks import Loaded, Setting
    from isoflop.posttraining.contest import Contest

DESCRIPTION = """Puts models to tasks: multiple choice, minimal pairs, last words, questions whose answers are checked,
and texts to predict. Intervals are 95%; a difference is to the first model, on the same items.

A task is one of those that --list names, whose files are looked for below --data, or a file: .jsonl of one of their
forms (told by its keys), or any other text, which is predicted in bits per byte.

examples:
  isoflop evaluate runs/mine --tasks blimp,lambada --data data/evaluation --limit 2000
  isoflop evaluate base aligned --tasks gsm8k,svamp --chat --samples 4 --temperature 0.7
  isoflop evaluate runs/a runs/b --tasks held_out.txt,my_questions.jsonl --json
  isoflop evaluate stages/sft stages/dpo --prompts prompts.jsonl --reward stages/reward       who wins, says a judge
"""
EVERYDAY = "arc_easy,piqa,copa,lambada,winograd"


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop evaluate``.

    Attributes:
        models: Runs, checkpoints, aligned or imported models, Hugging Face folders or .gguf files.
        tasks: Names of tasks and paths of files, with commas between them; without prompts a few everyday ones.
        data: Folder with the tasks' files, anywhere below it.
        limit: Items of each task, and prompts, at most, the same ones for every model; all of them if not given.
        chat: Ask every model questions as a user would in a conversation; by default only one that has a chat template
            beside it, and others in plain text with examples.
        plain: Ask every model in plain text with examples.
        prompts: Files of prompts, in any format of conversations, to each of which every model gives one answer that a
            reward model judges: its mean reward, and how often each model beats the first.
        reward: That reward model's directory.
        shots: Worked examples before a question in plain text.
        samples: Answers to a question; several are drawn, and pass@k is given.
        temperature: Of answers; one answer is greedy unless this says otherwise.
        max_tokens: Tokens of an answer at most.
        seed: Draws other answers.
        stride: Tokens between windows over long texts; half of the model's context if not given.
        averaged: Use the averaged weights of runs instead of the last.
        device: Where models run; auto is a GPU where there is one.
        precision: Of products; scores of others are in fp32.
        json: Print one JSON object.
        out: Write it to a file too, after every task, so that nothing is lost.
        list: Name the tasks and end.
        dry_run: Count the items of each task and end.
    """

    models: tyro.conf.Positional[tuple[Path, ...]] = ()
    tasks: str | None = None
    data: Path = Path("data")
    limit: int | None = None
    chat: bool = False
    plain: bool = False
    prompts: tuple[Path, ...] = ()
    reward: Path | None = None
    shots: int = 4
    samples: int = 1
    temperature: float | None = None
    max_tokens: int = 256
    seed: int = 0
    stride: int = 0
    averaged: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    json: bool = False
    out: Path | None = None
    list: bool = False
    dry_run: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop evaluate", description=DESCRIPTION)
    if a.samples < 1 or a.shots < 0:
        raise ValueError(f"answers are at least one and examples at least none, not {a.samples} and {a.shots}")
    if a.chat and a.plain:
        raise ValueError("questions are asked as in a conversation (--chat) or in plain text (--plain), not both")
    if bool(a.prompts) != bool(a.reward):
        raise ValueError("answers to --prompts need a --reward model that judges them, and it needs prompts")
    from isoflop.evaluation.tasks import TASKS, load

    if a.list:
        show(("task", "form", "files"), [(name, task.kind, task.files) for name, task in TASKS.items()])
        return
    if not (a.models or a.dry_run):
        raise ValueError("name at least one model, such as a run's directory")
    wanted = a.tasks if a.tasks is not None else "" if a.prompts else EVERYDAY
    if repeated := {str(path) for path in a.models if a.models.count(path) > 1}:
        raise ValueError(f"{min(repeated)} is named twice; a model is compared with others")
    loaded = [load(name, a.data, a.limit) for name in dict.fromkeys(filter(None, wanted.split(",")))]
    for task in loaded:
        for sentence in task.bad[:3]:
            print(f"skipped: {sentence}")
    if a.dry_run:
        show(("task", "items"), [(task.name, f"{len(task.items):,}") for task in loaded] + asked(a))
        return
    results = evaluate(a, loaded)
    if a.json:
        print(json.dumps(as_json(results)))
    else:
        show_results(results)


Results = dict[str, dict[str, "Result"]]
"""Of every model, by task."""


def evaluate(a: Arguments, loaded: list[Loaded]) -> Results:
    """Put every model to every task; what is done is written as it comes."""
    from isoflop.evaluation.likelihood import Scorer
    from isoflop.tokens.chat_template import answers
    from isoflop.training.hardware import device_for, precision_for

    device = device_for(a.device)
    contest, judged = open_contest(a, device), {}
    results: Results = {}
    with console() as report:
        for path in a.models:
            scorer = Scorer.open(path, averaged=a.averaged, device=device, dtype=precision_for(a.precision, device))
            setting = setting_of(a, scorer, a.chat or (not a.plain and answers(path)))
            own = results.setdefault(str(path), {})
            for task in loaded:
                own[task.name] = task.run(scorer, setting, labelled(report, f"{path.name} {task.name}"))
                keep(a.out, results)
            if contest is not None:
                how = setting_of(replace(a, samples=1), scorer, True).answering
                judged[str(path)] = contest.judged(scorer, how, labelled(report, f"{path.name} answers"))
    if judged:
        from isoflop.posttraining.contest import results as compared

        for model, result in compared(judged).items():
            results[model]["prompts"] = result
        keep(a.out, results)
    return results


def asked(a: Arguments) -> list[tuple[str, str]]:
    """How many prompts there are, as a line beside the tasks."""
    if not a.prompts:
        return []
    from isoflop.posttraining.contest import prompts_of

    return [("prompts", f"{len(prompts_of(a.prompts, a.limit)[0]):,}")]


def open_contest(a: Arguments, device: torch.device) -> Contest | None:
    """The prompts and their judge, where they are given."""
    if a.reward is None:
        return None
    from isoflop.posttraining.contest import Contest

    contest = Contest.open(a.reward, a.prompts, a.limit, device)
    if contest.tally.rows > contest.tally.kept:
        print(f"prompts: {contest.tally}", file=sys.stderr)
    return contest


def keep(file: Path | None, results: Results) -> None:
    """Write what is done so far."""
    if file is not None:
        write_json(file, as_json(results))


def setting_of(a: Arguments, scorer: Scorer, as_chat: bool) -> Setting:
    """How questions are asked of this model."""
    from isoflop.evaluation.exact_match import Answering
    from isoflop.evaluation.tasks import Setting
    from isoflop.inference.sampling import Sampling
    from isoflop.posttraining.chat import Chat
    from isoflop.posttraining.conversation import Message

    chosen = a.temperature if a.temperature is not None else 0.0 if a.samples == 1 else 0.8
    eos = scorer.tokenizer.eos
    if not as_chat:
        how = Answering(a.samples, a.max_tokens, Sampling(chosen), (eos,), ("\n\n", "Question:"), a.seed)
        return Setting(how, a.shots, stride=a.stride)
    chat = Chat(scorer.tokenizer)
    how = Answering(a.samples, a.max_tokens, Sampling(chosen), tuple(chat.stop_ids), (), a.seed)
    return Setting(how, 0, lambda text: tuple(chat.prompt((Message("user", text),))), a.stride)


def as_json(results: Results) -> Any:
    """All results as plain values, with differences to the first model."""
    first = next(iter(results.values()))
    found = {
        model: {
            name: result.to_json() | ({} if own is first else {"difference": difference(result, first[name])})
            for name, result in own.items()
        }
        for model, own in results.items()
    }
    return plain(found)


def difference(result: Result, first: Result) -> dict[str, Any]:
    """A model's difference to the first as plain values."""
    found = result.better_than(first)
    return vars(found.figure) | {"p": found.p}


def show_results(results: Results) -> None:
    """Print a row for every task, model and figure."""
    first = next(iter(results.values()))
    rows = []
    for task in first:
        for model, own in results.items():
            result = own[task]
            for name, figure in (result.figures | {f"  {g}": f for g, f in result.groups.items()}).items():
                against = said_difference(result, first[task]) if name == result.primary and own is not first else ""
                rows.append((task, model, name, said(name, figure), f"{figure.count:,}", against))
            told = ", ".join(f"{count:,} {what}" for what, count in result.counts.items() if count)
            if told:
                rows.append((task, model, "", told, "", ""))
    show(("task", "model", "figure", "value [95%]", "items", "to the first"), rows)


SHARES = ("accuracy", "win rate", "pass@", "hit", "repeated", "looping", "  ")
"""How the names of shares begin, which are shown in percent."""


def said(name: str, figure: Figure) -> str:
    """A figure with its interval."""
    if name.startswith(SHARES):
        return f"{figure.value:.1%} [{figure.low:.1%}, {figure.high:.1%}]"
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"


def said_difference(result: Result, first: Result) -> str:
    """A difference with its interval and, of shares, its p-value."""
    found = result.better_than(first)
    figure = found.figure
    if result.primary.startswith(SHARES):
        words = f"{100 * figure.value:+.1f} [{100 * figure.low:+.1f}, {100 * figure.high:+.1f}] points"
    else:
        words = f"{figure.value:+.4g} [{figure.low:+.4g}, {figure.high:+.4g}]"
    return words if found.p is None else f"{words}, p = {found.p:.2g}"
