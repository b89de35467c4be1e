"""``isoflop train``: one run from a config file, or go on with it."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from isoflop.training.config import TrainConfig

DESCRIPTION = """Trains the run of a directory from its config.toml, or from the config file given, and resumes it when
called again.

examples:
  isoflop train runs/mine --config mine.toml     start a run
  isoflop train runs/mine                        go on with it
  isoflop train runs/mine --dry-run              print the config and what follows from it
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop train``.

    Attributes:
        run: Directory of the run.
        config: TOML file to start from; a run that has begun keeps its own.
        ranks: Processes of one thread that share every batch on a CPU; by default one a processor.
        threads: Train in one process with so many threads instead.
        accept_changed_data: Go on although the prepared tokens are not those that the run began with, and record that.
        dry_run: Print the resolved config and what follows from it, and do nothing.
        json: Print the summary as JSON.
    """

    run: tyro.conf.Positional[Path]
    config: Path | None = None
    ranks: int | None = None
    threads: int | None = None
    accept_changed_data: bool = False
    dry_run: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop train", description=DESCRIPTION)
    from isoflop import config as configuration
    from isoflop.training.config import TrainConfig

    config = configuration.load(TrainConfig, a.config or a.run / "config.toml")
    if a.dry_run:
        print(configuration.dumps(config))
        print(describe(config))
        if config.mixture is not None:
            print(describe_mixture(config, a.run))
        return
    import torch

    from isoflop.progress import console
    from isoflop.training.launch import train_here

    if a.threads:
        torch.set_num_threads(a.threads)
    with console() as report:
        ranks = 1 if a.threads else a.ranks
        summary = train_here(config, a.run, report, ranks, accept_changed_data=a.accept_changed_data)
    if int(os.environ.get("RANK", "0")):
        return  # torchrun's first process speaks for all
    if a.json:
        print(json.dumps(summary))
    else:
        print(
            f"validation loss {summary['validation_loss']:.4f} nats/token, {summary['validation_bpb']:.4f} bits/byte "
            f"after {summary['tokens']:,} tokens in {summary['seconds']:.0f} s: {a.run}"
        )


def describe(config: TrainConfig) -> str:
    """What follows from a config: parameters, FLOPs, steps, bytes of a checkpoint, and its stages if it has several."""
    from isoflop.cli.tables import aligned
    from isoflop.planning.shape import human

    shape, tokens = config.shape, config.schedule.tokens
    steps = sum(1 for _ in config.batch.steps(tokens))
    lines = [
        f"parameters  {human(shape.total)} in all, {human(shape.matmul)} in products, {human(shape.body)} without head",
        f"compute     {config.flops:.3g} FLOPs as 6ND, {config.flops_exact(0, tokens):.3g} exactly",
        f"steps       {steps:,} for {tokens:,} tokens, {tokens / shape.matmul:.1f} tokens per parameter",
        f"checkpoint  {12 * shape.total / 1e6:.1f} MB (weights and optimiser in fp32)",
        f"disk free   {shutil.disk_usage('.').free / 1e9:.1f} GB",
    ]
    if len(config.contexts.stages(0, tokens)) > 1:
        head = ("from token", "to token", "context", "batch", "rate from", "rate to")
        lines += ["stages", *aligned([head, *stages(config)]).splitlines()]
    return "\n".join("# " + line for line in lines)


def describe_mixture(config: TrainConfig, run: Path) -> str:
    """The ledger of a run on several sources, whose folders are relative to the run's."""
    from isoflop.cli.ledger import text
    from isoflop.tokens.blended import open_sources
    from isoflop.tokens.ledger import Ledger

    ledger = Ledger.of(config.blends, open_sources(config.sources, run))
    return "\n".join("# " + line for line in text(ledger, config.schedule.tokens).splitlines())


def stages(config: TrainConfig) -> list[tuple[str, ...]]:
    """The stretches of a run between the tokens at which anything begins to change, one row each."""
    schedule, batch, tokens = config.schedule, config.batch, config.schedule.tokens
    doublings = (batch.align(threshold) for threshold in batch.thresholds if threshold < tokens)
    corners = {0, *config.contexts.thresholds, *doublings, *schedule.corners}
    cuts = [*sorted(corner for corner in corners if corner < tokens), tokens]
    return [
        (
            f"{start:,}",
            f"{end:,}",
            f"{config.contexts.at(start):,}",
            f"{batch.at(start):,}",
            f"{schedule.learning_rate(start):.3g}",
            f"{schedule.learning_rate(end):.3g}",
        )
        for start, end in pairwise(cuts)
    ]
