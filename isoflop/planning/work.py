"""What the busiest device does in one training step, counted from shape and layout: FLOPs, bytes moved, launches.

The network is ``model/llama.py``'s: four products a block, a chunked loss, fused AdamW over fp32 parameters. Traffic
is that of fused kernels, each of which reads its inputs once and writes its outputs once; how far an implementation is
from that is the business of :mod:`isoflop.planning.efficiency`. Left out: the embedding's look-up, evaluation,
checkpoints, loading of data.
"""

from __future__ import annotations

from dataclasses import dataclass

from isoflop.planning.hardware import Dtype
from isoflop.planning.layout import Layout
from isoflop.planning.shape import Shape

ELEMENT_BYTES: dict[Dtype, int] = {"fp32": 4, "tf32": 4, "bf16": 2, "fp8": 2, "int8": 2}
"""Of an activation; products in 8 bits leave activations in 16."""
OPTIMIZER_BYTES = 40
"""Of a parameter's update in fp32: AdamW reads weight, gradient and two moments and writes all but the gradient (28);
the clip reads every gradient for the norm, then reads and writes it to scale it (12)."""
LOGIT_BYTES = 20
"""Of a logit: written and read back in fp32 for maximum, exponential and gradient (16), read by two products (4)."""
SCORE_BYTES = 40
"""Of an attention score that is written out, in fp32: forward its maximum, exponential and share (16), backward the
share's gradient, its sum and the score's gradient (16), and the products' operands (8)."""
ROWS = 128
"""Query rows of a block where scores are written out (``model/attention.py``): a block meets the keys up to its end."""
BLOCK_LAUNCHES, LOSS_LAUNCHES, UPDATE_LAUNCHES = 40, 20, 20
"""Kernels of a block and of the loss in a micro-batch, both ways, and of the update: orders of magnitude."""


@dataclass(frozen=True)
class Implementation:
    """What a training program moves through memory that another keeps in its kernels.

    ``chunk`` is the number of logits that the loss holds at once; each chunk reads the head and adds up its gradient
    anew. ``written`` is the context up to which attention writes its scores out.
    """

    chunk: int = 1 << 32
    written: int = 0


FUSED = Implementation()
"""Fused attention, and a loss over a whole micro-batch: GPUs' usual way."""


@dataclass(frozen=True)
class Work:
    """One step of the busiest device.

    FLOPs of the blocks' ``products``, ``attention`` and ``head``; bytes of ``activations``, scores among them, and of
    ``logits``; bytes of ``weights`` (casting them and adding up their gradients: in every micro-batch, the head's in
    every chunk of the loss) and of the ``optimizer``; ``launches`` of kernels.
    """

    products: float
    attention: float
    head: float
    activations: float
    logits: float
    weights: float
    optimizer: float
    launches: float


def work(shape: Shape, layout: Layout, micro: int, dtype: Dtype = "bf16", how: Implementation = FUSED) -> Work:
    """Count one step of ``micro`` micro-batches, multiplied in ``dtype``.

    The busiest device is on the pipeline's fullest stage; where the last stage holds a layer less, the head takes its
    place, and only what it costs beyond that layer is added.
    """
    layers, size = layout.layers_of(shape), ELEMENT_BYTES[dtype]
    tokens = micro * layout.rows * shape.context // layout.context / layout.tensor
    block, head = 6.0 * shape.layer_active, 6.0 * shape.vocab * shape.width
    if shape.layers % layout.pipeline:
        head = max(0.0, head - block)
    loss = tokens * head / (6.0 * shape.width)  # logits
    chunks = max(1.0, loss / micro / how.chunk)
    matrices = layers * shape.layer_matrices + chunks * head / 6.0
    shared = layout.tensor * (layout.replicas if layout.sharding != "none" else 1)
    return Work(
        products=tokens * layers * block,
        attention=tokens * layers * 6.0 * shape.width * (shape.context + 1),
        head=tokens * head,
        activations=tokens * layers * (activation_elements(shape) * size + score_bytes(shape, how)),
        logits=loss * LOGIT_BYTES,
        weights=micro * matrices / layout.tensor * weight_bytes(size),
        optimizer=shape.total / layout.pipeline / shared * OPTIMIZER_BYTES,
        launches=micro * (layers * BLOCK_LAUNCHES + LOSS_LAUNCHES) + UPDATE_LAUNCHES,
    )


def activation_elements(shape: Shape) -> int:
    """Elements that a token moves through memory in one block, forward and backward.

    Forward: two norms (2 widths each), rotary embeddings (read and write queries and keys), two residual sums (3
    widths each), SwiGLU (3 FFN widths). Backward: two norms with their residual gradient (4 widths each), rotary again,
    SwiGLU (5 FFN widths). Products read and write each operand three times over in their three forms. Of experts the
    active ones count, without the sorting of tokens by expert.
    """
    active = shape.experts.active if shape.experts else 1
    between = 22 * shape.width + 4 * shape.kv_width + 8 * active * shape.ffn
    operands = 3 * (6 * shape.width + 2 * shape.kv_width + 3 * active * shape.ffn)
    return between + operands


def score_bytes(shape: Shape, how: Implementation) -> float:
    """Bytes that a token's scores move through memory in one block, where they are written out."""
    keys = (shape.context + min(ROWS, shape.context)) / 2
    return shape.heads * keys * SCORE_BYTES if shape.context <= how.written else 0.0


def weight_bytes(size: int) -> int:
    """Bytes moved for a parameter each time it is used: its cast, three products, its gradient added up in fp32."""
    cast = 4 + size if size < 4 else 0
    return cast + 3 * size + (size + 8)
