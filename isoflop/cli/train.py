"""``isoflop train``: one run from a config file, or go on with it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from isoflop.training.config import TrainConfig

DESCRIPTION = """Trains the run of a directory from its config.toml, or from the config file or recipe given, and
resumes it when called again.

examples:
  isoflop train runs/mine --config mine.toml     start a run
  isoflop train runs/mine                        go on with it
  isoflop train runs/mine --supervise            go on with it, and again whenever its process is killed or hangs
  isoflop train runs/mine --dry-run              print the config and what follows from it
  isoflop train runs/mine --show-schedule        draw rate, batch, context, rope and mixture over its tokens
  isoflop train runs/mine --recipe llama3-8b-tiny --data tokens/      a recipe of isoflop recipes
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop train``.

    Attributes:
        run: Directory of the run.
        config: TOML file to start from; a run that has begun keeps its own.
        recipe: Name of a recipe to start from instead.
        data: Folder of prepared tokens to use, for a mixture one with a folder for each source.
        ranks: Processes of one thread that share every batch on a CPU; by default one a processor.
        threads: Train in one process with so many threads instead.
        supervise: Start the run again whenever its process is killed or hangs, until it is finished or gets no further.
        accept_changed_data: Go on although the prepared tokens are not those that the run began with, and record that.
        log_to: Send the metrics to tensorboard or trackio too.
        dry_run: Print the resolved config and what follows from it, and do nothing.
        show_schedule: Draw the whole schedule, here and as schedule.svg in the run's directory, and do nothing else.
        json: Print the summary, or the schedule, as JSON.
    """

    run: tyro.conf.Positional[Path]
    config: Path | None = None
    recipe: str | None = None
    data: Path | None = None
    ranks: int | None = None
    threads: int | None = None
    supervise: bool = False
    accept_changed_data: bool = False
    log_to: tuple[Literal["tensorboard", "trackio"], ...] = ()
    dry_run: bool = False
    show_schedule: bool = False
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop train", description=DESCRIPTION)
    from isoflop import config as configuration

    config = chosen(a)
    if a.show_schedule:
        show_schedule(config, a.run, as_json=a.json)
        return
    if a.dry_run:
        print(configuration.dumps(config))
        print(describe(config))
        if config.mixture is not None:
            print(describe_mixture(config, a.run))
        return
    import torch

    from isoflop.progress import console
    from isoflop.training.launch import train_here
    from isoflop.training.supervise import supervise

    if a.threads:
        torch.set_num_threads(a.threads)

    def work() -> dict[str, Any]:
        with console() as report:
            ranks = 1 if a.threads else a.ranks
            return train_here(config, a.run, report, ranks, accept_changed_data=a.accept_changed_data, log_to=a.log_to)

    summary = supervise(a.run, work) if a.supervise else work()
    if int(os.environ.get("RANK", "0")):
        return  # torchrun's first process speaks for all
    if a.json:
        print(json.dumps(summary))
    else:
        print(
            f"validation loss {summary['validation_loss']:.4f} nats/token, {summary['validation_bpb']:.4f} bits/byte "
            f"after {summary['tokens']:,} tokens in {summary['seconds']:.0f} s: {a.run}"
        )
        if ramp := summary.get("batch_proposed"):
            doubled = ", ".join(f"{threshold:,}" for threshold in ramp["thresholds"]) or "never"
            print(f"its gradient noise speaks for batches of {ramp['first']:,} tokens, doubled at tokens: {doubled}")


def chosen(a: Arguments) -> TrainConfig:
    """The config that the command line asks for: the run's own, a file or a recipe, on other tokens if it says so."""
    from isoflop import config as configuration
    from isoflop.training import recipes
    from isoflop.training.config import TrainConfig

    if a.recipe and a.config:
        raise ValueError("--recipe and --config both say what to train; give one of them")
    if a.recipe:
        config = recipes.recipe(a.recipe)
    else:
        config = configuration.load(TrainConfig, a.config or a.run / "config.toml")
    return config if a.data is None else recipes.on(config, a.data)


def show_schedule(config: TrainConfig, run: Path, *, as_json: bool) -> None:
    """Print the schedule, drawn or as JSON, and leave its figure in the run's directory where matplotlib is at hand."""
    if as_json:
        from isoflop.training import timeline

        print(json.dumps(timeline.to_json(config)))
        return
    from isoflop.cli import schedule_screen
    from isoflop.report.schedule_figure import write_schedule_figure

    print(schedule_screen.text(config))
    if importlib.util.find_spec("matplotlib"):
        run.mkdir(parents=True, exist_ok=True)
        print(f"figure: {write_schedule_figure(config, run / 'schedule.svg')}")


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
    from isoflop.training.timeline import stretches

    return [
        (
            f"{part.start:,}",
            f"{part.end:,}",
            f"{part.context:,}",
            f"{part.batch:,}",
            f"{part.rate[0]:.3g}",
            f"{part.rate[1]:.3g}",
        )
        for part in stretches(config)
    ]
