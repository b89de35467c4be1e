"""Measuring how fast this machine trains when all its workers do: one pinned process each, as a sweep has them.

Two sizes of model fix a line; every worker's processor measures one of them, in turn, all at the same time, because
what neighbours take of memory and caches is part of the speed. Costs about ten seconds, once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from isoflop.files import write_json
from isoflop.planning.ladder import smallest
from isoflop.processors import processors
from isoflop.sweeps.executor import worker_environment
from isoflop.training.speed import Speed, line

Point = tuple[float, float, float]  # parameters, seconds per token, seconds to compile


def measure_speed(path: Path, vocab: int, context: int, workers: Sequence[int] | None = None) -> Speed:
    """Measure this machine once and remember it in ``path``, on the processors of ``workers``, by default all."""
    least = smallest(vocab, context=context).matmul
    sizes, mine = (3 * least, 15 * least), workers or processors()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{number}.json" for number in range(max(len(mine), len(sizes)))]
        running = []
        for file, size, processor in zip(files, cycle(sizes), cycle(mine), strict=False):
            running.append(start_measurement([str(file), str(size), str(vocab), str(context)], processor))
            if len(mine) == 1:
                finish_measurement(running[-1])
        for process in running:
            finish_measurement(process)
        speed = line(means([tuple(json.loads(file.read_text())) for file in files]))
    write_json(path, vars(speed))
    return speed


def means(points: Sequence[Point]) -> list[Point]:
    """One point for each size: the mean of its measurements, and the longest of its compilations."""
    found = []
    for size in sorted({size for size, _, _ in points}):
        same = [point for point in points if point[0] == size]
        found.append((size, statistics.mean(point[1] for point in same), max(point[2] for point in same)))
    return found


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
