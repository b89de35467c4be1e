"""From minutes to FLOPs: what this machine can sweep and train in the time a person gives it.

The sweep's largest budget is a tenth of the flagship's, so the prediction always reaches ten times beyond
what was seen.
Times come from a short measurement (``training.speed``), so the same command fits a laptop and a server.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from isoflop.files import write_json
from isoflop.planning.ladder import smallest
from isoflop.processors import processors
from isoflop.sweeps.executor import worker_environment
from isoflop.sweeps.grid import SweepConfig, columns
from isoflop.training.speed import Speed, line

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


def measure_speed(path: Path, vocab: int, context: int) -> Speed:
    """Measure this machine once and remember it in ``path``; a process per processor, as in a sweep."""
    least = smallest(vocab, context=context).matmul
    sizes = (3 * least, 15 * least)
    files = [path.with_name(f"{path.stem}-{size}.json") for size in sizes]
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = processors()
    running: list[subprocess.Popen[str]] = []
    for file, size in zip(files, sizes, strict=True):
        processor = mine[len(running) % len(mine)]
        running.append(start_measurement([str(file), str(size), str(vocab), str(context)], processor))
        if len(mine) == 1:
            finish_measurement(running[-1])
    for process in running:
        finish_measurement(process)
    points = [tuple(json.loads(file.read_text())) for file in files]
    for file in files:
        file.unlink()
    speed = line(points)
    write_json(path, vars(speed))
    return speed


def start_measurement(arguments: list[str], processor: int) -> subprocess.Popen[str]:
    """Start one measurement, pinned."""
    command = [sys.executable, "-m", "isoflop.training.speed", *arguments]
    process = subprocess.Popen(command, env=worker_environment(), stderr=subprocess.PIPE, text=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {processor})
    return process


def finish_measurement(process: subprocess.Popen[str]) -> None:
    """Wait for a measurement; RuntimeError with its last words if it failed."""
    _, errors = process.communicate() if process.returncode is None else ("", "")
    if process.returncode:
        words = errors.strip().splitlines()[-1:] or ["it was killed"]
        raise RuntimeError(f"measuring this machine's speed failed: {words[0]}")


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
