"""What a training run is made of, as one frozen value that a TOML file holds. Knows no torch: plans read it too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from isoflop.planning.averaging import Averaging
from isoflop.planning.gates import Gate, Gates, places
from isoflop.planning.layout import Recompute
from isoflop.planning.parallel import Parallel
from isoflop.planning.schedule import BatchRamp, ContextRamp, RopeStage, Schedule, check_ropes, rope_at
from isoflop.planning.shape import Shape
from isoflop.tokens.loader import Packing
from isoflop.tokens.mixture import Mixture, Source
from isoflop.training.guard import Guard
from isoflop.training.saving import Saving


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser's constants and the clip of the gradient's norm (``training.optimizer``).

    ``muon`` is Muon for the matrices of blocks, with ``momentum``, and AdamW for all else; ``adamw`` is AdamW alone.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    eps: float = 1e-8
    clip: float = 1.0
    kind: Literal["adamw", "muon"] = "adamw"
    momentum: float = 0.95


@dataclass(frozen=True)
class Teacher:
    """The run whose distributions a run learns from (``training.distillation``).

    Attributes:
        run: directory of the teacher's run, relative to the student's or absolute; its newest checkpoint teaches.
        weight: share of the teacher in the objective; the rest is the tokens'. Gemma 2 has 1.
        top_k: 0 for the whole distribution, the teacher running beside the student; else the so many likeliest tokens,
            which ``isoflop distil`` has asked it for beforehand.
        temperature: by which both sides' logits are divided, τ; the teacher's term is then scaled by τ².
    """

    run: str
    weight: float = 1.0
    top_k: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that are none of these."""
        if not 0 < self.weight <= 1 or self.top_k < 0 or not self.temperature > 0:
            raise ValueError(
                f"a teacher needs a weight above 0 and up to 1, a top_k of 0 or more and a temperature above 0: {self}"
            )


@dataclass(frozen=True)
class Branch:
    """Where a run leaves another: the parent's directory, relative to this run's own, and the tokens consumed."""

    parent: str
    tokens: int


