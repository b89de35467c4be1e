"""Peak memory of one device, in training and in inference, by part: plain arithmetic, 75 to 190 µs a question.

A training step's memory rises through the forward pass and falls through the backward pass while gradients grow, so its
peak is the fullest of a handful of moments, in each of which everything alive can be counted: the loss, its backward
pass, the backward pass of the last and of the first block, the embedding's, and the update. :func:`training_memory`
counts them all and returns the fullest. ``benchmarks/memory.py`` holds it against real runs.

Of layouts over several devices only replicas that hold everything are what this project's trainer does; the others
follow the papers named where they are counted, and were not measured. Left out: what an allocator holds back of freed
memory, kernels' workspaces, the host's memory, and activations offloaded there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from isoflop.planning.block_memory import BF16, FP32, FULL, GPU, MIXED, PURE_BF16, ZERO, Engine, Numerics, block_memory
from isoflop.planning.layout import Layout
from isoflop.planning.shape import Shape

__all__ = [
    "BF16",
    "FULL",
    "GPU",
    "MIXED",
    "PURE_BF16",
    "ZERO",
    "Engine",
    "InferenceMemory",
    "Numerics",
    "TrainingMemory",
    "inference_memory",
    "training_memory",
]

GIB = 2**30
CHUNK = 1 << 20
"""``training.loss``'s CHUNK_ELEMENTS: logits held at once."""
BASE = {"cpu": 0.34e9, "cuda": 1.0e9}
"""A process that is ready to train: torch's libraries (``benchmarks/memory.py``), or a CUDA context (an assumption)."""
COMPILER = 0.09e9
"""Of torch's compiler, resident in a process whose graphs come from its cache (``benchmarks/memory.py``)."""


