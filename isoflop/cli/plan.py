"""``isoflop plan``: which model to train with a budget, from a sweep's laws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Reads the laws off a sweep and plans a model for a budget: size, tokens, predicted loss with interval.

examples:
  isoflop plan 1e14 --sweep runs/quickstart/sweep
  isoflop plan 1e14 --sweep runs/quickstart/sweep --json
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop plan``.

    Attributes:
        budget: FLOPs to spend (6ND, head counted, input embedding not).
        sweep: Directory of the sweep whose laws to use.
        seed: Seed of the bootstrap.
        json: Print as JSON.
    """

    budget: tyro.conf.Positional[float]
    sweep: Path
    seed: int = 0
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop plan", description=DESCRIPTION)
    from isoflop import config as configuration
    from isoflop.planning.plan import plan
    from isoflop.sweeps.fit import fit_results
    from isoflop.sweeps.grid import SweepConfig
    from isoflop.sweeps.results import read_results

    sweep = configuration.load(SweepConfig, a.sweep / "sweep.toml")
    fit = fit_results(read_results(a.sweep), seed=a.seed)
    chosen = plan(a.budget, fit.surfaces, fit.isoflop, sweep.vocab, sweep.context, seed=a.seed)
    if a.json:
        print(json.dumps(chosen.to_json(), indent=1))
    else:
        print(chosen)
        for status in fit.statuses:
            print(f"note: {status}")
