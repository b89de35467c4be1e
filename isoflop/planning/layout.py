"""How a training step is laid out over devices: degrees of parallelism, what is sharded, what is recomputed.

Only the numbers, and the refusals that follow from a shape; what a layout costs is the business of
:mod:`isoflop.planning.memory` and :mod:`isoflop.planning.throughput`, which is chosen that of
:mod:`isoflop.planning.placement`. Instant. Left out: expert parallelism, interleaved pipelines, uneven stages but for
the two layers that embedding and head stand for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from isoflop.planning.shape import Shape

Sharding = Literal["none", "optimizer", "gradients", "weights"]
"""What data-parallel ranks split among them, each with all before it (ZeRO stages 0 to 3; FSDP is ``weights``)."""

Recompute = Literal["none", "blocks"]
"""What of the forward pass is done again in the backward pass: nothing, or every block from its input."""


@dataclass(frozen=True)
class Layout:
    """Degrees of tensor, context, pipeline and data parallelism, whose product is the number of devices.

    Sequence parallelism goes with tensor parallelism: activations between blocks are split over its ranks too.
    Context-parallel ranks hold the same weights and share their sharding with the data-parallel ones. ``rows`` is the
    number of sequences in one micro-batch of a data-parallel group.
    """

    tensor: int = 1
    context: int = 1
    pipeline: int = 1
    data: int = 1
    sharding: Sharding = "none"
    recompute: Recompute = "none"
    rows: int = 1

    def __post_init__(self) -> None:
        """Refuse degrees below one."""
        for name in ("tensor", "context", "pipeline", "data", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"a layout's {name} must be at least 1, not {getattr(self, name)}")

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.tensor * self.context * self.pipeline * self.data

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights, and share what is sharded: data- and context-parallel ones."""
        return self.data * self.context

    def objection(self, shape: Shape) -> str | None:
        """Why this shape cannot be laid out so, or None if it can; a vocabulary that does not divide is padded."""
        if shape.kv_heads % self.tensor:
            return f"{shape.kv_heads} key-value heads do not divide over {self.tensor} tensor-parallel ranks"
        if shape.ffn % self.tensor:
            return f"FFN {shape.ffn} does not divide over {self.tensor} tensor-parallel ranks"
        if shape.context % (2 * self.context) and self.context > 1:
            return f"a context of {shape.context} does not cut into {2 * self.context} chunks for context parallelism"
        if self.pipeline > 1 and shape.layers % self.pipeline and (shape.layers + 2) % self.pipeline:
            return (
                f"{shape.layers} layers (or {shape.layers + 2} with embedding and head as one each) do not divide over "
                f"{self.pipeline} pipeline stages"
            )
        return None

    def layers_of(self, shape: Shape) -> int:
        """Layers on the fullest pipeline stage."""
        return -(-shape.layers // self.pipeline)

    def __str__(self) -> str:
        degrees = (("TP", self.tensor), ("CP", self.context), ("PP", self.pipeline), ("DP", self.data))
        parts = [f"{name} {degree}" for name, degree in degrees if degree > 1] or ["one device"]
        if self.sharding != "none" and self.replicas > 1:
            parts.append(f"{self.sharding} sharded")
        if self.recompute != "none":
            parts.append(f"{self.recompute} recomputed")
        return ", ".join([*parts, f"{self.rows} sequence{'s' if self.rows > 1 else ''} a micro-batch"])

    def to_json(self) -> dict[str, Any]:
        """The layout as plain values."""
        return asdict(self)
