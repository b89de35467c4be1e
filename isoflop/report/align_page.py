"""The page of the rounds of post-training: what came out, how sure that is, what each step brought, and what it read.

From the directory's own files alone (``summary.json``, the stages' metrics, the answers that were kept); a directory
whose rounds have not ended yet shows those that have.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoflop.files import write_text
from isoflop.report.document import document
from isoflop.report.figures.rounds import accuracies, likelihoods
from isoflop.report.markup import bullets, figure, paragraph, section, table, text
from isoflop.report.numberline import Bar, number_line
from isoflop.report.style import need_matplotlib

Stage = Mapping[str, Any]
SHOWN = 8
"""Problems of the gallery."""


def write_page(folder: Path) -> Path:
    """Write ``report.html`` into the directory of the rounds and return its path.

    Raises ValueError where no round has ended yet, or when matplotlib is not installed.
    """
    need_matplotlib()
    stages = read_stages(folder)
    if not stages:
        raise ValueError(f"{folder} holds no rounds of which one has ended (isoflop align)")
    path = folder / "report.html"
    write_text(path, page(folder, stages))
    return path


def read_stages(folder: Path) -> list[Stage]:
    """What every round chose and found, the start first."""
    files = [folder / "start" / "choice.json", *sorted(folder.glob("round-*/choice.json"), key=round_of)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def round_of(file: Path) -> int:
    """The number of the round that a file belongs to."""
    return int(file.parent.name.removeprefix("round-"))


def page(folder: Path, stages: list[Stage]) -> str:
    """The whole page."""
    name = folder.resolve().name
    planned = int(tomllib.loads((folder / "align.toml").read_text())["rounds"])
    parts = [head(stages, name, planned), by_round(stages), steps(stages), rewards(stages), preference(folder, stages)]
    return document(f"{name}: isoflop align", "\n".join([*parts, gallery(folder, stages)]), "the rounds' own files", 12)


def head(stages: list[Stage], name: str, planned: int) -> str:
    """The verdict in a sentence, and accuracy at the start and at the end on a line."""
    first, last, ended = found(stages[0]), found(stages[-1]), stages[-1]["round"]
    gained = last["value"] - first["value"]
    words = f"{last['value']:.1%} of held-out problems solved after {ended} rounds, {first['value']:.1%} before"
    if ended < planned:
        words = f"Not finished, {ended} of {planned} rounds: " + (
            words if ended else f"{first['value']:.1%} of held-out problems solved before the first"
        )
    bars = [Bar(f"round {s['round']}" if s["round"] else "start", *ends(found(s))) for s in stages]
    sure = "more than both intervals allow for" if last["low"] > first["high"] else "within what both intervals allow"
    gain = f"A gain of {gained:+.1%}, {sure}. " if ended else ""
    chosen = f"Models were chosen on {count(stages, 'development'):,} development problems; these "
    told = f"{gain}{chosen}{count(stages, 'test'):,} had no part in that. Intervals are of 95%."
    eyebrow = f'<p class="eyebrow">isoflop align: {text(name)}</p><h1>{text(words)}</h1>'
    return "\n".join([eyebrow, paragraph(told), number_line(bars, None, "share solved")])


def found(stage: Stage) -> Mapping[str, Any]:
    """The chosen model's result on the test problems."""
    return dict(stage["candidates"][stage["chosen"]]["test"])


def ends(figure: Mapping[str, float]) -> tuple[float, float, float]:
    """A figure's interval with its value in the middle."""
    return figure["low"], figure["value"], figure["high"]


def count(stages: list[Stage], name: str) -> int:
    """Problems of a set."""
    return int(stages[0]["candidates"][stages[0]["chosen"]][name]["count"])


def share(figure: Mapping[str, float]) -> str:
    """A share with its interval."""
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"


def by_round(stages: list[Stage]) -> str:
    """Every candidate of every round, on the problems that chose and on those that did not, and kind by kind."""
    rows, kinds = [], sorted(found(stages[0])["kinds"])
    for stage in stages:
        for name, each in stage["candidates"].items():
            mark = " ←" if name == stage["chosen"] else ""
            own = [f"{each['test']['kinds'][kind]['value']:.1%}" for kind in kinds]
            writing = [f"{each['writing']['tokens']:.1f}", f"{each['writing']['hit the limit']:.1%}"]
            label = f"{stage['round']}: {name}{mark}"
            rows.append([text(label), share(each["development"]), share(each["test"]), *own, *writing])
    header = ("model", "development", "test", *map(text, kinds), "tokens", "cut off")
    caption = "<b>Held-out problems solved</b> by every candidate, with 95% intervals; the line joins those chosen."
    return section("Round by round", figure(caption, accuracies(stages)), table(header, rows))


