"""``isoflop sft``: fine-tune a model on conversations."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Fine-tunes a model on what assistants say in conversations, and writes it into a directory that every
command takes as a model. The same command goes on after a stop.

examples:
  isoflop sft --model runs/mine --data chats.jsonl --out stages/sft --rate 3e-4 --epochs 2
  isoflop sft --config sft.toml --out stages/sft
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop sft``.

    Attributes:
        out: Directory of the stage.
        config: TOML file with the stage's config; a stage that has begun keeps its own.
        model: What it begins with: a run, a stage, an imported model, a Hugging Face folder.
        data: Files of conversations.
        epochs: How often every conversation is learnt from.
        batch: Conversations in a step.
        rate: The highest learning rate.
        json: Print the summary as JSON.
    """

    out: Path
    config: Path | None = None
    model: Path | None = None
    data: tuple[Path, ...] = ()
    epochs: float | None = None
    batch: int | None = None
    rate: float | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop sft", description=DESCRIPTION)
    from isoflop import config as configuration
    from isoflop.posttraining.settings import SFTConfig
    from isoflop.posttraining.sft import sft
    from isoflop.progress import console

    if a.config or (a.out / "stage.toml").exists():
        config = configuration.load(SFTConfig, a.config or a.out / "stage.toml")
    else:
        if a.model is None or not a.data:
            raise ValueError("give --model and --data, or --config with both")
        given = {"epochs": a.epochs, "batch": a.batch, "rate": a.rate}
        chosen = {name: value for name, value in given.items() if value is not None}
        data = tuple(os.path.relpath(file, a.out) for file in a.data)
        config = SFTConfig(model=os.path.relpath(a.model, a.out), data=data, **chosen)
    with console() as report:
        summary = sft(config, a.out, report)
    if a.json:
        print(json.dumps(summary))
    else:
        measured = f"{summary['validation_loss']:.4f} nats a token held out, " if "validation_loss" in summary else ""
        print(f"{measured}after {summary['steps']:,} steps in {summary['seconds']:.0f} s: {a.out}")
