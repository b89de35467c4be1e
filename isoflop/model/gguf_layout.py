"""What a Llama looks like inside a GGUF file: keys, types, the order of rotated rows, slowed frequencies.

llama.cpp rotates neighbouring pairs of a query or key where we and transformers rotate its two halves, so the rows of
both matrices are kept there in another order. Llama 3.1's stretch of the rotary frequencies is a tensor there, of how
much each is slowed, and not the four numbers it is made from; those are found again where they are Meta's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isoflop.model.names import Span
from isoflop.model.rotary import stretched
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape

FIELDS = {
    "layers": "llama.block_count",
    "width": "llama.embedding_length",
    "heads": "llama.attention.head_count",
    "kv_heads": "llama.attention.head_count_kv",
    "ffn": "llama.feed_forward_length",
    "context": "llama.context_length",
    "rope_theta": "llama.rope.freq_base",
    "norm_eps": "llama.attention.layer_norm_rms_epsilon",
}
ROPE_FACTORS = "rope_freqs.weight"
ROTATED = ("attn_q.weight", "attn_k.weight")


def metadata(shape: Shape) -> dict[str, Any]:
    """What the file says of the network."""
    found = {key: getattr(shape, ours) for ours, key in FIELDS.items()}
    return found | {"llama.vocab_size": shape.vocab, "llama.rope.dimension_count": shape.head_dim}


def shape_from(fields: Mapping[str, Any], vocab: int, tied: bool, factors: Tensor | None) -> Shape:
    """The shape that a file describes; a ValueError that names the key where it is no plain Llama's."""
    if (found := fields.get("general.architecture")) != "llama":
        raise ValueError(f"its general.architecture is {found!r}, not 'llama'")
    if experts := fields.get("llama.expert_count"):
        raise ValueError(f"it has {experts} experts, and only a plain Llama is read")
    if (kind := fields.get("llama.rope.scaling.type", "none")) != "none":
        raise ValueError(f"its positions are stretched by {kind!r}, not by Llama 3.1's factors")
    defaults = {"llama.attention.head_count_kv": fields.get(FIELDS["heads"]), "llama.rope.freq_base": 10_000.0}
    try:
        values: dict[str, Any] = {ours: (defaults | dict(fields))[key] for ours, key in FIELDS.items()}
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None
    # fp32 in the file: 1e-5 comes back as 9.99999974e-06
    rounded: dict[str, Any] = {name: float(f"{values[name]:.6g}") for name in ("rope_theta", "norm_eps")}
    shape = Shape(**(values | rounded), vocab=vocab, tied=tied)
    for key in ("llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"):
        if (size := fields.get(key, shape.head_dim)) != shape.head_dim:
            raise ValueError(f"its {key} is {size}, not width / heads = {shape.head_dim}")
    return shape if factors is None else scaled(shape, factors)


def scaled(shape: Shape, factors: Tensor) -> Shape:
    """The shape with the scaling that gives these factors; a ValueError where Meta's bands give others."""
    found = replace(shape, rope_scaling=RopeScaling(factor=round(float(factors.max()), 4)))
    expected = rope_factors(found)
    assert expected is not None
    if factors.shape != expected.shape or not torch.allclose(factors, expected, rtol=1e-4):
        raise ValueError(f"its {ROPE_FACTORS} are not Llama 3.1's for a factor of {float(factors.max()):g}")
    return found


def rope_factors(shape: Shape) -> Tensor | None:
    """By how much each rotary frequency is slowed, fp32 (head_dim / 2,); None where none is."""
    if shape.rope_scaling is None:
        return None
    frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim)
    return (frequencies / stretched(frequencies, shape.rope_scaling)).float()


def paired(name: str, rows: Tensor, span: Span, shape: Shape) -> Tensor:
    """Rows of queries and keys as llama.cpp has them, each pair that is rotated together side by side."""
    if not name.endswith(ROTATED):
        return rows
    return rows.view(-1, 2, shape.head_dim // 2, *span.row).transpose(1, 2).reshape(span.shape)


def halved(name: str, rows: Tensor, shape: Shape) -> Tensor:
    """Their rows as we have them: undoes :func:`paired`."""
    if not name.endswith(ROTATED):
        return rows
    return rows.view(-1, shape.head_dim // 2, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)
