"""Where a run leaves another: the trunk's checkpoint, once both are known to be the same run up to there.

That agreement is checked, of everything that a step depends on: learning rate, batches, contexts, mixture, seed and
tokens.
"""

from __future__ import annotations

import os
from pathlib import Path

from isoflop.planning.averaging import agree as same_average
from isoflop.planning.schedule import agree
from isoflop.tokens.blended import agree as same_samples
from isoflop.tokens.blended import segments
from isoflop.training import checkpoint, data
from isoflop.training.config import Branch, TrainConfig
from isoflop.training.run import Run


def branch_point(run: Run, config: TrainConfig) -> Path:
    """The trunk's checkpoint where a branch begins, once both configs are known to agree up to there."""
    assert config.branch is not None
    parent = parent_of(run, config.branch)
    trunk, at = parent.config, config.branch.tokens
    same_batches = trunk.batch == config.batch and trunk.seed == config.seed and trunk.packing == config.packing
    same_sequences = trunk.contexts.agrees(config.contexts, at) and blends_agree(trunk, config, at)
    same_ropes = [rope for rope in trunk.ropes if rope.at < at] == [rope for rope in config.ropes if rope.at < at]
    same_rates = agree(trunk.schedule, config.schedule, at) and same_average(trunk.average, config.average, at)
    if not (same_batches and same_sequences and same_ropes and same_rates):
        raise ValueError(
            f"{run.path} cannot branch from {parent.path} at {at:,} tokens: their learning rates, batches, contexts, "
            f"rope, averages, packing, mixtures or seeds differ before that point, so it would not be the run that its "
            f"config describes"
        )
    return checkpoint.folder(parent.path, at)


def parent_of(run: Run, branch: Branch) -> Run:
    """The trunk of a branch."""
    return Run(Path(os.path.normpath(run.path / branch.parent)))


def blends_agree(one: TrainConfig, other: TrainConfig, until: int) -> bool:
    """Whether two runs draw the same samples of the same sources up to ``until`` tokens."""
    names = [[(source.name, source.tokens) for source in config.sources] for config in (one, other)]
    cuts = [segments(config.blends, config.contexts.stages()) for config in (one, other)]
    return names[0] == names[1] and same_samples(cuts[0], cuts[1], until)


def check_branch_data(run: Run, branch: Branch, now: data.Record) -> None:
    """A ValueError when a branch's tokens are not those that its trunk read last."""
    trunk = data.recorded(parent_of(run, branch).path)
    if trunk is not None and (changed := data.differences(trunk["sources"], now)):
        raise ValueError(f"{run.path} cannot branch: its data is not its trunk's ({'; '.join(changed)})")
