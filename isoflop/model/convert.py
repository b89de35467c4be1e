"""Weights in transformers' layout, both ways, in memory; files are ``model.hub``'s and ``model.export``'s.

Both sides use the half-split rotary layout, so that queries and keys need no permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from isoflop.model.hub import HEAD
from isoflop.model.hub_config import from_config, to_config
from isoflop.model.llama import Llama
from isoflop.model.names import HUGGING_FACE, spans
from isoflop.model.source import Foreign, Held, Lazy


def to_transformers(model: Llama) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments of ``LlamaConfig`` and a state dict for ``LlamaForCausalLM``, of views of the model's parameters."""
    source = Held(model)
    weights = {
        theirs: source.rows(span.ours, span.start, span.end)
        for theirs, span in spans(model.shape, HUGGING_FACE).items()
    }
    return to_config(model.shape), weights | {HEAD: model.head.detach()}


def from_transformers(config: Mapping[str, Any], weights: Mapping[str, Tensor], *, context: int) -> Llama:
    """A model from ``LlamaConfig``'s arguments and a state dict of ``LlamaForCausalLM``."""
    shape = replace(from_config(config), context=context)
    source = Foreign(shape, HUGGING_FACE, weights.__getitem__, {name: t.dtype for name, t in weights.items()})
    model = Llama(shape)
    model.load_state_dict(dict(Lazy(source)))
    return model
