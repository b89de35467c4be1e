"""Tasks on this machine: one process of one thread on every processor, pinned to it.

A process is asked for one task at a time over a pipe and answers when it is done. One that dies is noticed and named
with its task; all of them die with their parent. Starting one costs what importing the stages costs, once a cleaning.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from isoflop.corpus.pipeline.layout import Job, Task
from isoflop.corpus.pipeline.work import perform
from isoflop.interrupt import follow_parent
from isoflop.processors import processors

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
ONE_THREAD |= {"TOKENIZERS_PARALLELISM": "false"}

_SECONDS = 0.2


@dataclass
class Worker:
    """A process and the task it is at."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


@dataclass
class LocalPool:
    """Worker processes; a context within which ``run`` performs tasks. ``workers`` defaults to one per processor."""

    job: Job
    workers: int | None = None
    idle: list[Worker] = field(default_factory=list)
    busy: list[Worker] = field(default_factory=list)

    def __enter__(self) -> LocalPool:
        here = processors()
        count = len(here) if self.workers is None else self.workers
        with _environment(ONE_THREAD):
            for number in range(count):
                self.idle.append(_start(self.job, here[number] if count <= len(here) else None))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in self.idle + self.busy:
            worker.process.terminate()
        for worker in self.idle + self.busy:
            worker.process.join()
            worker.pipe.close()

    def run(self, tasks: Sequence[Task], done: Callable[[int], None], stop: Callable[[], None]) -> None:
        """Perform tasks, in any order. ``done`` is told how many are; ``stop`` may raise to end it.

        Raises the first error of a task, and RuntimeError for a process that died.
        """
        waiting, finished = list(reversed(tasks)), 0
        while waiting or self.busy:
            stop()
            while waiting and self.idle:
                self._give(waiting.pop())
            for worker in self._answered():
                finished += 1
                self.busy.remove(worker)
                self.idle.append(worker)
            done(finished)

    def _give(self, task: Task) -> None:
        worker = self.idle.pop()
        worker.task = task
        self.busy.append(worker)
        try:
            worker.pipe.send(task)
        except OSError:
            raise self._death(worker) from None

    def _answered(self) -> list[Worker]:
        """The workers that have finished their task since; an error of theirs is raised here."""
        ready = wait([worker.pipe for worker in self.busy], _SECONDS)
        answered = [worker for worker in self.busy if worker.pipe in ready]
        for worker in answered:
            try:
                error = worker.pipe.recv()
            except (EOFError, OSError):
                raise self._death(worker) from None
            if error is not None:
                raise error
        return answered

    def _death(self, worker: Worker) -> RuntimeError:
        worker.process.join()
        status = worker.process.exitcode or 0
        cause = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name} (out of memory?)"
        at = self.job.describe(worker.task) if worker.task else "its start"
        return RuntimeError(f"a worker process ended {cause} at {at}; the same command goes on with what is left")


def _start(job: Job, processor: int | None) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(job, theirs, processor), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: not while it still imports either
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Worker(process, ours)


def serve(job: Job, pipe: Connection, processor: int | None) -> None:
    """The life of a worker process: perform what is asked for until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group, and the parent ends its workers
    follow_parent()
    if processor is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            sys.exit(0)
        try:
            perform(job, task)
        except Exception as error:
            pipe.send(_portable(error))
        else:
            pipe.send(None)


def _portable(error: Exception) -> Exception:
    """The error, as one of a type that the parent knows and any pipe can carry."""
    from isoflop.corpus.document import CorpusError
    from isoflop.corpus.pipeline.work import StageError

    kinds: tuple[type[Exception], ...] = (CorpusError, StageError, ValueError, OSError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    return kind(str(error)) if kind else RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The environment with these values, as processes started inside inherit it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