class Memory:
    """Bytes by part; the parts are the numbers among the fields of the dataclass that derives from this."""

    @property
    def parts(self) -> dict[str, float]:
        """The parts by name."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, str)}

    @property
    def total(self) -> float:
        """All parts together, in bytes."""
        return sum(self.parts.values())

    def fits(self, memory: float, share: float = 0.9) -> bool:
        """Whether it fits a share of a device's memory; the rest is for the allocator's slack."""
        return self.total <= share * memory

    def to_json(self) -> dict[str, Any]:
        """The parts and their total as plain values."""
        return vars(self) | {"total": self.total}

    def __str__(self) -> str:
        rows = sorted(self.parts.items(), key=lambda part: -part[1])
        return "\n".join(f"{name:<14}{n / GIB:9.3f} GiB" for name, n in [("total", self.total), *rows] if n)


@dataclass(frozen=True)
class TrainingMemory(Memory):
    """Peak bytes of the fullest device. The parts are those of one ``moment``, the fullest of a step.

    ``activations`` are kept for the backward pass, ``copies`` are weights kept in the compute type, ``working`` what a
    block's backward pass holds beside them, ``loss`` logits, and the gradients that the loss makes on the way forward.
    """

    moment: str
    weights: float
    gradients: float
    optimizer: float
    copies: float = 0.0
    activations: float = 0.0
    working: float = 0.0
    loss: float = 0.0
    communication: float = 0.0
    base: float = 0.0


def training_memory(
    shape: Shape,
    layout: Layout,
    *,
    numerics: Numerics = BF16,
    engine: Engine = GPU,
    in_flight: int | None = None,
    accumulate: bool = True,
    base: float | None = None,
) -> TrainingMemory:
    """Peak memory of the fullest pipeline stage's devices in one training step.

    ``in_flight`` is the number of micro-batches whose activations the first stage holds: by default as many as there
    are stages, one-forward-one-backward's. ``accumulate``: a step has several micro-batches, so that gradients are
    there before the last one begins. ``base`` replaces :func:`base_memory`'s bytes. Raises ValueError for a layout that
    does not fit the shape.
    """
    if objection := layout.objection(shape):
        raise ValueError(f"{shape.name} cannot be laid out as {layout}: {objection}")
    base = base_memory(engine) if base is None else base
    every = stages(shape, layout, in_flight)
    peaks = [Step(shape, layout, numerics, engine, stage, accumulate, base).peak() for stage in every]
    return max(peaks, key=lambda memory: memory.total)


def base_memory(engine: Engine) -> float:
    """Bytes of a device before it holds a model: on a CPU the process, with its compiler where it compiles."""
    return BASE[engine.device] + (COMPILER if engine.compiled and engine.device == "cpu" else 0.0)


@dataclass(frozen=True)
class Stage:
    """A pipeline stage: its blocks, whether it embeds and predicts, and the micro-batches it holds at once."""

    layers: int
    embeds: bool
    predicts: bool
    in_flight: int


def stages(shape: Shape, layout: Layout, in_flight: int | None) -> Iterator[Stage]:
    """The stages that may be the fullest: the first, the last, and of those between the second.

    Where layers do not divide, the first and the last have one fewer (``Layout.objection``).
    """
    depth, layers = layout.pipeline, layout.layers_of(shape)
    held = in_flight or depth
    if depth == 1:
        yield Stage(layers, True, True, held)
        return
    ends = layers - 1 if shape.layers % depth else layers
    yield Stage(ends, True, False, held)
    yield Stage(ends, False, True, max(1, held - depth + 1))
    if depth > 2:
        yield Stage(layers, False, False, max(1, held - 1))


class Moment(NamedTuple):
    """What changes within a step: bytes alive at one of its moments, by part."""

    name: str
    gradients: float
    copies: float = 0.0
    activations: float = 0.0
    working: float = 0.0
    loss: float = 0.0
    communication: float = 0.0


@dataclass(frozen=True)
class Step:
    """One training step on one stage's device: everything alive at each of its moments."""

    shape: Shape
    layout: Layout
    numerics: Numerics
    engine: Engine
    stage: Stage
    accumulate: bool
    base: float

    def peak(self) -> TrainingMemory:
        """The fullest moment, by part."""
        numerics, sharding = self.numerics, self.layout.sharding
        share = 1 / self.layout.replicas
        fullest = max(self.moments(), key=lambda moment: sum(moment[1:]))
        return TrainingMemory(
            moment=fullest.name,
            weights=self.parameters * numerics.weights * (share if sharding == "weights" else 1),
            gradients=fullest.gradients,
            optimizer=self.parameters * numerics.optimizer * (1 if sharding == "none" else share),
            copies=fullest.copies,
            activations=fullest.activations,
            working=fullest.working,
            loss=fullest.loss,
            communication=fullest.communication,
            base=self.base,
        )

    def moments(self) -> Iterator[Moment]:
        """The moments that can be the fullest, in their order. A block that is done has freed what it kept."""
        shape, layout, stage = self.shape, self.layout, self.stage
        block = block_memory(shape, layout.rows, self.numerics, self.engine, layout.tensor, layout.context)
        again = layout.recompute == "blocks"
        apiece = self.stream if again else block.kept
        redone = block.kept - self.stream * self.keeps_input if again else 0.0
        earlier = apiece * stage.layers * (stage.in_flight - 1)
        every = earlier + apiece * stage.layers
        copy = 0.0 if self.gathers else self.numerics.copy * shape.layer_matrices / layout.tensor
        copies = copy * stage.layers
        between = self.gathered
        if stage.predicts:
            kept, copied = every + self.final, 0.0 if again else copies
            before = self.gradients(0.0)
            yield Moment("the loss", before, copied, kept, 0.0, self.loss, between)
            yield Moment("the loss's backward pass", before, copied, kept, 0.0, 2 * self.head_gradients, between)
        down = (
            shape.layer_experts * shape.ffn * shape.width / layout.tensor
        )  # the one gradient of a block that is there at its fullest
        working, waiting = block.working + self.stream, self.waiting
        begun = self.gradients(self.head + down)
        kept, copied = every + redone, copy if again else copies
        yield Moment("the last block's backward pass", begun, copied, kept, working, waiting, between)
        ended = self.gradients(self.parameters - self.layer + down - self.own_embedding)
        kept = earlier + apiece + redone
        yield Moment("the first block's backward pass", ended, copy, kept, working, waiting, between)
        whole = self.gradients(self.parameters)
        if stage.embeds:
            twice = waiting + (self.table * self.numerics.gradients if self.accumulate or self.ties else 0.0)
            yield Moment("the embedding's backward pass", whole, 0.0, earlier, 0.0, twice, between)
        yield Moment("the update", whole, communication=self.exchanged)

    def gradients(self, parameters: float) -> float:
        """Bytes of gradients once this micro-batch has made those of ``parameters``."""
        whole = self.layout.sharding in ("none", "optimizer")
        held = self.parameters if self.accumulate else parameters
        return held * self.numerics.gradients / (1 if whole else self.layout.replicas)

    @cached_property
    def table(self) -> float:
        """Parameters of an embedding, or of a head, on this device."""
        return self.shape.vocab * self.shape.width / self.layout.tensor

    @cached_property
    def layer(self) -> float:
        """Parameters of a block on this device."""
        return self.shape.layer_matrices / self.layout.tensor + self.shape.layer_norms

    @cached_property
    def head(self) -> float:
        """Parameters of the head and its norm, where this stage predicts."""
        return self.table + self.shape.width if self.stage.predicts else 0.0

    @cached_property
    def own_embedding(self) -> float:
        """Parameters of an embedding that is not also this stage's head."""
        return self.table if self.stage.embeds and not self.ties else 0.0

    @cached_property
    def parameters(self) -> float:
        """Parameters of this stage on this device, before sharding."""
        return self.stage.layers * self.layer + self.head + self.own_embedding

    @cached_property
    def ties(self) -> bool:
        """Whether one table is this stage's embedding and its head."""
        return self.shape.tied and self.stage.embeds and self.stage.predicts

    @cached_property
    def tokens(self) -> float:
        """Tokens of a micro-batch on this device's context-parallel rank."""
        return self.layout.rows * self.shape.context / self.layout.context

    @cached_property
    def stream(self) -> float:
        """One tensor of the residual stream in the compute type, split by sequence parallelism."""
        return self.tokens * self.shape.width * self.numerics.compute / self.layout.tensor

    @cached_property
    def final(self) -> float:
        """What the last norm keeps: its input and normalised input in fp32, and the hidden states that it returns."""
        return self.stream * (1 + 2 * FP32 / self.numerics.compute)

    @cached_property
    def keeps_input(self) -> bool:
        """Whether what a block keeps includes its input, rather than an fp32 copy of it."""
        return self.engine.compiled or self.numerics.compute == FP32

    @cached_property
    def head_gradients(self) -> float:
        """What the chunked loss computes on the way forward: the head's gradient in fp32, and the hidden states'."""
        return self.table * FP32 + self.stream if self.engine.loss == "chunked" else 0.0

    @cached_property
    def loss(self) -> float:
        """The loss at its fullest.

        In chunks (``training/loss.py``) that is either within the softmax or when a chunk's gradient of the head is
        there in the product's type and in fp32; the chunk's before is still held. In full: logits, and in fp32 their
        logarithms' softmax and two gradients.
        """
        c, logits = self.numerics.compute, self.tokens * self.shape.vocab / self.layout.tensor
        if self.engine.loss == "full":
            return logits * (c + 3 * FP32)
        chunks = -(-logits // CHUNK)
        softmax, product = (2 * c, c) if self.engine.compiled else (6 * FP32 + 1, 3 * FP32 + 1 + c)
        before = self.table * FP32 if chunks > 1 else 0.0
        made = self.table * (FP32 + (c if c < FP32 else 0))
        working = before + max(softmax * logits / chunks, product * logits / chunks + made)
        head = c if self.gathers else self.numerics.copy
        return self.head_gradients + self.table * head + working

    @cached_property
    def waiting(self) -> float:
        """A tied head's gradient, which waits for the embedding's beside what earlier micro-batches left."""
        return self.table * self.numerics.gradients if self.ties and self.accumulate else 0.0

    @cached_property
    def gathers(self) -> bool:
        """Whether weights are gathered from their shards block by block (FSDP)."""
        return self.layout.sharding == "weights" and self.layout.replicas > 1

    @cached_property
    def gathered(self) -> float:
        """Buffers between devices: sharded blocks (this one and the next), the sequence, keys and values, the stream.

        A block's gradients are whole before they are scattered (Zhao et al. 2023, FSDP, section 4). A tensor-parallel
        rank holds the gathered input of a product and its gradient, a context-parallel one all keys and values and
        their gradients (Llama 3, section 3.3.2), a pipeline stage what it receives and what it sends.
        """
        layout, c = self.layout, self.numerics.compute
        total = 2 * self.layer * c if self.gathers else 0.0
        if layout.replicas > 1 and layout.sharding in ("gradients", "weights"):
            total += self.layer * self.numerics.gradients
        if layout.tensor > 1:
            total += 2 * self.tokens * self.shape.width * c
        if layout.context > 1:
            total += 4 * layout.rows * self.shape.context * self.shape.kv_width * c / layout.tensor
        if layout.pipeline > 1:
            total += 2 * self.stream
        return total

    @cached_property
    def exchanged(self) -> float:
        """All gradients in one message, as this project's ranks send them where nothing is sharded."""
        whole = self.layout.replicas > 1 and self.layout.sharding == "none"
        return self.parameters * self.numerics.gradients if whole else 0.0


Stored = Literal["fp32", "bf16", "fp8", "int8", "int4"]
BITS: dict[Stored, float] = {"fp32": 32, "bf16": 16, "fp8": 8, "int8": 8, "int4": 4}
GROUP = 128
"""Weights of a row that share a 16-bit scale where weights are quantised (GPTQ's and AWQ's usual choice)."""
PREFILL = 2048
"""Tokens of a prompt that are read at once; longer prompts are read in pieces."""


@dataclass(frozen=True)
class InferenceMemory(Memory):
    """Peak bytes of one device that generates text."""

    weights: float
    cache: float
    activations: float
    base: float


def inference_memory(
    shape: Shape,
    *,
    context: int | None = None,
    batch: int = 1,
    weights: Stored = "bf16",
    cache: Stored = "bf16",
    device: Literal["cpu", "cuda"] = "cuda",
) -> InferenceMemory:
    """Weights, KV cache of ``batch`` sequences of ``context`` tokens (the shape's own by default), and a prompt's pass.

    Quantised are the blocks' matrices, with a 16-bit scale for every :data:`GROUP` weights; embedding, head and norms
    stay in 16 bits, as is usual. Activations are those of one block and one piece of a prompt in 16 bits, and the
    logits of each sequence's last token in fp32.
    """
    context = shape.context if context is None else context
    if context < 1 or batch < 1:
        raise ValueError(f"a cache of {batch} sequences of {context} tokens holds nothing; give at least 1 of each")
    scales = 16 / GROUP if BITS[weights] < 16 else 0.0
    rest = max(16, BITS[weights])
    blocks = shape.layers * shape.layer_matrices
    bits = blocks * (BITS[weights] + scales) + (shape.total - blocks) * rest
    half = 2 if weights != "fp32" else FP32
    widest = 3 * shape.width + max(3 * shape.ffn, shape.width + 2 * shape.kv_width)
    return InferenceMemory(
        weights=bits / 8,
        cache=2 * shape.layers * shape.kv_width * context * batch * BITS[cache] / 8,
        activations=batch * (min(context, PREFILL) * widest * half + shape.vocab * FP32),
        base=BASE[device],
    )
