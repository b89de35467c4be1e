"""The loop that every stage of post-training is: batches of examples, an objective, AdamW, and a model at the end.

A stage is a directory: ``stage.toml`` (its config as resolved), ``metrics.jsonl``, ``checkpoints/`` while it goes on,
``summary.json``, and at its end the model itself. What is particular to a stage is its task (``posttraining.task``).

Steps (``posttraining.trainer``) until all examples were learnt from, measurements and checkpoints on the way. The same
command resumes after any interruption and, on a CPU, ends with the same bits.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from isoflop import config as configuration
from isoflop.files import locked
from isoflop.interrupt import Interrupted, interruptible
from isoflop.model.export import add_ours
from isoflop.model.peft import adapter_files
from isoflop.model.source import Held
from isoflop.posttraining.settings import StageConfig
from isoflop.posttraining.task import Task
from isoflop.posttraining.trainer import Stage
from isoflop.progress import Report, silent
from isoflop.tokens.manifest import TOKENIZER
from isoflop.training.hardware import device_for
from isoflop.training.loop import Clock
from isoflop.training.ranks import Ranks
from isoflop.training.run import Metrics, Run

CONFIG = "stage.toml"


def perform(config: StageConfig, path: Path, prepare: Callable[[], Task], report: Report = silent) -> dict[str, Any]:
    """Do, or go on with, the stage in directory ``path``; returns its summary.

    ``prepare`` makes its task, which a finished stage needs no more. On Ctrl-C or SIGTERM a checkpoint is written and
    Interrupted raised. Raises ValueError where the directory was started with another config or other examples.
    """
    run, device = Run(path), device_for(config.device)
    if int(os.environ.get("RANK", "0")) == 0:
        begin(config, path)
    if (done := run.summary) is not None:
        return done
    ranks = Ranks.join(device)
    with locked(path / ".lock") if ranks.leads else nullcontext():
        ranks.wait(device)  # until the files are the leader's
        task = prepare()
        task.begin(ranks, report)
        stage = Stage(config, task, run, ranks)
        stage.resume()
        with interruptible() as stopped:
            measured = loop(stage, stopped, report)
        summary = stage.summarise(measured)
        if ranks.leads:
            add_ours(Held(task.model), path, beside=files(config, task))
            run.finish(summary)
            shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return summary


def files(config: StageConfig, task: Task) -> dict[str, bytes]:
    """What is written beside the model: its tokenizer, adapters that were trained, what the task has."""
    adapters = adapter_files(task.model, config.lora, config.model) if config.lora.rank else {}
    return {TOKENIZER: task.tokenizer.to_bytes(), **adapters, **task.files()}


def begin(config: StageConfig, path: Path) -> None:
    """Record the config, or check that it is the one the directory was started with."""
    configuration.record(config, path / CONFIG, f"isoflop {config.kind}")


def loop(stage: Stage, stopped: Callable[[], bool], report: Report) -> dict[str, Any]:
    """Step until all examples were learnt from, measuring and saving on the way; returns the last measurement."""
    every = -(-stage.steps // max(1, stage.config.validate_times))
    clock, leads = Clock(stage.config.checkpoint_seconds), stage.ranks.leads
    with closing(Metrics(stage.run)) if leads else nullcontext() as metrics:
        measured = stage.measure() if stage.progress.step in (0, stage.steps) else {}
        if metrics is not None and not stage.progress.step:
            metrics.write(tokens=0, step=0, **measured)
        while (step := stage.progress.step) < stage.steps:
            line, stop, save = stage.step(stopped(), leads and clock.due())
            if (step + 1) % every == 0 or step + 1 == stage.steps:
                measured = stage.measure()
                line |= measured
            if metrics is not None:
                metrics.write(**line)
            report(stage.config.kind, step + 1, stage.steps)
            if save or stop:
                stage.save()
                clock.wind()
            if stop and step + 1 < stage.steps:
                raise Interrupted(f"stopped after {step + 1:,} of {stage.steps:,} steps; the same command goes on")
    return measured