@dataclass(frozen=True)
class TrainConfig:
    """One run: a shape, its data, its schedules.

    Attributes:
        shape: the network; its context is the longest of the run, the last of ``context`` if that is given.
        data: folder of prepared tokens, relative to the run's directory or absolute; empty with a mixture.
        mixture: several such folders and their shares over the run, instead of one (``tokens.mixture``).
        packing: ``cut`` for sequences cut from the stream of documents, ``fit`` for documents packed into them whole,
            with a little padding, which counts among the run's tokens but is no target (``tokens.packing``).
        document_mask: whether a token sees those of its own document only, in training and in validation; without it
            also the documents before it in its sequence, as is usual.
        micro_tokens: tokens per forward pass; a batch is accumulated from equal pieces of at most this size.
        read_ahead: how many reads, of about 65,000 tokens at most, a thread does beforehand; changes no batch.
        precision: compute type; ``auto`` is bf16 where the hardware multiplies it natively, else fp32.
        recompute: what the backward pass computes again instead of keeping it: with ``blocks`` every block, for a third
            more arithmetic and far less memory (``planning.memory`` says how much less).
        compile: ``auto`` compiles where a C++ compiler is installed and the run is long enough to repay it.
        validate_times: validations over the run, evenly spread; the last is at the end.
        validation_tokens: tokens of the fixed validation sample.
        checkpoint_seconds: time between checkpoints, which only bounds what a crash loses.
        keep: token counts whose checkpoints are kept, for branches.
        saving: checkpoints by tokens, how many stay, and whether they are written in the background.
        guard: which steps are skipped, and when the run goes back to an earlier checkpoint.
        hang_seconds: a step that takes longer ends the process, which leaves its stacks behind; 0 takes thirty times
            the slowest step so far, five minutes at least (``training.watchdog``).
        branch: the trunk this run continues, if it is a branch.
        context: how the context grows; by default it is the shape's throughout.
        initial: where the first weights are from instead of chance: a Hugging Face folder, another run, or what else
            ``training.weights`` opens, relative to the run's directory or absolute. Its shape must be this one, but for
            the context; a branch has its trunk's.
        rope: how the rotary embedding changes; the last is the shape's, which by default it is throughout.
        average: over which tokens the weights are averaged (``training.averaging``), if at all.
        gates: what long-context stages must reach before the run goes on (``training.gates``), if anything.
        z_loss: weight of log²Z in the objective, which keeps logits near 0; PaLM has 1e-4. Reported losses are without.
        teacher: another run whose distributions this one learns from, beside or instead of the tokens.
        noise_scale: measure the gradient noise scale, the batch in tokens beyond which more buys little
            (``training.noise``).
        parallel: how processes share the work; no part of what the run is, so it may go on under another.
    """

    shape: Shape
    schedule: Schedule
    batch: BatchRamp
    data: str = ""
    mixture: Mixture | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    packing: Packing = "cut"
    document_mask: bool = False
    micro_tokens: int = 1024
    read_ahead: int = 2
    recompute: Recompute = "none"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    validate_times: int = 4
    validation_tokens: int = 131_072
    checkpoint_seconds: float = 30.0
    keep: tuple[int, ...] = ()
    branch: Branch | None = None
    context: ContextRamp | None = None
    initial: str | None = None
    rope: tuple[RopeStage, ...] = ()
    average: Averaging | None = None
    gates: Gates | None = None
    z_loss: float = 0.0
    teacher: Teacher | None = None
    noise_scale: bool = False
    saving: Saving = field(default_factory=Saving)
    guard: Guard = field(default_factory=Guard)
    hang_seconds: float = 0.0
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        """Refuse a run without data or with two kinds of it, and contexts that do not fit the shape or the batches."""
        if bool(self.data) == (self.mixture is not None):
            raise ValueError("a run needs either data, one folder of prepared tokens, or a mixture of several")
        if self.initial is not None and self.branch is not None:
            raise ValueError("a branch begins with its trunk's weights; give either branch or initial")
        if self.rope:
            check_ropes(self.rope, self.shape)
        if self.guard.rewinds and not (self.saving.every_tokens or self.saving.keep_every_tokens):
            raise ValueError(
                f"guard.rewinds = {self.guard.rewinds} goes back to checkpoints at known tokens, of which there are "
                "none; set saving.every_tokens"
            )
        if not self.parallel.plain and (whole := self.wholes):
            raise ValueError(
                f"{whole[0]} needs every process to hold the whole model so far; train with parallel.replicate alone, "
                f"or without it"
            )
        self.refuse_contexts()

    def refuse_contexts(self) -> None:
        """Refuse contexts that fit neither the shape, the packing nor the batches."""
        if self.packing == "fit" and self.contexts.first != self.shape.context:
            raise ValueError('packing = "fit" plans sequences of one length; with a context that grows, use "cut"')
        if self.contexts.last != self.shape.context:
            raise ValueError(
                f"the context grows to {self.contexts.last:,} tokens but shape.context is {self.shape.context:,}; "
                f"make shape.context, the longest, equal to the ramp's last"
            )
        for start, _, context in self.contexts.stages(0, self.schedule.tokens):
            if (boundary := self.batch.align(start)) != start:
                raise ValueError(
                    f"the context grows to {context:,} at {start:,} tokens, in the middle of the batch that ends at "
                    f"{boundary:,}; move that threshold to {self.batch.align(start, self.shape.context):,}"
                )
            if (size := self.batch.at(start)) % context:
                raise ValueError(
                    f"a batch of {size:,} tokens, as at {start:,} tokens, does not hold whole sequences of "
                    f"{context:,}; make batch.first a multiple of the context"
                )

    @property
    def wholes(self) -> list[str]:
        """What of this config is not written for models of which a process holds a part."""
        asked = {
            "noise_scale": self.noise_scale,
            "a teacher": self.teacher is not None,
            'optimizer.kind = "muon"': self.optimizer.kind == "muon",
            "gates": self.gates is not None,
            "average": self.average is not None,
        }
        return [name for name, wanted in asked.items() if wanted]

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the run reads, whether it is one folder or a mixture."""
        return self.mixture.sources if self.mixture else (Source("data", self.data),)

    @property
    def blends(self) -> Mixture:
        """The mixture, whether there are several sources or one."""
        return self.mixture or Mixture.constant(self.sources, {"data": 1.0})

    @property
    def contexts(self) -> ContextRamp:
        """The context length over the run, whether it grows or not."""
        return self.context or ContextRamp(self.shape.context)

    def regime(self, consumed: int) -> tuple[int, int, int]:
        """Batch and context of the step after ``consumed`` tokens, and the tokens from which its blend is in force."""
        blend = max(blend.at for blend in self.blends.blends if blend.at <= consumed)
        return self.batch.at(consumed), self.contexts.at(consumed), blend

    @property
    def ropes(self) -> tuple[RopeStage, ...]:
        """The rotary embedding over the run, whether it changes or not."""
        return self.rope or (RopeStage(0, self.shape.rope_theta, self.shape.rope_scaling),)

    def rope_at(self, consumed: int) -> RopeStage:
        """The rotary embedding of the step that starts after ``consumed`` tokens."""
        return rope_at(self.ropes, consumed)

    @property
    def gated(self) -> list[Gate]:
        """Where the run meets gates."""
        return places(self.gates, self.contexts, self.schedule) if self.gates else []

    @property
    def kept(self) -> set[int]:
        """Token counts whose checkpoints are kept: ``keep``, and where gated stages begin, for longer branches."""
        return {*self.keep, *(gate.start for gate in self.gated if not gate.first)}

    @property
    def batches(self) -> set[tuple[int, int]]:
        """Every kind of batch in the run, as sequences and their context."""
        last = self.schedule.tokens
        grown = (self.batch.align(threshold) for threshold in self.batch.thresholds if threshold < last)
        starts = {0, *grown, *(stage.start for stage in self.contexts.stages(0, last))}
        return {(self.batch.at(s) // self.contexts.at(s), self.contexts.at(s)) for s in starts if s < last}

    @property
    def flops(self) -> float:
        """Training FLOPs of the whole run as 6·N·D, N = ``matmul`` parameters."""
        return 6.0 * self.shape.matmul * self.schedule.tokens

    def flops_exact(self, start: int, end: int) -> float:
        """Training FLOPs of the tokens ``start`` … ``end`` of the run, attention counted at the context of each."""
        stages = self.contexts.stages(start, end)
        return float(sum(self.shape.flops_per_token_at(s.value) * int(s.end - s.start) for s in stages))
