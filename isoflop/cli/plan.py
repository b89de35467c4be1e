"""``isoflop plan``: which model to train with a budget, from a sweep's laws or, without one, from published laws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Plans a model for a budget. With a sweep: size, tokens and predicted loss with intervals, from its
laws. Without one: what the published laws say, side by side. They were fitted to other people's data; their spread is
the interval.

examples:
  isoflop plan 3.8e25
  isoflop plan 1e14 --sweep runs/quickstart/sweep
  isoflop plan 1e14 --sweep runs/quickstart/sweep --json
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop plan``.

    Attributes:
        budget: FLOPs to spend (6ND, head counted, input embedding not).
        sweep: Directory of the sweep whose laws to use; published laws without it.
        seed: Seed of the bootstrap.
        json: Print as JSON.
    """

    budget: tyro.conf.Positional[float]
    sweep: Path | None = None
    seed: int = 0
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop plan", description=DESCRIPTION)
    if a.sweep is None:
        plan_from_published(a)
    else:
        plan_from_sweep(a, a.sweep)


def plan_from_published(a: Arguments) -> None:
    """Print what published laws say of the budget."""
    from isoflop.planning.published import published_readings, table

    if a.json:
        readings = [vars(reading) for reading in published_readings(a.budget)]
        print(json.dumps({"budget": a.budget, "published": readings}, indent=1))
        return
    print(table(a.budget))
    print("note: no interval is known for a published point; fit runs of your own (isoflop sweep, isoflop fit)")


def plan_from_sweep(a: Arguments, folder: Path) -> None:
    """Plan from the laws of a sweep."""
    from isoflop import config as configuration
    from isoflop.planning.from_sweep import plan_from_sweep
    from isoflop.sweeps.fit import fit_results
    from isoflop.sweeps.grid import SweepConfig
    from isoflop.sweeps.results import read_results

    sweep = configuration.load(SweepConfig, folder / "sweep.toml")
    fit = fit_results(read_results(folder), seed=a.seed)
    chosen = plan_from_sweep(a.budget, fit.surfaces, fit.isoflop, sweep.vocab, sweep.context, seed=a.seed)
    if a.json:
        print(json.dumps(chosen.to_json(), indent=1))
    else:
        print(chosen)
        for status in fit.statuses:
            print(f"note: {status}")
