"""Running many small models on this machine: one pinned, one-thread worker process per core, one job at a time each.

At these sizes a step is a few milliseconds of small operations, so threads inside a step lose to processes side by side
(docs/lab.md). A job is a name that a worker module knows how to train: a column of a sweep here, a lane of proxies in
the mixing room. The parent only watches the run directories. What was killed goes on where its checkpoints are, and
finished runs are never repeated. Ray (``ray_workers``) and Slurm (``slurm``) start the same workers elsewhere.
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
from typing import Any, Protocol

from isoflop.interrupt import INTERRUPTED, Interrupted, interruptible
from isoflop.processors import processors
from isoflop.progress import Report
from isoflop.sweeps.grid import Column, SweepConfig, run_flops
from isoflop.sweeps.layout import laid_out, lay_out
from isoflop.training.run import Run

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1")


class Workers(Protocol):
    """Where the jobs of a folder are done."""

    @property
    def count(self) -> int:
        """How many are done side by side."""
        ...

    def perform(self, pending: Callable[[], list[str]], watch: Callable[[], None]) -> None:
        """Do the jobs that are ``pending`` according to their directories, which every machine at work must see.

        ``watch`` is called every two seconds. Raises Interrupted after a Ctrl-C or SIGTERM, RuntimeError when a worker
        fails; the same call goes on with what is left.
        """
        ...


Hire = Callable[[str, Path, int | None], Workers]
"""Workers ``python -m module folder job`` by (module, folder, how many at most)."""


class Slots(Protocol):
    """Workers that are started one by one."""

    @property
    def running(self) -> dict[Any, Any]:
        """Those at work."""
        ...

    @property
    def count(self) -> int:
        """How many may be at work."""
        ...

    def start(self, name: str) -> None:
        """Start one for a job."""
        ...

    def reap(self) -> None:
        """Forget those that have ended; raise for one that failed or was stopped."""
        ...

    def stop(self) -> None:
        """Ask all to save and leave, and wait for them."""
        ...


@dataclass
class Pool:
    """Worker processes ``python -m module folder job`` by the processor they are pinned to."""

    module: str
    folder: Path
    processors: list[int]
    running: dict[int, tuple[str, subprocess.Popen[bytes]]] = field(default_factory=dict)

    @classmethod
    def here(cls, module: str, folder: Path, workers: int | None) -> Pool:
        """At most, and by default, one worker per processor of this machine."""
        return cls(module, folder, worker_processors(workers))

    @property
    def count(self) -> int:
        """A worker per processor."""
        return len(self.processors)

    def perform(self, pending: Callable[[], list[str]], watch: Callable[[], None]) -> None:
        """Do the pending jobs, as :class:`Workers` says."""
        run_jobs(self, pending(), watch)

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
            check_status(self.folder, name, status)

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


def check_status(folder: Path, name: str, status: int) -> None:
    """Raise what a worker's exit status says: Interrupted, or RuntimeError with its last words; nothing for 0."""
    if status == INTERRUPTED:
        raise Interrupted(f"the worker training {name} was stopped; the same command goes on where it was")
    if status < 0:
        cause = f"was ended by signal {-status} ({signal.Signals(-status).name}; out of memory?)"
        raise RuntimeError(f"the worker training {name} {cause}; the same command goes on with what is left")
    if status:
        raise RuntimeError(
            f"the worker training {name} ended with status {status}: {last_words(folder, name)} "
            f"(all of it in {folder / name}.log); the same command goes on with what is left"
        )


def last_words(folder: Path, name: str) -> str:
    """The last line that the worker of a job wrote."""
    log = folder / f"{name}.log"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "no message"


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
    return os.environ | SINGLE


def run_sweep(
    config: SweepConfig, sweep: Path, report: Report, workers: int | None = None, hire: Hire = Pool.here
) -> None:
    """Train every unfinished run of the sweep in directory ``sweep``.

    ``hire`` says where; ``workers`` is at most, and by default, one per processor there. Raises Interrupted after a
    Ctrl-C or SIGTERM, RuntimeError when a worker fails, ValueError when the directory holds another sweep.
    """
    lay_out(config, sweep)
    grid = laid_out(sweep)

    def pending() -> list[str]:
        return [c.name for c in grid if any(Run(sweep / name).summary is None for name, _ in c.runs)]

    crew = hire("isoflop.sweeps.worker", sweep, workers)
    crew.perform(pending, lambda: report("sweep", *flops_done(grid, sweep)))


def worker_processors(workers: int | None) -> list[int]:
    """The processors for at most ``workers`` workers, by default all. Raises ValueError for fewer than one."""
    if workers is not None and workers < 1:
        raise ValueError(f"there must be at least one worker, not {workers}")
    return processors()[:workers]


def run_jobs(pool: Slots, waiting: Iterable[str], watch: Callable[[], None]) -> None:
    """Hand the waiting jobs to workers in order until all are done; ``watch`` is called every two seconds.

    Raises Interrupted after a Ctrl-C or SIGTERM, RuntimeError when a worker fails; workers are stopped first.
    """
    left = list(waiting)
    with interruptible() as stopped:
        try:
            while left or pool.running:
                while left and len(pool.running) < pool.count:
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
