"""``isoflop align``: the rounds of post-training in one command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from isoflop.posttraining.align import AlignConfig

DESCRIPTION = """Rounds of post-training on problems whose answers can be checked: sample, reward model, rejection
sampling, fine-tuning, DPO, averaging; measured, with intervals, after every step. Stopped anywhere, the same command
goes on.

examples:
  isoflop align --preset tiny --out runs/aligned            everything in minutes, a small base model included
  isoflop align --preset tiny --dry-run > align.toml        its config, to be changed, and what it would do
  isoflop align align.toml --out runs/aligned               a config of your own
  isoflop chat runs/aligned/round-3/average                 talk to what came out
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop align``.

    Attributes:
        config: TOML file; paths in it are relative to the directory of the rounds, or absolute.
        out: Directory of the rounds.
        preset: A config that ships instead: tiny.
        dry_run: Print the config and what would be done, and do nothing.
        json: Print the summary as JSON, in a dry run the config.
    """

    config: tyro.conf.Positional[Path | None] = None
    out: Path = Path("runs/aligned")
    preset: str | None = None
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop align", description=DESCRIPTION)
    config = config_of(a)
    from isoflop.config import require_same, to_dict
    from isoflop.posttraining.align import CONFIG, align
    from isoflop.progress import console

    if a.dry_run:
        require_same(config, a.out / CONFIG)
        print(json.dumps(to_dict(config)) if a.json else planned(config, a.out))
        return
    from isoflop.report.align_page import write_page

    with console() as report:
        summary = align(config, a.out, report)
    page = write_page(a.out)
    if a.json:
        print(json.dumps(summary))
        return
    print(table(summary))
    print(f"model:  {a.out / summary['model']}\nreport: {page}")


def config_of(a: Arguments) -> AlignConfig:
    """The config of the file, the preset, or the directory, which has its own once it has begun."""
    from isoflop import config as configuration
    from isoflop.posttraining.align import CONFIG, AlignConfig
    from isoflop.posttraining.presets import preset

    if a.config is not None and a.preset is not None:
        raise ValueError("give a config file or a preset, not both")
    if a.preset is not None:
        return preset(a.preset)
    file = a.config or a.out / CONFIG
    if a.config is None and not file.exists():
        raise ValueError(f"{a.out} has not begun; give a config file, or --preset tiny")
    return configuration.load(AlignConfig, file)


def planned(config: AlignConfig, out: Path) -> str:
    """The config, and below it as comments what follows from it and what of that is done."""
    from isoflop.cli.tables import aligned
    from isoflop.config import dumps
    from isoflop.posttraining.align import done

    base, variants = config.base, len(config.dpo)
    stages = 2 + variants + config.ablate
    rows = [
        ("problems", ", ".join(f"{pool.kind} {pool.level}" for pool in config.pools)),
        ("base", f"{base.parameters:,.0f} parameters on {base.tokens:,.0f} tokens" if base else config.model),
        ("start", f"fine-tuning on {config.demonstrations:,} worked solutions"),
        (
            "rounds",
            f"{config.rounds}, each with {stages} stages of training and an average of {variants} variants of DPO",
        ),
        (
            "asked",
            f"in a round {config.prompts:,} new problems to prefer by, as many to learn from, {config.k} times each",
        ),
        ("measured", f"{config.development:,} held-out problems to choose by and {config.test:,} to report"),
        ("done", ", ".join(done(out)) or "nothing yet"),
    ]
    return dumps(config) + "\n" + aligned(rows, indent="# ")


def table(summary: dict[str, Any]) -> str:
    """Accuracy by round and candidate, and what every step brought."""
    from isoflop.cli.tables import aligned

    rows = [
        (str(stage["round"]), name + (" ←" if name == stage["chosen"] else ""), spoken(found["test"]))
        for stage in summary["stages"]
        for name, found in stage["candidates"].items()
    ]
    gains = [
        (str(line["round"]), line["step"], f"{line['gain']:+.1%} ({line['low']:+.1%} to {line['high']:+.1%})")
        for line in summary["comparisons"]
    ]
    return f"{aligned([('round', 'model', 'right'), *rows])}\n\n{aligned([('round', 'step', 'gain'), *gains])}"


def spoken(figure: dict[str, Any]) -> str:
    """A share with its interval."""
    return f"{figure['value']:.1%} ({figure['low']:.1%} to {figure['high']:.1%})"
