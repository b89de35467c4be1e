"""The training loop: from a config to a finished run directory, exactly resumable.

Steps (``training.trainer``) until the schedule's tokens are consumed, validations and checkpoints on the way, a summary
at the end. The same command resumes after any interruption and, on a CPU, ends with the same bits. Several processes
may share the batches (``training.ranks``). Left out so far: a guard against spikes, asynchronous checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from isoflop.files import locked
from isoflop.interrupt import Interrupted, interruptible
from isoflop.planning.schedule import BatchRamp
from isoflop.progress import Report, silent
from isoflop.training.config import TrainConfig
from isoflop.training.garbage import collect, held_garbage
from isoflop.training.hardware import device_for
from isoflop.training.noise import propose_ramp
from isoflop.training.ranks import Ranks
from isoflop.training.run import Metrics, Run
from isoflop.training.sinks import SinkName, Sinks
from isoflop.training.trainer import Trainer


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
    run.start(config)
    if (done := run.summary) is not None:
        return done
    device = device_for(config.device)
    ranks = Ranks.join(device)
    with locked(path / ".lock") if ranks.leads else nullcontext():
        ranks.wait(device)  # until the files are the leader's: all then resume from the same checkpoint
        trainer = Trainer.build(config, run, ranks, accept_changed_data=accept_changed_data)
        with interruptible() as stopped, held_metrics(trainer, log_to) as metrics, closing(trainer.ahead):
            with held_garbage():
                loop(trainer, metrics, stopped, report)
            result = trainer.validation.measure(trainer.model, ranks)
        summary = summarise(trainer, result)
        trainer.save()
        if ranks.leads:
            run.finish(summary)
    return summary


def loop(trainer: Trainer, metrics: Metrics | None, stopped: Callable[[], bool], report: Report) -> None:
    """Step until the schedule's tokens are consumed, validating and saving on the way."""
    config, total = trainer.config, trainer.config.schedule.tokens
    label, saved = config.shape.name, time.monotonic()
    every = -(-total // max(1, config.validate_times))
    clock = trainer.watch.clock
    trainer.watch.begin(trainer.progress)
    while trainer.progress.tokens < total:
        before = trainer.progress.tokens
        line, stop = trainer.step(stopped())
        now = trainer.progress.tokens
        if now // every > before // every and now < total:
            with clock("validate"):
                line |= trainer.validation.measure(trainer.model, trainer.ranks, config.contexts.at(before))
        line |= trainer.watch.figures(trainer.progress)
        if metrics is not None:
            metrics.write(**line)
        report(label, now, total)
        if now in config.keep or stop or time.monotonic() - saved > config.checkpoint_seconds:
            with clock("save"):
                trainer.save()
                collect()
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"stopped at {now:,} of {total:,} tokens; the same command goes on from there")


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
        "threads": torch.get_num_threads() * trainer.ranks.count,
    }


def proposed(trainer: Trainer) -> BatchRamp:
    """The batches that the measured noise scale speaks for, from this run's first one."""
    return propose_ramp(trainer.run.metrics(), trainer.config.batch.first)