def steps(stages: list[Stage]) -> str:
    """What each step of a round brought."""
    rows = [
        [
            text(f"{stage['round']}: {line['step']}"),
            text(f"{line['without']} → {line['with']}"),
            f"{line['gain']:+.1%}",
            f"{line['low']:+.1%} to {line['high']:+.1%}",
            f"{line['p']:.3f}" if line["p"] >= 0.001 else "&lt;.001",
        ]
        for stage in stages
        for line in stage["comparisons"]
    ]
    words = (
        "Each line is the same test problems answered with a step and without it. Rejection sampling is held against "
        "fine-tuning on answers to the same prompts drawn at random. An interval with 0 in it shows nothing."
    )
    header = ("round: step", "models", "gain", "95%", "McNemar's p")
    return section("What each step brought", paragraph(words), table(header, rows)) if rows else ""


def rewards(stages: list[Stage]) -> str:
    """How well the reward model orders held-out pairs, and what choosing by it alone comes to."""
    rows = []
    for stage in stages:
        if "reward" not in stage:
            continue
        model, drawn = stage["reward"], stage["reject"]
        pairs = "–"
        if "validation_accuracy_low" in model:
            low, high = model["validation_accuracy_low"], model["validation_accuracy_high"]
            pairs = f"{model['validation_accuracy']:.1%} ({low:.1%} to {high:.1%})"
        shares = (drawn["pass_1"], drawn["best_by_reward"], drawn["pass_k"])
        rows.append([str(stage["round"]), pairs, *(f"{value:.1%}" for value in shares), f"{drawn['best']:,}"])
    words = (
        "The reward model has learnt from preferences alone. Of all answers to a problem, one drawn at random, the one "
        "that it rates highest, and any of them is right so often:"
    )
    header = ("round", "held-out pairs right", "at random", "highest reward", "any", "chosen")
    return section("Best of K against the mean", paragraph(words), table(header, rows)) if rows else ""


def preference(folder: Path, stages: list[Stage]) -> str:
    """Likelihoods of better and worse answers under DPO, and a warning where the better ones fell."""
    histories: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        for file in sorted(folder.glob(f"round-{stage['round']}/dpo-*/metrics.jsonl")):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            histories[f"{stage['round']}: {file.parent.name}"] = [line for line in lines if "chosen_shift" in line]
    histories = {name: lines for name, lines in histories.items() if lines}
    if not histories:
        return ""
    fallen = [
        f"{name}: better answers became {-low:.2f} nats a token less likely than they were at the start of the stage"
        for name, lines in histories.items()
        if (low := min(line["chosen_shift"] for line in lines)) < -0.1
    ]
    notes = (
        f'<div class="notes">{bullets(fallen)}</div>'
        if fallen
        else paragraph("In no stage did better answers become a tenth of a nat a token less likely than at its start.")
    )
    caption = "<b>How much likelier</b> better (solid) and worse answers (dashed) are than at the stage's start."
    return section("What DPO did to likelihoods", notes, figure(caption, likelihoods(histories)))


def gallery(folder: Path, stages: list[Stage]) -> str:
    """Answers of the models chosen round by round to the same problems."""
    columns = []
    for stage in stages:
        place = "start" if not stage["round"] else f"round-{stage['round']}"
        file = folder / place / "evaluation" / f"{stage['chosen']}.json"
        if file.exists():
            columns.append((f"round {stage['round']}", json.loads(file.read_text())["shown"][:SHOWN]))
    if not columns:
        return ""
    rows = [
        [
            f"{text(first['prompt'])}<br><b>{text(first['answer'])}</b>",
            *(f"{'✓' if shown[n]['right'] else '✗'} {text(shown[n]['text'])}" for _, shown in columns),
        ]
        for n, first in enumerate(columns[0][1])
    ]
    header = ("problem", *(text(name) for name, _ in columns))
    return section("What they wrote", table(header, rows, "texts"))
