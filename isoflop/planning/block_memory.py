"""What one block of the network holds in training: kept for the backward pass, and at most beside that.

Read off ``model/llama.py``, ``model/attention.py`` and autograd's rules of what an operation saves; the tests hold it
against the tensors that autograd does save, in eager mode to the byte. What a compiled block keeps is the partitioner's
choice and was measured (torch 2.13, CPU), but for experts. Instant. Left out: kernels' workspaces, what norms of query
and key heads keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isoflop.planning.shape import Shape

FP32 = 4
SHORT, ROWS = 512, 128
"""``model.attention``'s: the longest context whose scores a CPU writes out, and the query rows done at once."""


@dataclass(frozen=True)
class Numerics:
    """Bytes per parameter, and per activation (``compute``).

    ``copy`` is the compute-type copy of a weight that autograd keeps where weights are kept in another type, and
    ``optimizer`` includes a master copy where there is one.
    """

    weights: int
    copy: int
    gradients: int
    optimizer: int
    compute: int


BF16 = Numerics(weights=4, copy=2, gradients=4, optimizer=8, compute=2)
"""This project's trainer: fp32 weights cast where they are used, fp32 gradients and two fp32 moments."""
FULL = Numerics(weights=4, copy=0, gradients=4, optimizer=8, compute=4)
"""This project's trainer in fp32."""
MIXED = Numerics(weights=2, copy=0, gradients=4, optimizer=12, compute=2)
"""Llama 3's (arXiv 2407.21783, section 3.3.2): bf16 weights, fp32 gradients, fp32 master weights and moments."""
ZERO = Numerics(weights=2, copy=0, gradients=2, optimizer=12, compute=2)
"""ZeRO's (Rajbhandari et al. 2020, section 3.1): 16-bit weights and gradients, fp32 master weights and moments."""
PURE_BF16 = Numerics(weights=2, copy=0, gradients=2, optimizer=4, compute=2)
"""Everything in bf16, moments too: small, and it loses updates below bf16's resolution."""


@dataclass(frozen=True)
class Engine:
    """How the network is run: by compiled blocks or eagerly, where, and with the loss in chunks or on all logits."""

    compiled: bool = True
    device: Literal["cpu", "cuda"] = "cuda"
    loss: Literal["chunked", "full"] = "chunked"

    def writes_scores(self, context: int) -> bool:
        """Whether attention keeps its probabilities, as on a CPU at short contexts, or is fused."""
        return self.device == "cpu" and context <= SHORT


GPU = Engine()
"""Compiled blocks and a chunked loss on a GPU."""


@dataclass(frozen=True)
class Block:
    """Bytes of one block and one micro-batch on one device.

    ``attention`` and ``ffn`` are what the two halves keep in the forward pass, each with its norm; the two others are
    the most that a half's backward pass holds beside what was kept.
    """

    attention: float
    ffn: float
    attention_working: float
    ffn_working: float

    @property
    def kept(self) -> float:
        """Both halves."""
        return self.attention + self.ffn

    @property
    def working(self) -> float:
        """The most beside ``kept``; what the FFN kept is gone when attention's turn comes."""
        return max(self.ffn_working, self.attention_working - self.ffn)


def block_memory(
    shape: Shape, rows: int, numerics: Numerics, engine: Engine, tensor: int = 1, context: int = 1
) -> Block:
    """What a block holds for ``rows`` sequences, with the degrees of tensor and context parallelism.

    With sequence parallelism every tensor that is kept is split (Korthikanti et al. 2022, section 4.2.2). A half's
    norm keeps its scale in fp32 and its result. Eager it also keeps its input and the normalised input in fp32;
    compiled, what those can be computed from again: the block's input, and attention's output. The FFN keeps gate and
    up, their product and, eager, silu(gate); its backward pass holds two gradients as wide.
    """
    c, width = numerics.compute, shape.width
    tokens = rows * shape.context / (tensor * context)
    norm = FP32 + c * width + (c * width if engine.compiled else 2 * FP32 * width)
    written = engine.writes_scores(shape.context) or (engine.device == "cpu" and shape.attention_cap)
    mixing, working = (written_out if written else fused)(shape, c, engine)
    active = shape.experts.active if shape.experts else 1
    return Block(
        attention=tokens * (norm + mixing),
        ffn=tokens * (norm + c * active * shape.ffn * (3 if engine.compiled else 4) + routed(shape, c)),
        attention_working=tokens * working,
        ffn_working=tokens * active * c * (2 * shape.ffn + width),
    )


def routed(shape: Shape, c: int) -> float:
    """Bytes a token that its experts keep beside their FFNs, in a compute type of ``c`` bytes; 0 without experts.

    The token's row for each active expert and each one's answer in fp32, its weights and the probabilities of all
    experts; and the router's input in fp32 instead of the norm's result. Indices are left out, 8 bytes a number.
    """
    if shape.experts is None:
        return 0.0
    active, count = shape.experts.active, shape.experts.count
    return active * (c + FP32) * shape.width + FP32 * (active + count) + (FP32 - c) * shape.width


def fused(shape: Shape, c: int, engine: Engine) -> tuple[float, float]:
    """Bytes a token that fused attention keeps and works with, in a compute type of ``c`` bytes.

    Kept are queries, keys, values, the result and its scores' logarithmic sums in fp32; a CPU's result has its heads
    apart, and is copied for the projection. Worked with are the four's gradients.
    """
    results = 2 if engine.device == "cpu" else 1
    kept = c * ((1 + results) * shape.width + 2 * shape.kv_width) + FP32 * shape.heads
    return kept, 4 * c * shape.width


def written_out(shape: Shape, c: int, engine: Engine) -> tuple[float, float]:
    """Bytes a token that :class:`~isoflop.model.attention.ShortAttention` keeps and works with.

    Kept are queries, the keys and values repeated for every head, the joined result, and the probabilities, of which a
    block of query rows has as many as keys up to its last. Worked with are gradients, two of them in fp32, and the last
    block's scores: five in fp32 where eager (one is the probabilities in fp32), two in the compute type compiled.
    """
    starts = range(0, shape.context, ROWS)
    ends = [min(start + ROWS, shape.context) for start in starts]
    keys = sum((end - start) * end for start, end in zip(starts, ends, strict=True)) / shape.context
    kept = c * (4 * shape.width + shape.heads * keys)
    scores = 2 * c if engine.compiled else FP32 * (5 if c < FP32 else 4)
    working = scores * shape.heads * min(ROWS, shape.context) + (2 * FP32 + 3 * c) * shape.width
    return kept, working
