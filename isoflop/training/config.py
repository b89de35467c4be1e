"""What a training run is made of, as one frozen value that a TOML file holds. Knows no torch: plans read it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isoflop.planning.layout import Recompute
from isoflop.planning.shape import Shape
from isoflop.training.schedule import BatchRamp, Schedule


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW's constants and the clip of the gradient's norm (``training.optimizer``)."""

    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    eps: float = 1e-8
    clip: float = 1.0


@dataclass(frozen=True)
class Branch:
    """Where a run leaves another: the parent's directory, relative to this run's own, and the tokens consumed."""

    parent: str
    tokens: int


@dataclass(frozen=True)
class TrainConfig:
    """One run: a shape, its data, its schedules.

    Attributes:
        data: folder of prepared tokens, relative to the run's directory or absolute.
        micro_tokens: tokens per forward pass; a batch is accumulated from equal pieces of at most this size.
        precision: compute type; ``auto`` is bf16 where the hardware multiplies it natively, else fp32.
        recompute: what the backward pass computes again instead of keeping it: with ``blocks`` every block, for a third
            more arithmetic and far less memory (``planning.memory`` says how much less).
        compile: ``auto`` compiles where a C++ compiler is installed and the run is long enough to repay it.
        validate_times: validations over the run, evenly spread; the last is at the end.
        validation_tokens: tokens of the fixed validation sample.
        checkpoint_seconds: time between checkpoints, which only bounds what a crash loses.
        keep: token counts whose checkpoints are kept, for branches.
        branch: the trunk this run continues, if it is a branch.
    """

    shape: Shape
    data: str
    schedule: Schedule
    batch: BatchRamp
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    micro_tokens: int = 1024
    recompute: Recompute = "none"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    validate_times: int = 4
    validation_tokens: int = 131_072
    checkpoint_seconds: float = 30.0
    keep: tuple[int, ...] = ()
    branch: Branch | None = None

    def __post_init__(self) -> None:
        """Refuse a batch that does not cut into whole sequences."""
        if self.batch.first % self.shape.context:
            raise ValueError(
                f"a batch of {self.batch.first} tokens does not hold whole sequences of {self.shape.context}; "
                f"make batch.first a multiple of the context"
            )

    @property
    def flops(self) -> float:
        """Training FLOPs of the whole run as 6·N·D, N = ``matmul`` parameters."""
        return 6.0 * self.shape.matmul * self.schedule.tokens
