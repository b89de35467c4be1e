"""``isoflop reward``: train a reward model on preferences."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

DESCRIPTION = """Trains a model to score answers as people prefer them: on pairs, or rankings of more, best first. It is
measured on rankings kept back. The directory is then a reward model for isoflop sample, and isoflop export writes it as
a LlamaForSequenceClassification. The same command goes on after a stop.

examples:
  isoflop reward --model runs/mine --data preferences.jsonl --out stages/reward --rate 1e-4
  isoflop reward --config reward.toml --out stages/reward
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop reward``.

    Attributes:
        out: Directory of the stage.
        config: TOML file with the stage's config; a stage that has begun keeps its own.
        model: What it begins with: a pre-trained run, a stage, an imported model, a Hugging Face folder.
        data: Files of preferences or rankings, in any format.
        epochs: How often every ranking is learnt from.
        batch: Rankings in a step.
        rate: The highest learning rate.
        validation: Share of rankings that are kept back and measured on.
        centring: Weight of what keeps rewards near zero; 0 for nothing.
        seed: Chooses order and beginning.
        json: Print the summary as JSON.
    """

    out: Path
    config: Path | None = None
    model: Path | None = None
    data: tuple[Path, ...] = ()
    epochs: float | None = None
    batch: int | None = None
    rate: float | None = None
    validation: float | None = None
    centring: float | None = None
    seed: int | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop reward", description=DESCRIPTION)
    from isoflop import config as configuration
    from isoflop.posttraining.reward import RewardConfig, train_reward
    from isoflop.progress import console

    if a.config or (a.out / "stage.toml").exists():
        config = configuration.load(RewardConfig, a.config or a.out / "stage.toml")
    else:
        if a.model is None or not a.data:
            raise ValueError("give --model and --data, or --config with both")
        names = ("epochs", "batch", "rate", "validation", "centring", "seed")
        chosen: dict[str, Any] = {name: value for name in names if (value := getattr(a, name)) is not None}
        data = tuple(os.path.relpath(file, a.out) for file in a.data)
        config = RewardConfig(model=os.path.relpath(a.model, a.out), data=data, **chosen)
    with console() as report:
        summary = train_reward(config, a.out, report)
    print(json.dumps(summary) if a.json else told(summary, a.out))


def told(summary: dict[str, Any], out: Path) -> str:
    """The summary in words."""
    found = [f"after {summary['steps']:,} steps in {summary['seconds']:.0f} s: {out}"]
    shown = {
        "validation_accuracy": "pairs in the right order",
        "validation_accuracy_shorter": "where the better answer is the shorter",
        "validation_accuracy_longer": "where it is the longer",
    }
    for name, words in shown.items():
        if name in summary:
            ends = f"{summary[f'{name}_low']:.1%} to {summary[f'{name}_high']:.1%}"
            found.append(f"{words}: {summary[name]:.1%} ({ends}) of {summary[f'{name}_pairs']:.0f}")
    if summary["dropped"]:
        found.append(f"left out, longer than the context: {summary['dropped']:,}")
    return "\n".join(found)
