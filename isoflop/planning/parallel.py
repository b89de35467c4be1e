"""How the processes of a run are arranged: degrees of parallelism in a config, and when they do not fit.

An arrangement is no part of what a run is: it changes no token and, but for rounding, no weight, so a run may go on
under another one. Llama 3 used all of these at once (arXiv 2407.21783, section 3.3.2). Instant; knows no torch. Left
out: expert parallelism, interleaved pipelines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from isoflop.planning.layout import Layout
from isoflop.planning.shape import Shape


@dataclass(frozen=True)
class Parallel:
    """Degrees whose product is the number of processes.

    Attributes:
        replicate: copies of all below, which share every batch and add up their gradients; 0 is as many as there are
            processes for.
        shard: ranks that share every batch and split weights, gradients and optimiser among them (FSDP; with
            ``replicate`` HSDP: copies should then be nodes, and their shards a node's GPUs).
        context: ranks that split every sequence, and gather its keys and values.
        tensor: ranks that split every matrix, and the sequence between matrices.
        pipeline: stages of consecutive blocks, through which micro-batches pass one after another.
    """

    replicate: int = 0
    shard: int = 1
    context: int = 1
    tensor: int = 1
    pipeline: int = 1

    def __post_init__(self) -> None:
        """Refuse degrees below one."""
        for name in ("shard", "context", "tensor", "pipeline"):
            if getattr(self, name) < 1:
                raise ValueError(f"parallel.{name} must be at least 1, not {getattr(self, name)}")
        if self.replicate < 0:
            raise ValueError(f"parallel.replicate must be 0, for as many as there are, or more, not {self.replicate}")

    @property
    def one_copy(self) -> int:
        """Processes that hold one copy of the run together."""
        return self.shard * self.context * self.tensor * self.pipeline

    @property
    def plain(self) -> bool:
        """Whether every process holds the whole model."""
        return self.one_copy == 1

    def processes(self, available: int) -> int:
        """Processes to start where ``available`` may run at once; more than that where a copy needs them."""
        return self.one_copy * (self.replicate or max(1, available // self.one_copy))

    def copies(self, world: int) -> int:
        """Copies in a world of so many processes; a ValueError where it does not divide into them."""
        copies = self.replicate or world // self.one_copy
        if copies * self.one_copy != world or copies == 0:
            needed = self.one_copy * self.replicate or f"a multiple of {self.one_copy}"
            raise ValueError(
                f"{world} process{'es' if world > 1 else ''} cannot be arranged as {self}; start {needed}, for example "
                f"by torchrun --nproc-per-node, or change parallel"
            )
        return copies

    def check(self, shape: Shape, world: int, batches: Iterable[tuple[int, int]]) -> None:
        """Refuse, as a ValueError, what cannot be laid out so; ``batches`` are the run's (sequences, context)."""
        if objection := self.objection(shape, world, batches):
            raise ValueError(f"the model cannot be trained as {self}: {objection}")

    def objection(self, shape: Shape, world: int, batches: Iterable[tuple[int, int]]) -> str | None:
        """The first thing that does not divide, or None."""
        layout = Layout(tensor=self.tensor, context=self.context, pipeline=self.pipeline)
        if refused := layout.objection(shape):
            return refused
        if shape.experts and layout.devices > 1:
            return "experts are only replicated or sharded so far; use parallel.replicate and parallel.shard"
        if shape.attention_cap and self.context > 1:
            return "capped scores are not computed over context ranks; use parallel.tensor or parallel.shard"
        pieces = self.tensor * (self.context if self.context == 1 else 2 * self.context)
        data = self.copies(world) * self.shard
        for sequences, context in batches:
            if context % pieces:
                return f"a context of {context:,} does not cut into {pieces} pieces over tensor and context ranks"
            if self.shard > 1 and sequences % data:
                return f"a batch of {sequences:,} sequences does not divide over {data} ranks that shard the weights"
        return None

    def stage(self, layers: int, stage: int) -> range:
        """The blocks of a pipeline stage; where they do not divide, the first and the last have one less each."""
        if layers % self.pipeline == 0:
            each = layers // self.pipeline
            return range(stage * each, (stage + 1) * each)
        each = (layers + 2) // self.pipeline
        return range(max(0, stage * each - 1), min(layers, (stage + 1) * each - 1))

    def __str__(self) -> str:
        degrees = {
            "copies": self.replicate,
            "FSDP": self.shard,
            "CP": self.context,
            "TP": self.tensor,
            "PP": self.pipeline,
        }
        return " × ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "copies"
