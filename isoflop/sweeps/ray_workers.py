"""The workers of a sweep on a Ray cluster: the same processes, started by whichever machine is free.

All machines must see the sweep's folder and its tokens under the same paths and have isoflop installed; nothing travels
but names. A job takes a GPU where the cluster has any, else a processor. What a lost machine was training is begun
again on another, from its last checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isoflop.cluster import LOCAL, connect
from isoflop.sweeps.executor import SINGLE, check_status, run_jobs, worker_environment

PATIENCE = 60.0
"""Seconds that workers have to save and leave."""


@dataclass
class RayWorkers:
    """Workers ``python -m module folder job`` on a cluster, at most ``most`` at a time."""

    module: str
    folder: Path
    ray: Any
    most: int | None = None
    running: dict[Any, str] = field(default_factory=dict)

    @classmethod
    def at(cls, address: str = LOCAL) -> Callable[[str, Path, int | None], RayWorkers]:
        """What hires workers on the cluster at an address ("auto": this machine's; "local": one started here)."""

        def hire(module: str, folder: Path, workers: int | None) -> RayWorkers:
            if workers is not None and workers < 1:
                raise ValueError(f"there must be at least one worker, not {workers}")
            return cls(module, folder.resolve(), connect(address, SINGLE, workers), workers)

        return hire

    @property
    def gpus(self) -> int:
        """GPUs of the cluster."""
        return int(self.ray.cluster_resources().get("GPU", 0))

    @property
    def count(self) -> int:
        """A worker per GPU, or per processor where there is none."""
        all_of_it = self.gpus or int(self.ray.cluster_resources().get("CPU", 1))
        return max(1, min(all_of_it, self.most or all_of_it))

    def perform(self, pending: Callable[[], list[str]], watch: Callable[[], None]) -> None:
        """Do the pending jobs, as :class:`isoflop.sweeps.executor.Workers` says, and leave the cluster."""
        try:
            run_jobs(self, pending(), watch)
        finally:
            self.ray.shutdown()

    def start(self, name: str) -> None:
        """Queue a job; the cluster starts it where there is room."""
        remote = self.ray.remote(num_cpus=1, num_gpus=1 if self.gpus else 0, max_retries=3)(labour)
        self.running[remote.remote(self.module, str(self.folder), name)] = name

    def reap(self) -> None:
        """Forget the workers that have ended; raise RuntimeError with the last words of one that failed."""
        if not self.running:
            return
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        for reference in ready:
            name = self.running.pop(reference)
            try:
                status = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                raise RuntimeError(
                    f"the worker training {name} was lost ({type(error).__name__}); the same command goes on"
                ) from None
            check_status(self.folder, name, status)

    def stop(self) -> None:
        """Ask the workers to save and leave, and wait for them."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=PATIENCE)
        self.running.clear()


def labour(module: str, folder: str, name: str) -> int:
    """Run the worker of a job on this machine; returns its exit status. Cancelled, it is asked to save and leave."""
    with Path(folder, f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, folder, name],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=worker_environment(),
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()
    return process.returncode
