"""When a run writes checkpoints and which of them stay: arithmetic on tokens consumed, beside the newest few.

Checkpoints by the clock bound what a crash loses and differ from one attempt at a run to the next. Those by tokens are
written at the same steps whatever happened, so what goes back to one (``training.rewind``) is a function of the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isoflop.planning.schedule import BatchRamp


@dataclass(frozen=True)
class Saving:
    """Which checkpoints there are besides those by the clock (``checkpoint_seconds``) and those named (``keep``).

    Attributes:
        every_tokens: a checkpoint with the step that reaches each multiple of so many tokens; 0 for none.
        keep_last: how many of the newest stay.
        keep_every_tokens: the same as ``every_tokens``, of checkpoints that stay for good; 0 for none.
        background: write in a thread while training goes on, from a copy of everything in the machine's memory (12
            bytes a parameter with AdamW). ``auto`` does so where the weights are a GPU's; on a CPU the thread takes
            its time from the training.
        memory: a folder in memory, as /dev/shm, for checkpoints that survive the process alone (``training.scratch``).
        memory_seconds: time between those.
    """

    every_tokens: int = 0
    keep_last: int = 1
    keep_every_tokens: int = 0
    background: Literal["auto", "always", "never"] = "auto"
    memory: str = ""
    memory_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.keep_last < 1 or self.every_tokens < 0 or self.keep_every_tokens < 0:
            raise ValueError(f"a run keeps its newest checkpoint at least, and intervals are not below 0: {self}")

    def planned(self, batch: BatchRamp, tokens: int) -> bool:
        """Whether a step ends at ``tokens`` at which every attempt at the run writes a checkpoint."""
        return self.stays(batch, tokens) or reaches(batch, tokens, self.every_tokens)

    def stays(self, batch: BatchRamp, tokens: int) -> bool:
        """Whether the checkpoint at ``tokens`` is one to keep for good."""
        return reaches(batch, tokens, self.keep_every_tokens)


def reaches(batch: BatchRamp, tokens: int, every: int) -> bool:
    """Whether the step that ends at ``tokens`` is the first to reach a multiple of ``every`` above 0."""
    return every > 0 and tokens >= every and batch.align(tokens // every * every) == tokens
