"""The training loop: from a config to a finished run directory, exactly resumable.

Steps (``training.trainer``) until the schedule's tokens are consumed, validations and checkpoints on the way, a summary
at the end. The same command resumes after any interruption and, on a CPU, ends with the same bits. Several processes
may share the batches (``training.ranks``). SIGUSR1 saves and goes on; a step that never ends is ended by a watchdog.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from isoflop.files import locked
from isoflop.interrupt import Interrupted, interruptible, on_user_signal
from isoflop.planning.schedule import BatchRamp
from isoflop.progress import Report, silent
from isoflop.training import attempts
from isoflop.training.attempts import Attempt
from isoflop.training.config import TrainConfig
from isoflop.training.garbage import collect, held_garbage
from isoflop.training.gates import Keeper
from isoflop.training.hardware import device_for
from isoflop.training.noise import propose_ramp
from isoflop.training.ranks import Ranks
from isoflop.training.run import Metrics, Run
from isoflop.training.sinks import SinkName, Sinks
from isoflop.training.trainer import Trainer, Wish
from isoflop.training.watchdog import Watchdog, stacks_of


def train(
    config: TrainConfig,
    path: Path,
    report: Report = silent,
    *,
    accept_changed_data: bool = False,
    log_to: Sequence[SinkName] = (),
) -> dict[str, Any]:
    """Train, or go on training, the run in directory ``path``; returns its summary.

    Its metrics are also sent to ``log_to``.

    A finished run returns at once. On Ctrl-C or SIGTERM a checkpoint is written and Interrupted raised; the same call
    resumes. Raises ValueError when the directory was started with another config, or when its data changed since and
    ``accept_changed_data`` does not allow that.
    """
    run = Run(path)
    device = device_for(config.device)
    if int(os.environ.get("RANK", "0")) == 0:
        run.start(config)
    if (done := run.summary) is not None:
        return done
    ranks = Ranks.join(device, config.parallel, config.shape)
    with locked(path / ".lock") if ranks.leads else nullcontext():
        attempt = Attempt.begin(run, writes=ranks.leads)
        ranks.wait(device)  # until the files are the leader's: all then resume from the same checkpoint
        with attempt.ending():
            trainer = Trainer.build(config, run, ranks, accept_changed_data=accept_changed_data)
            attempt.started(trainer.progress.tokens, trainer.progress.seconds)
            with (
                interruptible() as stopped,
                held_metrics(trainer, log_to) as metrics,
                closing(trainer.ahead),
                closing(trainer.saver),
                closing(Watchdog(stacks_of(path, ranks.rank), config.hang_seconds)) as watchdog,
            ):
                with held_garbage():
                    loop(trainer, metrics, attempt, watchdog, stopped, report)
                with attempt.timed("validated", trainer.progress.tokens):
                    result = trainer.validation.measure(trainer.model, ranks)
                    if trainer.average is not None:
                        result |= trainer.average.measure(trainer.validation, ranks)
                trainer.save()
            summary = summarise(trainer, result)
            if ranks.leads:
                summary |= {"effective_time": attempts.summary(path)}
                run.finish(summary)
    return summary


def loop(
    trainer: Trainer,
    metrics: Metrics | None,
    attempt: Attempt,
    watchdog: Watchdog,
    stopped: Callable[[], bool],
    report: Report,
) -> None:
    """Step until the schedule's tokens are consumed, validating and saving on the way."""
    config, total = trainer.config, trainer.config.schedule.tokens
    every = -(-total // max(1, config.validate_times))
    gates = Keeper(trainer)
    if gates.shut:
        raise ValueError(gates.shut)
    timed = trainer.watch.clock
    trainer.watch.begin(trainer.progress)
    leads, clock = trainer.ranks.leads, Clock(config.checkpoint_seconds)
    often = Clock(config.saving.memory_seconds if trainer.scratch else float("inf"))
    with on_user_signal(clock.strike):
        while trainer.progress.tokens < total:
            before = trainer.progress.tokens
            shape = config.regime(before)[:2]
            new = not watchdog.known(shape)
            with watchdog.step(shape):
                line, wish = trainer.step(Wish(stopped(), leads and clock.due(), leads and often.due()))
            now = trainer.progress.tokens
            if new:
                attempt.note(event="new shape", tokens=now)
            if now // every > before // every and now < total:
                with timed("validate"), attempt.timed("validated", now):
                    line |= trainer.validation.measure(trainer.model, trainer.ranks, config.contexts.at(before))
            line |= trainer.watch.figures(trainer.progress)
            if metrics is not None:
                metrics.write(**line)
            report(config.shape.name, now, total)
            gates.visit(before, now)
            if wish.save or wish.stop or gates.shut or now in config.kept or config.saving.planned(config.batch, now):
                with timed("save"), attempt.timed("saved", now):
                    trainer.save()
                    collect()
                clock.wind()
                often.wind()
            elif wish.keep_in_memory:
                with attempt.timed("kept in memory", now):
                    trainer.keep_in_memory()
                often.wind()
            trainer.saver.check()
            if gates.shut:
                raise ValueError(gates.shut)
            if wish.stop:
                raise Interrupted(f"stopped at {now:,} of {total:,} tokens; the same command goes on from there")


class Clock:
    """Says when a checkpoint by the clock is due: ``seconds`` after the last, or at once when it is struck."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the time has come."""
        return time.monotonic() - self._since > self._seconds

    def strike(self) -> None:
        """Make it due now."""
        self._since = -float("inf")

    def wind(self) -> None:
        """Begin to wait anew."""
        self._since = time.monotonic()


@contextmanager
def held_metrics(trainer: Trainer, log_to: Sequence[SinkName]) -> Iterator[Metrics | None]:
    """The run's metrics, closed whatever happens; None on ranks that do not write."""
    run, leads = trainer.run, trainer.ranks.leads
    metrics = Metrics(run, Sinks(log_to, run, trainer.config, trainer.progress.step)) if leads else None
    try:
        yield metrics
    finally:
        if metrics is not None:
            metrics.close()


def summarise(trainer: Trainer, result: dict[str, float]) -> dict[str, Any]:
    """What the run achieved and cost, with every convention of N and C named."""
    shape, progress = trainer.config.shape, trainer.progress
    epochs = {entry.name: round(entry.epochs, 4) for entry in trainer.ledger.entries(progress.tokens)}
    return result | {
        "tokens": progress.tokens,
        "steps": progress.step,
        "seconds": round(progress.seconds, 3),
        "N_matmul": shape.matmul,
        "N_body": shape.body,
        "N_total": shape.total,
        "flops_6ND": 6.0 * shape.matmul * progress.tokens,
        "flops_exact": trainer.config.flops_exact(0, progress.tokens),
        **({"flops_teacher": teacher} if (teacher := trainer.objective.flops(trainer.config, progress.tokens)) else {}),
        **({"batch_proposed": asdict(proposed(trainer))} if trainer.noise else {}),
        "epochs": max(epochs.values()),
        **({"epochs_by_source": epochs} if trainer.config.mixture else {}),
        **({"data_changes": trainer.data_changes} if trainer.data_changes else {}),
        "precision": str(trainer.model.compute).removeprefix("torch."),
        "compiled": trainer.model.compiled,
        "threads": torch.get_num_threads() * trainer.ranks.processes,
        **({"rewinds": [rewind._asdict() for rewind in trainer.sentry.rewinds]} if trainer.sentry.rewinds else {}),
    }


def proposed(trainer: Trainer) -> BatchRamp:
    """The batches that the measured noise scale speaks for, from this run's first one."""
    return propose_ramp(trainer.run.metrics(), trainer.config.batch.first)
