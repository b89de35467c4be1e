"""Training with all of one machine: its GPU, or one pinned, one-thread process per processor that share every batch.

On a CPU two processes of one thread each are faster than two threads and easier to predict (docs/lab.md). Costs a
second or two of starting, and the weights once per process. A layout that splits the model needs as many processes as
it says, here more than there are processors if need be. Left out: several GPUs and several machines, which are
torchrun's to start; the loop reads its environment.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from isoflop.interrupt import INTERRUPTED, Interrupted, interruptible, on_user_signal
from isoflop.processors import processors, ranks_for
from isoflop.progress import Report, silent
from isoflop.training.config import TrainConfig
from isoflop.training.hardware import device_for
from isoflop.training.loop import train
from isoflop.training.rank import ACCEPT, FAILED, LOG_TO
from isoflop.training.run import Run
from isoflop.training.sinks import SinkName
from isoflop.training.watchdog import HUNG


class Died(RuntimeError):  # noqa: N818 - said like an error, but nothing is known to be wrong with the work
    """A process was killed, or hung: the same again may well succeed."""


LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def ranks_of(config: TrainConfig) -> int:
    """Processes that train a run here: one where there is a GPU, or where torchrun has started several already.

    On a CPU as many as share the run's last, largest batches; those that an early, small one cannot feed stand idle. A
    run whose layout splits the model has as many as that says.
    """
    if "WORLD_SIZE" in os.environ or device_for(config.device).type == "cuda":
        return 1
    if not config.parallel.plain or config.parallel.replicate:
        return config.parallel.processes(len(processors()))
    last = config.schedule.tokens - 1
    return ranks_for(config.batch.at(last) // config.contexts.at(last))


def train_here(
    config: TrainConfig,
    path: Path,
    report: Report = silent,
    ranks: int | None = None,
    *,
    accept_changed_data: bool = False,
    log_to: Sequence[SinkName] = (),
) -> dict[str, Any]:
    """Train, or go on training, the run in directory ``path`` with ``ranks`` processes, by default :func:`ranks_of`.

    Returns the summary. Raises what :func:`isoflop.training.loop.train` does, and RuntimeError with the last words of a
    process that failed, Died where it was killed or hung.
    """
    count = ranks_of(config) if ranks is None else ranks
    if count == 1:
        return train(config, path, report, accept_changed_data=accept_changed_data, log_to=log_to)
    if count < 1:
        raise ValueError(f"a run is trained by at least one process, not {count}")
    cores = processors()
    if count > max(len(cores), config.parallel.processes(0)):
        raise ValueError(f"{count} processes on {len(cores)} processors would only wait for each other")
    run = Run(path)
    run.start(config)
    if run.summary is None:
        chosen = [cores[rank % len(cores)] for rank in range(count)]
        train_with(chosen, path, report, accept_changed_data=accept_changed_data, log_to=log_to)
    assert run.summary is not None
    return run.summary


def train_with(
    processors: list[int],
    path: Path,
    report: Report,
    *,
    accept_changed_data: bool = False,
    log_to: Sequence[SinkName] = (),
) -> None:
    """Train the run in directory ``path`` (its config is there) with one pinned, one-thread process per processor.

    Raises what :func:`attend` does.
    """
    run = Run(path)
    name, total = run.config.shape.name, run.config.schedule.tokens
    command = [sys.executable, "-m", "isoflop.training.rank", str(path), *[ACCEPT] * accept_changed_data]
    command += [f"{LOG_TO}{name}" for name in log_to]

    def reached() -> str:
        return f"{run.tokens_so_far():,} of {total:,} tokens"

    attend(run, command, processors, lambda: report(name, run.tokens_so_far(), total), reached)


def attend(
    run: Run, command: list[str], processors: list[int], tell: Callable[[], None], reached: Callable[[], str]
) -> None:
    """Let one pinned, one-thread process per processor run ``command`` until the run has its summary.

    ``tell`` is called twice a second; ``reached`` says how far the run is. Raises Interrupted after Ctrl-C or SIGTERM,
    RuntimeError with the last words of a process that failed, Died where one was killed or hung.
    """
    port, log = free_port(), run.path / "ranks.log"
    ranks: list[subprocess.Popen[bytes]] = []
    with (
        interruptible() as stopped,
        on_user_signal(lambda: ranks[0].send_signal(signal.SIGUSR1) if ranks else None),
        log.open("ab") as output,
    ):
        said = output.tell()
        ranks += [start(command, rank, processors, port, output) for rank in range(len(processors))]
        try:
            while any(process.poll() is None for process in ranks):
                time.sleep(0.5)
                tell()
                failed = any(process.poll() not in (None, 0) for process in ranks)
                if stopped() or failed:
                    for process in ranks:
                        process.terminate()
                    for process in ranks:
                        process.wait()
        finally:
            for process in ranks:
                process.kill()
    if run.summary is None:
        if stopped() or all(process.returncode in (0, INTERRUPTED) for process in ranks):
            raise Interrupted(f"stopped at {reached()}; the same command goes on")
        statuses = [process.returncode for process in ranks]
        kind = Died if HUNG in statuses or killed(statuses) else RuntimeError
        raise kind(f"training {run.path} failed: {cause(statuses, log, said)}")


def killed(statuses: list[int]) -> list[int]:
    """The signals that ended processes, but for the one that they are asked to leave with."""
    return [-status for status in statuses if status < 0 and status != -signal.SIGTERM]


def cause(statuses: list[int], log: Path, since: int) -> str:
    """Why ranks failed that ended so and wrote to ``log`` from byte ``since`` on; the first words are the cause's.

    What comes after them is said by the others, who miss the one that failed.
    """
    if HUNG in statuses:
        return f"a step did not end; what each process was doing is in {log.parent}/stacks-*.txt"
    if signals := killed(statuses):
        return f"a process was ended by signal {signals[0]} ({signal.Signals(signals[0]).name}; out of memory?)"
    lines = log.read_bytes()[since:].decode(errors="replace").splitlines()
    return next((line.removeprefix(FAILED) for line in lines if line.startswith(FAILED)), f"see {log}")


def together(command: list[str], processors: list[int]) -> int:
    """Run one command as ranks, one pinned to each processor; the first exit status that is not 0, or 0.

    Output and errors are this process's own.
    """
    port = free_port()
    ranks = [start(command, rank, processors, port, None) for rank in range(len(processors))]
    try:
        while any(process.poll() is None for process in ranks) and not any(process.poll() for process in ranks):
            time.sleep(0.1)
        return next((process.returncode for process in ranks if process.returncode), 0)
    finally:
        for process in ranks:
            process.kill()
            process.wait()


def start(
    command: list[str], rank: int, processors: list[int], port: int, output: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    """Start one rank, pinned to its processor, talking over loopback only; ``output`` None is this process's own."""
    group = {"RANK": rank, "WORLD_SIZE": len(processors), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1")
    environment = (
        os.environ | single | {"GLOO_SOCKET_IFNAME": LOOPBACK} | {name: str(value) for name, value in group.items()}
    )
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process.pid, {processors[rank]})
    return process


def free_port() -> int:
    """A port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
