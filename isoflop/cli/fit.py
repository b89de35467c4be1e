"""``isoflop fit``: the laws that a sweep's runs obey."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

DESCRIPTION = """Fits the IsoFLOP minima and the surface L(N, D) to a sweep's finished runs, with intervals.

examples:
  isoflop fit runs/quickstart/sweep
  isoflop fit sweeps/a --json
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop fit``.

    Attributes:
        sweep: Directory of the sweep.
        replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.
        json: Print as JSON.
    """

    sweep: tyro.conf.Positional[Path]
    replicates: int = 1000
    seed: int = 0
    json: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop fit", description=DESCRIPTION)
    from isoflop.sweeps.fit import fit_results
    from isoflop.sweeps.results import read_results

    fit = fit_results(read_results(a.sweep), replicates=a.replicates, seed=a.seed)
    if a.json:
        print(json.dumps(fit.to_json(), indent=1))
        return
    for name, surface in fit.surfaces.items():
        print(f"surface, N = {name}: {surface.law}")
        for parameter, (low, high) in surface.parameter_intervals().items():
            print(f"    {parameter:<6} 95% {low:.4g} to {high:.4g}")
    if fit.isoflop is not None:
        print(f"D*(C): {fit.isoflop.tokens}\nN*(C): {fit.isoflop.params}\nL*(C): {fit.isoflop.loss}")
        for curve in fit.isoflop.curves:
            print(f"    {curve}")
    for status in fit.statuses:
        print(f"note: {status}")
