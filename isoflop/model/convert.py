"""Weights in transformers' layout, both ways: names, and the matrices that we keep joined split apart.

Both sides use the half-split rotary layout, so that queries and keys need no permutation. Left out: reading and
writing sharded files, which come with import and export of whole checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isoflop.model.llama import Llama
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape


def to_transformers(model: Llama) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of ``LlamaConfig`` and a state dict for ``LlamaForCausalLM``; a ValueError for what it cannot hold."""
    s = model.shape
    if s.experts or s.qk_norm or s.attention_cap or s.logit_cap:
        raise ValueError(f"{s.name} has experts, norms of heads or soft caps, which no Llama of transformers has")
    config: dict[str, Any] = {
        "vocab_size": s.vocab,
        "hidden_size": s.width,
        "intermediate_size": s.ffn,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "max_position_embeddings": s.context,
        "rms_norm_eps": s.norm_eps,
        "rope_theta": s.rope_theta,
        "tie_word_embeddings": s.tied,
    }
    if s.rope_scaling is not None:
        config["rope_scaling"] = rope_to_transformers(s.rope_scaling)
    p = {name: tensor.detach() for name, tensor in model.named_parameters()}
    weights = {"model.embed_tokens.weight": p["embedding"], "model.norm.weight": p["norm"]}
    weights["lm_head.weight"] = model.head.detach()
    for i in range(s.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        q, k, v = torch.split(p[f"{ours}.qkv"], [s.width, s.kv_width, s.kv_width])
        gate, up = p[f"{ours}.gate_up"].chunk(2)
        weights |= {
            f"{theirs}.input_layernorm.weight": p[f"{ours}.norm1"],
            f"{theirs}.self_attn.q_proj.weight": q,
            f"{theirs}.self_attn.k_proj.weight": k,
            f"{theirs}.self_attn.v_proj.weight": v,
            f"{theirs}.self_attn.o_proj.weight": p[f"{ours}.out"],
            f"{theirs}.post_attention_layernorm.weight": p[f"{ours}.norm2"],
            f"{theirs}.mlp.gate_proj.weight": gate,
            f"{theirs}.mlp.up_proj.weight": up,
            f"{theirs}.mlp.down_proj.weight": p[f"{ours}.down"],
        }
    return config, weights


def rope_to_transformers(scaling: RopeScaling) -> dict[str, Any]:
    """The scaling as ``LlamaConfig`` has it."""
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low,
        "high_freq_factor": scaling.high,
        "original_max_position_embeddings": scaling.original,
    }


def rope_from_transformers(scaling: Mapping[str, Any] | None) -> RopeScaling | None:
    """The scaling that ``LlamaConfig`` has, if any; a ValueError for one of another kind than Llama 3.1's."""
    kind = (scaling or {}).get("rope_type", (scaling or {}).get("type", "default"))
    if scaling is None or kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(
            f"rotary embeddings are scaled by the rule {kind!r}; only Llama 3.1's, 'llama3', is known here"
        )
    return RopeScaling(
        factor=float(scaling["factor"]),
        low=float(scaling["low_freq_factor"]),
        high=float(scaling["high_freq_factor"]),
        original=int(scaling["original_max_position_embeddings"]),
    )


def from_transformers(config: Mapping[str, Any], weights: Mapping[str, Tensor], *, context: int) -> Llama:
    """A model from ``LlamaConfig``'s arguments and a state dict of ``LlamaForCausalLM``."""
    shape = Shape(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        ffn=config["intermediate_size"],
        vocab=config["vocab_size"],
        context=context,
        tied=config["tie_word_embeddings"],
        rope_theta=config["rope_theta"],
        norm_eps=config["rms_norm_eps"],
        rope_scaling=rope_from_transformers(config.get("rope_scaling")),
    )
    joined = {"embedding": weights["model.embed_tokens.weight"], "norm": weights["model.norm.weight"]}
    if not shape.tied:
        joined["untied_head"] = weights["lm_head.weight"]
    for i in range(shape.layers):
        theirs = f"model.layers.{i}."
        layer = {k.removeprefix(theirs): v for k, v in weights.items() if k.startswith(theirs)}
        joined |= {
            f"blocks.{i}.norm1": layer["input_layernorm.weight"],
            f"blocks.{i}.qkv": torch.cat([layer[f"self_attn.{name}_proj.weight"] for name in "qkv"]),
            f"blocks.{i}.out": layer["self_attn.o_proj.weight"],
            f"blocks.{i}.norm2": layer["post_attention_layernorm.weight"],
            f"blocks.{i}.gate_up": torch.cat([layer[f"mlp.{name}_proj.weight"] for name in ("gate", "up")]),
            f"blocks.{i}.down": layer["mlp.down_proj.weight"],
        }
    model = Llama(shape)
    model.load_state_dict(joined)
    return model
