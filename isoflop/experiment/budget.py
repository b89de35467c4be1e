"""From minutes to FLOPs: what this machine can sweep and train in the time a person gives it.

The sweep's largest budget is a tenth of the flagship's, so the prediction always reaches ten times beyond
what was seen.
Times come from a short measurement (``sweeps.speed``), so the same command fits a laptop and a server.
"""

from __future__ import annotations

import math

from isoflop.planning.ladder import smallest
from isoflop.sweeps.grid import SweepConfig, columns
from isoflop.training.speed import Speed

REACH = 10.0
"""The flagship's budget over the sweep's largest."""
RATIO = 2.0
"""Between neighbouring budgets."""
MOST_BUDGETS = 6
FEWEST_BUDGETS = 3
FEWEST_STEPS = 500
"""Steps that a budget's middle cell must have to be in the scaling regime (docs/lab.md)."""
RANKS_SPEEDUP = 0.85
"""Share of ideal speed-up that processes sharing the flagship's batches reach."""
FIXED_SECONDS = 20.0
"""Fitting, samples, report, process start."""


def sweep_budgets(flagship: float, vocab: int, context: int, centre: float, first_batch: int) -> tuple[float, ...]:
    """Budgets of the sweep for a flagship budget, ascending, each half the next, the largest a tenth of it.

    Raises ValueError when not even three budgets have models and steps enough.
    """
    floor = smallest(vocab, context=context).matmul
    found: list[float] = []
    budget = flagship / REACH
    while len(found) < MOST_BUDGETS:
        middle = (budget / 6 / centre) ** 0.5
        if middle < 1.15 * floor or middle * centre < FEWEST_STEPS * first_batch:
            break
        found.append(budget)
        budget /= RATIO
    if len(found) < FEWEST_BUDGETS:
        least: float = 6.0 * centre * max(1.15 * floor, FEWEST_STEPS * first_batch / centre) ** 2
        raise ValueError(
            f"a budget of {flagship:.3g} FLOPs is too small for a sweep with a vocabulary of {vocab}: "
            f"give at least {least * RATIO ** (FEWEST_BUDGETS - 1.0) * REACH:.2g} FLOPs"
        )
    return tuple(sorted(found))


def sweep_seconds(config: SweepConfig, speed: Speed, workers: int) -> float:
    """Expected wall time of a sweep: columns handed to workers longest first."""
    busy = [0.0] * workers
    for column in columns(config):
        per_token = speed.seconds_per_token(column.shape.matmul)
        tokens = column.flops / 6 / column.shape.matmul
        checks = len(column.runs) * config.validation_tokens / 3
        busy[busy.index(min(busy))] += speed.compile_seconds + 5.0 + (tokens + checks) * per_token
    return max(busy)


def flagship_seconds(budget: float, centre: float, speed: Speed, ranks: int) -> float:
    """Expected wall time of the flagship with one process per processor."""
    parameters = math.sqrt(budget / 6 / centre)
    gain = 1.0 if ranks == 1 else RANKS_SPEEDUP * ranks
    per_token = speed.seconds_per_token(parameters) / gain
    return 2 * speed.compile_seconds + budget / 6 / parameters * per_token
