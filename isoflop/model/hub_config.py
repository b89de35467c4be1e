"""``config.json`` of a Hugging Face Llama ↔ :class:`Shape`: Llama 1, 2, 3, 3.1, 3.2, and nothing that is not one.

Rotary scaling is read in both spellings, ``rope_scaling`` beside ``rope_theta`` and transformers 5's
``rope_parameters``, and written in the first, which every version reads. A config that describes another network
(biases, sliding windows, other activations, other heads, other ways to stretch positions) is refused by the key,
because weights that load without a word and then compute something else are the error that is hardest to find.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoflop.model.names import refuse_extensions
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape

FIELDS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
SCALING = {
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original": "original_max_position_embeddings",
}
# What transformers takes a key that is not there to be; those of the shape itself have no default that fits.
DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
# Keys that change the network, and the values under which it is a Llama; None where the key may be missing.
REQUIRED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama", None),
    "hidden_act": ("silu", None),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "sliding_window": (None,),
    "quantization_config": (None,),
    "partial_rotary_factor": (1, 1.0, None),
}


def to_config(shape: Shape) -> dict[str, Any]:
    """The arguments of transformers' ``LlamaConfig``; a ValueError for a shape that it cannot describe."""
    refuse_extensions(shape)
    config: dict[str, Any] = {theirs: getattr(shape, ours) for ours, theirs in FIELDS.items()}
    config |= {"rope_theta": shape.rope_theta, "rope_scaling": None}
    if (scaling := shape.rope_scaling) is not None:
        values = {theirs: getattr(scaling, ours) for ours, theirs in SCALING.items()}
        config["rope_scaling"] = {"rope_type": "llama3"} | values
    return config


def from_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a ``config.json`` describes; a ValueError that names the key where it is no Llama's."""
    for key, allowed in REQUIRED.items():
        if config.get(key) not in allowed:
            raise ValueError(f"the config is not a Llama's: {key} is {config[key]!r}, not {allowed[0]!r}")
    rope = config.get("rope_parameters") or {}
    values = DEFAULTS | dict(config)
    values.setdefault("num_key_value_heads", config.get("num_attention_heads"))
    try:
        found = {ours: values[theirs] for ours, theirs in FIELDS.items()}
        shape = Shape(
            **found,
            rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
            rope_scaling=scaling_of(rope or config.get("rope_scaling")),
        )
    except KeyError as error:
        raise ValueError(f"the config is not a Llama's: it has no {error.args[0]}") from None
    except TypeError as error:
        raise ValueError(f"the config is not a Llama's: a number is no number ({error})") from None
    if (head := config.get("head_dim")) not in (None, shape.head_dim):
        raise ValueError(
            f"the config is not a Llama's: head_dim is {head}, not hidden_size / num_attention_heads = {shape.head_dim}"
        )
    return shape


def scaling_of(rope: Mapping[str, Any] | None) -> RopeScaling | None:
    """Llama 3.1's scaling, or None; a ValueError for every other way to stretch positions."""
    rope = rope or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"the config is not a Llama's: its positions are stretched by {kind!r}, not by 'llama3'")
    found = {ours: rope[theirs] for ours, theirs in SCALING.items()}
    return RopeScaling(
        factor=float(found["factor"]),
        low=float(found["low"]),
        high=float(found["high"]),
        original=int(found["original"]),
    )
