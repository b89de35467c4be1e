"""Training steps of this project's Llama and of other libraries', on the same shape, for ``train_step.py``.

Every contender has fp32 parameters, products in the compute type, the gradient's norm clipped at 1 and a fused AdamW;
beyond that each does as its own training script does. A library that is not installed takes no part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as whole_cross_entropy

from isoflop.model.convert import to_transformers
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape
from isoflop.training.config import OptimizerConfig
from isoflop.training.loss import cross_entropy
from isoflop.training.optimizer import build_optimizer

RATE = 1e-3


@dataclass(frozen=True)
class Setting:
    """What all contenders train."""

    shape: Shape
    dtype: torch.dtype
    device: torch.device


class Contender:
    """A model with its optimiser; called with tokens (rows, context + 1) it takes a step and returns the loss."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor]) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss

    def __call__(self, tokens: Tensor) -> float:
        """One step."""
        loss = self.loss(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @property
    def held(self) -> int:
        """Bytes that it holds between steps: parameters and moments."""
        state = [t for values in self.optimizer.state.values() for t in values.values() if isinstance(t, Tensor)]
        return sum(t.numel() * t.element_size() for t in [*self.model.parameters(), *state])


def ours(setting: Setting, *, compiled: bool) -> Contender:
    """This project's."""
    shape = setting.shape
    model = Llama(shape, compute=setting.dtype, compiled=compiled).initialise(0).to(setting.device)
    optimizer = build_optimizer(model, OptimizerConfig())
    for group in optimizer.param_groups:
        group["lr"] = RATE

    def loss(tokens: Tensor) -> Tensor:
        nats = cross_entropy(model.hidden(tokens[:, :-1]), model.head, tokens[:, 1:], fast=compiled)
        return nats / tokens[:, 1:].numel()

    return Contender(model, optimizer, loss)


def with_autocast(model: nn.Module, logits: Callable[[Tensor], Tensor], setting: Setting) -> Contender:
    """A model of fp32 parameters under autocast, with the whole batch's logits in fp32."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss(tokens: Tensor) -> Tensor:
        with torch.autocast(setting.device.type, setting.dtype, enabled=setting.dtype != torch.float32):
            found = logits(tokens[:, :-1])
        return whole_cross_entropy(found.float().flatten(0, 1), tokens[:, 1:].flatten())

    return Contender(model, optimizer, loss)


def transformers(setting: Setting, *, compiled: bool) -> Contender:
    """Hugging Face's, from the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config, weights = to_transformers(Llama(setting.shape).initialise(0))
    model = LlamaForCausalLM(LlamaConfig(**config, use_cache=False, attn_implementation="sdpa")).to(setting.device)
    model.load_state_dict(weights, strict=False)
    forward = torch.compile(model, dynamic=False) if compiled else model
    return with_autocast(model, lambda inputs: forward(input_ids=inputs).logits, setting)


def litgpt(setting: Setting, *, compiled: bool) -> Contender:
    """Lightning's, with its own blocks; its pre-training compiles the whole model too."""
    from litgpt.config import Config
    from litgpt.model import GPT

    shape = setting.shape
    config = Config(
        name="benchmark",
        block_size=shape.context,
        vocab_size=shape.vocab,
        padded_vocab_size=shape.vocab,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_query_groups=shape.kv_heads,
        n_embd=shape.width,
        intermediate_size=shape.ffn,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        norm_eps=shape.norm_eps,
        rope_base=int(shape.rope_theta),
    )
    model = GPT(config).to(setting.device)
    model.apply(model._init_weights)
    if shape.tied:
        model.transformer.wte.weight = model.lm_head.weight
    return with_autocast(model, torch.compile(model, dynamic=False) if compiled else model, setting)


KINDS: Mapping[str, Callable[..., Contender]] = {"transformers": transformers, "litgpt": litgpt, "isoflop": ours}
NAMES = tuple(f"{kind} {how}" for kind in KINDS for how in ("eager", "compiled"))


def contenders(wanted: list[str]) -> dict[str, Callable[[Setting], Contender]]:
    """Those of the wanted names whose library is here, in order."""
    found: dict[str, Callable[[Setting], Contender]] = {}
    for name in wanted:
        kind, how = name.split()
        if find_spec(kind) is None:
            print(f"{name} takes no part: pip install {kind}")
            continue
        found[name] = lambda setting, kind=kind, how=how: KINDS[kind](setting, compiled=how == "compiled")
    return found
