"""Running many small models on this machine: one pinned, one-thread worker process per core, one job at a time each.

At these sizes a step is a few milliseconds of small operations, so threads inside a step lose to processes side by side
(docs/lab.md). A job is a name that a worker module knows how to train: a column of a sweep here, a lane of proxies in
the mixing room. The parent only watches the run directories. What was killed goes on where its checkpoints are, and
finished runs are never repeated. Left out: Ray and Slurm, which would start the same worker elsewhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from isoflop.interrupt import INTERRUPTED, Interrupted, interruptible
from isoflop.processors import processors
from isoflop.progress import Report
from isoflop.sweeps.grid import Column, SweepConfig, run_flops
from isoflop.sweeps.layout import laid_out, lay_out
from isoflop.training.run import Run


@dataclass
class Pool:
    """Worker processes ``python -m module folder job`` by the processor they are pinned to."""

    module: str
    folder: Path
    processors: list[int]
    running: dict[int, tuple[str, subprocess.Popen[bytes]]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a worker for the job called ``name`` on a free processor."""
        processor = next(p for p in self.processors if p not in self.running)
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", self.module, str(self.folder), name]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(),
                start_new_session=True,
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {processor})
        self.running[processor] = (name, process)

    def reap(self) -> None:
        """Forget the workers that have ended; raise RuntimeError with the last words of one that failed."""
        for processor, (name, process) in list(self.running.items()):
            if (status := process.poll()) is None:
                continue
            del self.running[processor]
            if status == INTERRUPTED:
                raise Interrupted(f"the worker training {name} was stopped; the same command goes on where it was")
            if status < 0:
                cause = f"was ended by signal {-status} ({signal.Signals(-status).name}; out of memory?)"
                raise RuntimeError(f"the worker training {name} {cause}; the same command goes on with what is left")
            if status:
                lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                last = lines[-1] if lines else "no message"
                raise RuntimeError(
                    f"the worker training {name} ended with status {status}: {last} "
                    f"(all of it in {self.folder / name}.log); the same command goes on with what is left"
                )

    def stop(self) -> None:
        """Ask the workers to save and leave, and wait for them."""
        for _, process in self.running.values():
            process.terminate()
        for _, process in self.running.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
        self.running.clear()


def exit_status(name: str, work: Callable[[], None]) -> int:
    """Do a worker's job called ``name``; returns the exit status that :class:`Pool` reads, 1 after a sentence."""
    try:
        work()
    except Interrupted:
        return INTERRUPTED
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def worker_environment() -> dict[str, str]:
    """The environment of a worker: one thread for mathematics, and compiling inside its own process."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1")
    return os.environ | single


def run_sweep(config: SweepConfig, sweep: Path, report: Report, workers: int | None = None) -> None:
    """Train every unfinished run of the sweep in directory ``sweep``.

    ``workers`` is at most, and by default, one per processor. Raises Interrupted after a Ctrl-C or SIGTERM,
    RuntimeError when a worker fails, ValueError when the directory holds another sweep.
    """
    pool = Pool("isoflop.sweeps.worker", sweep, worker_processors(workers))
    lay_out(config, sweep)
    grid = laid_out(sweep)
    waiting = [c.name for c in grid if any(Run(sweep / name).summary is None for name, _ in c.runs)]
    run_jobs(pool, waiting, lambda: report("sweep", *flops_done(grid, sweep)))


def worker_processors(workers: int | None) -> list[int]:
    """The processors for at most ``workers`` workers, by default all. Raises ValueError for fewer than one."""
    if workers is not None and workers < 1:
        raise ValueError(f"there must be at least one worker, not {workers}")
    return processors()[:workers]


def run_jobs(pool: Pool, waiting: Iterable[str], watch: Callable[[], None]) -> None:
    """Hand the waiting jobs to workers in order until all are done; ``watch`` is called every two seconds.

    Raises Interrupted after a Ctrl-C or SIGTERM, RuntimeError when a worker fails; workers are stopped first.
    """
    left = list(waiting)
    with interruptible() as stopped:
        try:
            while left or pool.running:
                while left and len(pool.running) < len(pool.processors):
                    pool.start(left.pop(0))
                wait(stopped)
                pool.reap()
                watch()
                if stopped():
                    raise Interrupted("the work was stopped; the same command goes on where it was")
        finally:
            pool.stop()


def wait(stopped: Callable[[], bool], seconds: float = 2.0) -> None:
    """Sleep, but not past a request to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopped():
        time.sleep(0.05)


def flops_done(grid: list[Column], sweep: Path) -> tuple[float, float]:
    """FLOPs spent so far and in all."""
    done = total = 0.0
    for column in grid:
        for name, settings in column.runs:
            start = settings.branch.tokens if settings.branch else 0
            spent = max(0, Run(sweep / name).tokens_so_far() - start)
            done += 6.0 * settings.shape.matmul * spent
            total += run_flops(settings)
    return done, total
