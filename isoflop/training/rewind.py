"""Going back past a spike: the weights of an earlier checkpoint, and the data behind the spike.

The run's counters stay where they are: learning rate, batch, context and mixture are functions of tokens consumed, and
so they remain; the tokens from that checkpoint to here count for nothing and are not read again. PaLM shifted its data
instead, which needs a second counter; here a run that goes back trains on that many tokens less, and its summary
says so. Where to is arithmetic too: the newest checkpoint that every attempt at the run has written (``saving``) and
whose weights are trusted. So a run that is killed on the way ends with the bits it would have had.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isoflop.training import checkpoint
from isoflop.training.config import TrainConfig
from isoflop.training.guard import Rewind, Sentry

if TYPE_CHECKING:
    from isoflop.training.trainer import Trainer


def go_back(trainer: Trainer) -> Rewind | None:
    """Give every part the state of the newest trusted checkpoint; None where there is none or no return is left."""
    sentry, now = trainer.sentry, trainer.progress.tokens
    trainer.saver.wait()
    trainer.ranks.wait(trainer.device)  # the files are the leader's
    points = refuges(trainer.run.path, sentry, trainer.config, now) if sentry.left > 0 else []
    for tokens in sorted(points, reverse=True):
        path = checkpoint.folder(trainer.run.path, tokens)
        if checkpoint.read_marker(path) is not None:
            before, rewind = sentry.rewinds, Rewind(tokens, now)
            checkpoint.load(path, trainer.parts)
            sentry.gone_back(rewind, before)
            if trainer.ranks.leads:
                print(f"isoflop: {said(rewind)}", file=sys.stderr, flush=True)
            return rewind
    return None


def refuges(run: Path, sentry: Sentry, config: TrainConfig, consumed: int) -> list[int]:
    """The tokens of all checkpoints to which a run may go back now, ``consumed`` tokens into it."""
    trusted = sentry.trusted(consumed, largest_batch(config))
    found = (int(path.name) for path in checkpoint.folders(run))
    return [tokens for tokens in found if tokens <= trusted and certain(sentry, config, tokens)]


def certain(sentry: Sentry, config: TrainConfig, tokens: int) -> bool:
    """Whether every attempt at the run has a checkpoint at ``tokens``, of weights that were not given up."""
    returns = {rewind.until for rewind in sentry.rewinds}
    return not sentry.void(tokens) and (tokens in returns or config.saving.planned(config.batch, tokens))


def needed(run: Path, sentry: Sentry, config: TrainConfig, consumed: int) -> set[int]:
    """The checkpoints there are to which the run may go back, now or later."""
    if sentry.left <= 0:
        return set()
    since = max(refuges(run, sentry, config, consumed), default=0)
    found = (int(path.name) for path in checkpoint.folders(run))
    return {tokens for tokens in found if tokens >= since and certain(sentry, config, tokens)}


def largest_batch(config: TrainConfig) -> int:
    """The run's last batch in tokens: steps are turned into tokens by it, so that trust never shrinks."""
    return config.batch.at(config.schedule.tokens - 1)


def said(rewind: Rewind) -> str:
    """A return in words."""
    return (
        f"the spike at {rewind.until:,} tokens does not end: back to the weights of {rewind.to:,} tokens, and on from "
        f"here; the {rewind.until - rewind.to:,} tokens between are skipped"
    )
