"""Stages with all of one machine: its GPU, or one pinned, one-thread process per processor that share every batch.

Every process reads the stage's directory and prepares its task itself, so nothing is handed over. What two processes
add up to differs from one by rounding alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from isoflop import config as configuration
from isoflop.interrupt import follow_parent
from isoflop.posttraining.dpo import Preferring
from isoflop.posttraining.outlook import Outlook
from isoflop.posttraining.reward import RewardTraining
from isoflop.posttraining.settings import DPOConfig, RewardConfig, SFTConfig, StageConfig, TeachConfig
from isoflop.posttraining.sft import FineTuning
from isoflop.posttraining.stage import CONFIG, begin, perform
from isoflop.posttraining.task import Task
from isoflop.posttraining.teaching import Teaching
from isoflop.posttraining.trainer import Stage
from isoflop.processors import processors, ranks_for
from isoflop.progress import Report, silent
from isoflop.training.hardware import device_for
from isoflop.training.launch import attend
from isoflop.training.rank import exit_status
from isoflop.training.run import Run

TASKS: dict[type[StageConfig], Callable[[Any, Path], Task]] = {
    SFTConfig: FineTuning,
    RewardConfig: RewardTraining.read,
    DPOConfig: Preferring,
    TeachConfig: Teaching,
}
"""What makes the task of a stage, by the type of its config: called with that and the stage's directory."""


def perform_here(config: StageConfig, path: Path, report: Report = silent, ranks: int | None = None) -> dict[str, Any]:
    """Do, or go on with, the stage in directory ``path`` with ``ranks`` processes; returns its summary.

    By default that is one with a GPU, and on a CPU one a processor. Raises what :func:`posttraining.stage.perform`
    does, and RuntimeError with the last words of a process that failed.
    """
    prepare = partial(TASKS[type(config)], config, path)
    count = ranks_of(config) if ranks is None else ranks
    if not 1 <= count <= max(1, len(processors())):
        raise ValueError(f"a stage is shared by 1 to {len(processors())} processes on this machine, not {count}")
    if count == 1:
        return perform(config, path, prepare, report)
    begin(config, path)
    run = Run(path)
    if run.summary is None:
        command = [sys.executable, "-m", "isoflop.posttraining.launch", config.kind, str(path)]

        def epoch() -> float:
            return float(run.last_line().get("epoch", 0.0))

        def reached() -> str:
            return f"{epoch():.2f} of {config.epochs:g} epochs"

        attend(run, command, processors()[:count], lambda: report(config.kind, epoch(), config.epochs), reached)
    assert run.summary is not None
    return run.summary


def outlook(config: StageConfig, path: Path, ranks: int | None = None) -> tuple[Outlook, dict[str, Any]]:
    """What the stage in directory ``path`` would do and cost, and what its task says besides; writes nothing."""
    stage = Stage(config, TASKS[type(config)](config, path), Run(path))
    return Outlook.of(stage, ranks_of(config) if ranks is None else ranks), stage.task.summary()


def ranks_of(config: StageConfig) -> int:
    """Processes that share a stage here: one with a GPU or where torchrun has started several, else one a processor."""
    if "WORLD_SIZE" in os.environ or device_for(config.device).type == "cuda":
        return 1
    return ranks_for(config.batch)


def as_rank(kind: str, path: Path) -> int:
    """Do a stage as one of several processes; returns the exit status."""
    known = next(config for config in TASKS if config.kind == kind)

    def work() -> None:
        config = configuration.load(known, path / CONFIG)
        perform(config, path, partial(TASKS[known], config, path))

    return exit_status(work)


if __name__ == "__main__":
    follow_parent()
    sys.exit(as_rank(sys.argv[1], Path(sys.argv[2])))
