"""What branching saves over the plain grid, and whether it finds the same minima.

Trains the same IsoFLOP grid twice on the same tokens: once as one cosine run per cell, once as a constant-rate trunk
per size with a decaying branch per budget. Prints FLOPs, wall time, each budget's N* and minimum under both, and the
loss of every cell under both. Resumes like any sweep.

    python benchmarks/sweep_cost.py --tokens runs/quickstart/tokens --out runs/sweep-cost
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from isoflop.progress import console
from isoflop.sweeps.executor import run_sweep
from isoflop.sweeps.fit import Fit, fit_results
from isoflop.sweeps.grid import Method, SweepConfig, columns
from isoflop.sweeps.results import Results, read_results
from isoflop.tokens.dataset import TokenDataset

METHODS: tuple[Method, ...] = ("branch", "plain")


def train(config: SweepConfig, out: Path) -> tuple[Results, float]:
    """Train one grid; returns its results and the wall time, summed over interruptions."""
    clock = out / "wall.json"
    before = json.loads(clock.read_text()) if clock.exists() else 0.0
    began = time.monotonic()
    try:
        with console() as report:
            run_sweep(config, out, report)
    finally:
        wall = before + time.monotonic() - began
        if out.exists():
            clock.write_text(json.dumps(wall))
    return read_results(out), wall


def minima(fits: dict[Method, Fit]) -> None:
    """Print every budget's N* and minimum under both methods."""
    print("\n   budget   N* branch   N* plain  ratio   L* branch  L* plain     diff")
    analyses = [fits[method].isoflop for method in METHODS]
    if None in analyses:
        print("one of the grids has too few budgets with a minimum inside")
        return
    for one, two in zip(*(a.curves for a in analyses if a), strict=True):
        if not (one.usable and two.usable):
            print(f"{one.budget:9.2e}  branch: {one.status}; plain: {two.status}")
            continue
        ratio, difference = one.N_star / two.N_star, one.loss_star - two.loss_star
        numbers = f"{one.N_star:10,.0f} {two.N_star:10,.0f} {ratio:6.3f}   {one.loss_star:9.4f} {two.loss_star:9.4f}"
        print(f"{one.budget:9.2e}  {numbers} {difference:+8.4f}")


def main() -> None:
    """Train both grids and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budgets", type=float, nargs="+", default=[3e11, 6e11, 1.2e12, 2.4e12])
    parser.add_argument("--context", type=int, default=128)
    a = parser.parse_args()
    vocab = TokenDataset.open(a.tokens).tokenizer.vocab_size
    base = SweepConfig(tuple(sorted(a.budgets)), str(a.tokens.resolve()), vocab, context=a.context)
    results, walls, flops = {}, {}, {}
    for method in METHODS:
        config = replace(base, method=method)
        flops[method] = sum(column.flops for column in columns(config))
        results[method], walls[method] = train(config, a.out / method)
    for method in METHODS:
        print(f"{method:<7} {flops[method]:.3e} FLOPs, {walls[method]:6.0f} s wall")
    share, time_share = (x["branch"] / x["plain"] for x in (flops, walls))
    print(f"branch costs {share:.1%} of the FLOPs, {time_share:.1%} of the time")
    minima({method: fit_results(results[method]) for method in METHODS})
    by_cell = {row.path: row for row in results["plain"].rows}
    differences = np.array([row.loss - by_cell[row.path].loss for row in results["branch"].rows])
    print(f"\n{'cell':<28} {'branch':>8} {'plain':>8} {'diff':>8}")
    for row, difference in zip(results["branch"].rows, differences, strict=True):
        print(f"{row.path:<28} {row.loss:8.4f} {by_cell[row.path].loss:8.4f} {difference:+8.4f}")
    print(f"mean difference {differences.mean():+.4f} nats, standard deviation {differences.std(ddof=1):.4f}")


if __name__ == "__main__":
    main()
