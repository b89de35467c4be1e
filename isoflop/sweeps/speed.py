"""Measuring how fast this machine trains when all its processors do: one pinned process each, as workers have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from isoflop.files import write_json
from isoflop.planning.ladder import smallest
from isoflop.processors import processors
from isoflop.sweeps.executor import worker_environment
from isoflop.training.speed import Speed, line


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
