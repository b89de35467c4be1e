"""Tasks on a Ray cluster: the same tasks, performed by whichever machine is free.

All machines must see the cleaning's folder (and whatever paths the stages name) under the same path, and have
isoflop installed; nothing but names of tasks travels. Without an address a local Ray is started, on loopback and
without its dashboard. Two processes may be asked for the same task after a machine was lost; the files they write
are the same, each committed by a rename.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from isoflop.cluster import LOCAL, connect, ray_module
from isoflop.corpus.pipeline.layout import Job, Task
from isoflop.corpus.pipeline.local import ONE_THREAD
from isoflop.corpus.pipeline.work import perform

_SECONDS = 0.2
_IN_FLIGHT = 2
"""Tasks handed out for each processor of the cluster, so that none waits for the next."""


@dataclass
class RayPool:
    """A cluster; a context within which ``run`` performs tasks.

    ``address`` is a cluster's, "auto" for the one that this machine belongs to, or "local" to start one here, of
    ``workers`` processes (by default one per processor).
    """

    job: Job
    address: str = LOCAL
    workers: int | None = None

    def __enter__(self) -> RayPool:
        connect(self.address, ONE_THREAD, self.workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        ray_module().shutdown()

    def run(self, tasks: Sequence[Task], done: Callable[[int], None], stop: Callable[[], None]) -> None:
        """Perform tasks, in any order; ``done`` is told how many are, and ``stop`` may raise to end it."""
        ray = ray_module()
        remote = ray.remote(num_cpus=1, max_retries=3)(perform)
        job = ray.put(self.job)
        waiting, finished = list(reversed(tasks)), 0
        flying: dict[Any, Task] = {}
        most = _IN_FLIGHT * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or flying:
            stop()
            while waiting and len(flying) < most:
                task = waiting.pop()
                flying[remote.remote(job, task)] = task
            ready, _ = ray.wait(list(flying), num_returns=len(flying), timeout=_SECONDS)
            for reference in ready:
                _answer(ray, reference, self.job.describe(flying.pop(reference)))
                finished += 1
            done(finished)


def _answer(ray: Any, reference: Any, what: str) -> None:
    """Raise the error of a task that failed, as itself and without the stack of the machine that it failed on."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, ValueError | RuntimeError | OSError) else RuntimeError(str(cause)) from None
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"{what} was lost ({type(error).__name__}); the same command goes on with what is left"
        ) from None
