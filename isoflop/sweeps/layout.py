"""A sweep on disk: ``sweep.toml`` and, laid out at the start, the directory and config of every run.

From then on the directories are the grid. Workers, results and resumption read them and never compute it again, so a
sweep begun under one version of the ladder or of the rules is finished and read under the same.
"""

from __future__ import annotations

import math
from pathlib import Path

from isoflop import config as configuration
from isoflop.files import write_text
from isoflop.planning.ladder import smallest
from isoflop.sweeps.grid import Cell, Column, SweepConfig, cells, columns
from isoflop.training.run import Run

FEWEST_SIZES = 3  # a parabola has three coefficients


def lay_out(config: SweepConfig, sweep: Path) -> None:
    """Make the directories of a sweep's runs, or check that they are those of this config.

    Raises ValueError when the directory holds another sweep, or when a budget has too few sizes for a curve.
    """
    path = sweep / "sweep.toml"
    if path.exists():
        if changed := configuration.difference(configuration.load(SweepConfig, path), config):
            raise ValueError(f"{sweep} holds another sweep ({changed}); use another directory, or the old value")
        return
    for budget in config.budgets:
        if (count := sum(cell.budget == budget for cell in cells(config))) < FEWEST_SIZES:
            raise ValueError(too_few(config, budget, count))
    for column in columns(config):
        for name, run in column.runs:
            Run(sweep / name).start(run)
    write_text(path, configuration.dumps(config))


def too_few(config: SweepConfig, budget: float, count: int) -> str:
    """Why a budget cannot have a curve, and what to do."""
    least = smallest(config.vocab, context=config.context).matmul
    middle = math.sqrt(budget / 6 / config.centre)
    return (
        f"a budget of {budget:.3g} FLOPs has {count} sizes around {middle:,.0f} parameters "
        f"and a curve needs {FEWEST_SIZES}: the smallest model with a vocabulary of {config.vocab} has {least:,}; give "
        f"budgets of at least {6 * config.centre * least**2:.2g} FLOPs, or prepare the corpus with a smaller vocabulary"
    )


def laid_out(sweep: Path) -> list[Column]:
    """The columns of a sweep as its directories have them, the longest first; in a column the trunk comes first.

    Raises ValueError when there is no sweep there.
    """
    if not (sweep / "sweep.toml").exists():
        raise ValueError(f"{sweep} holds no sweep (no sweep.toml): name the directory of one")
    found = []
    for folder in sorted(path for path in sweep.glob("*") if path.is_dir()):
        names = [path.parent.name for path in folder.glob("*/config.toml")]
        names.sort(key=lambda name: cell_budget(name) or 0.0)
        runs = tuple((f"{folder.name}/{name}", Run(folder / name).config) for name in names)
        if runs:
            found.append(Column(folder.name, runs[0][1].shape, runs))
    return sorted(found, key=lambda column: -column.effort)


def cell_budget(name: str) -> float | None:
    """The budget that a run's directory is named after; None for a trunk."""
    last = name.rsplit("/", 1)[-1]
    try:
        return float(last.removeprefix(Cell.PREFIX)) if last.startswith(Cell.PREFIX) else None
    except ValueError:
        return None
