"""``isoflop sweep``: an IsoFLOP grid of small runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

DESCRIPTION = """Trains an IsoFLOP grid on prepared tokens with one worker process per core, or on a cluster, and
resumes it when called again.

examples:
  isoflop sweep --tokens tokens/ --out sweeps/a --budgets 4e11 8e11 1.6e12
  isoflop sweep --tokens tokens/ --out sweeps/b --budgets 4e11 8e11 1.6e12 --method plain --dry-run
  isoflop sweep --tokens tokens/ --out /shared/c --budgets 4e15 8e15 1.6e16 --on "slurm --partition=gpu --gpus=1"
"""


@dataclass(frozen=True)
class Arguments:
    """Arguments of ``isoflop sweep``.

    Attributes:
        tokens: Folder that ``isoflop prepare`` made.
        out: Directory of the sweep.
        budgets: FLOPs of each curve (6ND, head counted, input embedding not).
        method: One trunk per size with a decaying branch per budget, or one cosine run per cell.
        context: Tokens a model sees at once.
        centre: Tokens per parameter around which each budget's sizes are laid.
        workers: Worker processes; by default one per core, or as many as the cluster has room for.
        on: Where they work: local; ray, or "ray ADDRESS" of a cluster; slurm, or "slurm OPTIONS" of sbatch.
        seed: Seed of initial weights and order.
        dry_run: Print every run of the grid and its cost, and do nothing.
    """

    tokens: Path
    out: Path
    budgets: tuple[float, ...]
    method: Literal["branch", "plain"] = "branch"
    context: int = 256
    centre: float = 40.0
    workers: int | None = None
    on: str = "local"
    seed: int = 0
    dry_run: bool = False


def main(arguments: list[str]) -> None:
    """Run the command."""
    a = tyro.cli(Arguments, args=arguments, prog="isoflop sweep", description=DESCRIPTION)
    from isoflop.planning.hyperparameters import first_batch_for
    from isoflop.sweeps.grid import SweepConfig, columns, run_flops
    from isoflop.tokens.dataset import TokenDataset

    vocab = TokenDataset.open(a.tokens).tokenizer.vocab_size
    config = SweepConfig(
        tuple(sorted(a.budgets)),
        data=str(a.tokens.resolve()),
        vocab=vocab,
        context=a.context,
        centre=a.centre,
        method=a.method,
        first_batch=first_batch_for(a.context),
        seed=a.seed,
    )
    if a.dry_run:
        for column in columns(config):
            for name, run in column.runs:
                print(f"{name:<32} {run.schedule.tokens:>14,} tokens {run_flops(run):>10.3g} FLOPs")
        print(f"{'in all':<32} {'':>14}        {sum(c.flops for c in columns(config)):>10.3g} FLOPs")
        return
    from isoflop.progress import console
    from isoflop.sweeps.executor import run_sweep
    from isoflop.sweeps.places import hiring
    from isoflop.sweeps.results import read_results

    with console() as report:
        run_sweep(config, a.out, report, a.workers, hiring(a.on))
    for row in read_results(a.out).rows:
        print(f"{row.path:<32} {row.tokens:>14,} tokens  loss {row.loss:.4f}")
