"""``isoflop distil``: ask a run's teacher beforehand, and keep its likeliest tokens beside the run's tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Asks the teacher of a run (its config has [teacher] with run and top_k) about every sequence that the
run will read, and keeps the top_k likeliest tokens of each position beside the tokens. Any run with the same tokens,
teacher, top_k, temperature, context and packing then learns from them, whatever its seed or shape. What was asked
before is not asked again; the same command goes on after a stop.

examples:
  isoflop distil runs/student --config student.toml
  isoflop train runs/student --config student.toml
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop distil``.

    Attributes:
        run: Directory of the student's run, to which the paths in its config are relative.
        config: The student's TOML file; by default the run's own.
        json: Print what was done as JSON.
    """

    run: tyro.conf.Positional[Path]
    config: Path | None = None
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop distil", description=DESCRIPTION)
    from isoflop import config as configuration
    from isoflop.progress import console
    from isoflop.training.config import TrainConfig
    from isoflop.training.lessons import ask

    config = configuration.load(TrainConfig, a.config or a.run / "config.toml")
    with console() as report:
        done = ask(config, a.run, report)
    if a.json:
        print(json.dumps(done))
    else:
        print(f"{done['sequences']:,} sequences asked about; the run's lessons are {done['bytes'] / 1e6:,.1f} MB")
