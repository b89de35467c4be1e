"""What a Llama's matrices are called elsewhere, as data: which rows of ours are which tensor of theirs.

We keep queries, keys and values in one matrix and gate and up in another; everybody else keeps them apart. A dialect
lists, for each matrix of ours, the tensors that make up its rows in order. Reading, writing, in memory or from files,
are all loops over :func:`spans`. Left out: experts, which no released Llama of these generations has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from isoflop.planning.shape import Shape


@dataclass(frozen=True)
class Dialect:
    """Names of tensors: ``once`` outside the blocks, ``within`` inside them after ``block``, which takes the number."""

    once: Mapping[str, str]
    block: str
    within: Mapping[str, tuple[str, ...]]


HUGGING_FACE = Dialect(
    once={
        "embedding": "model.embed_tokens.weight",
        "norm": "model.norm.weight",
        "untied_head": "lm_head.weight",
    },
    block="model.layers.{}.",
    within={
        "norm1": ("input_layernorm.weight",),
        "qkv": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
        "out": ("self_attn.o_proj.weight",),
        "norm2": ("post_attention_layernorm.weight",),
        "gate_up": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
        "down": ("mlp.down_proj.weight",),
    },
)

LLAMA_CPP = Dialect(
    once={
        "embedding": "token_embd.weight",
        "norm": "output_norm.weight",
        "untied_head": "output.weight",
    },
    block="blk.{}.",
    within={
        "norm1": ("attn_norm.weight",),
        "qkv": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
        "out": ("attn_output.weight",),
        "norm2": ("ffn_norm.weight",),
        "gate_up": ("ffn_gate.weight", "ffn_up.weight"),
        "down": ("ffn_down.weight",),
    },
)


class Span(NamedTuple):
    """The rows ``start`` … ``end`` of our tensor ``ours``, whose rows have the shape ``row`` (empty for a norm)."""

    ours: str
    start: int
    end: int
    row: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of these rows together."""
        return (self.end - self.start, *self.row)


def parameters(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Shapes of all our tensors, in the order in which they are used. Raises ValueError for what no Llama has."""
    refuse_extensions(shape)
    width, ffn = shape.width, shape.ffn
    block = {
        "norm1": (width,),
        "qkv": (width + 2 * shape.kv_width, width),
        "out": (width, width),
        "norm2": (width,),
        "gate_up": (2 * ffn, width),
        "down": (width, ffn),
    }
    found: dict[str, tuple[int, ...]] = {"embedding": (shape.vocab, width)}
    for layer in range(shape.layers):
        found |= {f"blocks.{layer}.{name}": size for name, size in block.items()}
    found["norm"] = (width,)
    if not shape.tied:
        found["untied_head"] = (shape.vocab, width)
    return found


def refuse_extensions(shape: Shape) -> None:
    """A ValueError for a shape with parts that a Hugging Face or GGUF Llama has no place for."""
    extras = [name for name in ("experts", "qk_norm", "attention_cap", "logit_cap") if getattr(shape, name)]
    if extras:
        raise ValueError(f"this model is no plain Llama, it has {' and '.join(extras)}; no Llama's file can say that")


def spans(shape: Shape, dialect: Dialect) -> dict[str, Span]:
    """Every tensor of theirs, by name, as rows of ours; in the order of :func:`parameters`."""
    sizes = {"qkv": (shape.width, shape.kv_width, shape.kv_width), "gate_up": (shape.ffn, shape.ffn)}
    found = {}
    for ours, (rows, *row) in parameters(shape).items():
        start, name = 0, ours.rpartition(".")[2]
        for theirs, size in zip(theirs_of(ours, dialect), sizes.get(name, (rows,)), strict=True):
            found[theirs] = Span(ours, start, start + size, tuple(row))
            start += size
    return found


def theirs_of(ours: str, dialect: Dialect) -> tuple[str, ...]:
    """Names of the tensors that make up one of ours, in order."""
    if ours in dialect.once:
        return (dialect.once[ours],)
    _, layer, name = ours.split(".")
    return tuple(dialect.block.format(layer) + rest for rest in dialect.within[name])
