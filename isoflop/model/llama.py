"""The Llama: RMSNorm, rotary grouped-query attention, SwiGLU, pre-norm residual blocks.

A block is a pure function of tensors (:func:`block`), and the module only holds parameters. One compiled graph
of that function therefore serves every layer of a model and every model of the same width, which is what makes
a sweep of many small models affordable.

Parameters are kept in fp32 and cast to the compute type where they are used, so that the optimiser sees full
precision and the residual stream runs in bf16 where the hardware has it. Norms reduce in fp32. Query, key and
value share one matrix, gate and up another: fewer and larger products. Rotary embeddings use the half-split
layout of transformers. With ``recompute = "blocks"`` a block keeps only its input and is run again in the backward
pass: a third more arithmetic for a fraction of the memory. What no Llama has is off by default and then costs nothing:
experts (:mod:`~isoflop.model.experts`), norms of query and key heads before they are rotated (Henry et al. 2020, arXiv
2010.04245, as Qwen 3 does it), soft caps of scores and logits (Gemma 2, arXiv 2408.00118). Left out: dropout (no Llama
has it) and KV caches (``inference.decoder`` reads with one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isoflop.model.attention import Mask
from isoflop.model.experts import mixture
from isoflop.model.flex import mask_for
from isoflop.model.product import Matrix, product, whole
from isoflop.model.rotary import rotary_table, rotate
from isoflop.model.spread import WHOLE, Spread
from isoflop.planning.layout import Recompute
from isoflop.planning.rope import RopeScaling
from isoflop.planning.shape import Shape


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) · weight over the last axis, reduced in fp32, returned in x's type."""
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def attention(
    x: Tensor,
    qkv: Matrix,
    out: Matrix,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int,
    documents: Mask = None,
    head_norms: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.0,
    cap: float = 0.0,
    spread: Spread = WHOLE,
) -> Tensor:
    """Causal grouped-query self-attention of x (batch, time, width), within ``documents`` where they are given.

    ``head_norms`` are the weights (head_dim,) of query and key heads' norms and ``eps`` theirs; ``cap`` bounds scores.
    """
    batch, time, _ = x.shape
    projected = product(x, qkv).view(batch, time, heads + 2 * kv_heads, -1)
    q, k, v = torch.split(projected, [heads, kv_heads, kv_heads], 2)
    if head_norms is not None:
        q, k = rms_norm(q, head_norms[0], eps), rms_norm(k, head_norms[1], eps)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
    mixed = spread.attend(q, k, v, documents, cap)
    return product(mixed.transpose(1, 2).reshape(batch, time, -1), out)


def swiglu(x: Tensor, gate_up: Matrix, down: Matrix) -> Tensor:
    """down(silu(gate(x)) · up(x))."""
    gate, up = product(x, gate_up).chunk(2, -1)
    return product(F.silu(gate) * up, down)


def block(
    x: Tensor,
    norm1: Tensor,
    qkv: Matrix,
    out: Matrix,
    norm2: Tensor,
    gate_up: Matrix,
    down: Matrix,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int,
    eps: float,
    documents: Mask = None,
    head_norms: tuple[Tensor, Tensor] | None = None,
    cap: float = 0.0,
    spread: Spread = WHOLE,
) -> Tensor:
    """One decoder block on x (batch, time, width); of one that is spread over ranks, this one's part."""
    seen = spread.enter(rms_norm(x, norm1, eps))
    mixed = attention(seen, qkv, out, cos, sin, heads, kv_heads, documents, head_norms, eps, cap, spread)
    x = x + spread.leave(mixed)
    return x + spread.leave(swiglu(spread.enter(rms_norm(x, norm2, eps)), gate_up, down))


def expert_block(
    x: Tensor,
    norm1: Tensor,
    qkv: Tensor,
    out: Tensor,
    norm2: Tensor,
    gate_up: Tensor,
    down: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: int,
    kv_heads: int,
    eps: float,
    documents: Mask,
    head_norms: tuple[Tensor, Tensor] | None,
    cap: float,
    router: Tensor,
    active: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """One decoder block whose feed-forward part is a mixture of experts; its balance loss and load beside the result.

    ``gate_up`` and ``down`` are those of all experts, (count, …).
    """
    x = x + attention(rms_norm(x, norm1, eps), qkv, out, cos, sin, heads, kv_heads, documents, head_norms, eps, cap)
    mixed, balance, load = mixture(rms_norm(x, norm2, eps), router, gate_up, down, active)
    return x + mixed, balance, load


GRAPHS = 64
"""Shapes for which a block may be compiled in one process. torch's own limit is 8, after which it goes on uncompiled:
a width whose context doubles eleven times, with a smaller last micro-batch at each, needs 24."""


@cache
def compiled_block(function: Callable[..., Any] = block) -> Callable[..., Any]:
    """The block as one compiled graph per shape, shared by all layers and models of this process."""
    torch._dynamo.config.recompile_limit = GRAPHS
    return torch.compile(function, dynamic=False)


class Block(nn.Module):
    """The parameters of one decoder block: dense, or with experts and a router."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.spread = shape, WHOLE
        width, kv_width, ffn = shape.width, shape.kv_width, shape.ffn
        self.norm1 = nn.Parameter(torch.ones(width))
        self.qkv = nn.Parameter(torch.empty(width + 2 * kv_width, width))
        self.out = nn.Parameter(torch.empty(width, width))
        self.norm2 = nn.Parameter(torch.ones(width))
        each = () if shape.experts is None else (shape.experts.count,)
        self.gate_up = nn.Parameter(torch.empty(*each, 2 * ffn, width))
        self.down = nn.Parameter(torch.empty(*each, width, ffn))
        if shape.experts is not None:
            self.router = nn.Parameter(torch.empty(shape.experts.count, width))
        if shape.qk_norm:
            self.q_norm = nn.Parameter(torch.ones(shape.head_dim))
            self.k_norm = nn.Parameter(torch.ones(shape.head_dim))
        self.adapters = nn.ModuleDict()

    def weight(self, name: str) -> Matrix:
        """One of the matrices, with its adapter's addition where it has one (:mod:`isoflop.model.lora`)."""
        matrix: Tensor = getattr(self, name)
        return self.adapters[name](matrix) if name in self.adapters else matrix

    def matrices(self) -> Iterator[tuple[nn.Parameter, float]]:
        """Matrices and the deviations they begin with.

        The variance is 1/fan-in; the two matrices that write to the stream are scaled by 1/√(2·layers).
        """
        routers = () if self.shape.experts is None else (self.router,)
        for matrix in (self.qkv, self.out, self.gate_up, self.down, *routers):
            std = matrix.shape[-1] ** -0.5
            if matrix is self.out or matrix is self.down:
                std /= math.sqrt(2 * self.shape.layers)
            yield matrix, std

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, apply: Callable[..., Any] = block, documents: Mask = None
    ) -> Any:
        """What ``apply`` makes of x: :func:`block`, with experts :func:`expert_block`, eager or compiled."""
        s = self.shape
        qkv, out, gate_up, down = (self.weight(name) for name in ("qkv", "out", "gate_up", "down"))
        weights = (self.norm1, qkv, out, self.norm2, gate_up, down)
        head_norms = (self.q_norm, self.k_norm) if s.qk_norm else None
        rest = (self.spread,) if s.experts is None else (self.router, s.experts.active)
        ranks = self.spread.tensor.count
        constants = (s.heads // ranks, s.kv_heads // ranks, s.norm_eps)
        return apply(x, *weights, cos, sin, *constants, documents, head_norms, s.attention_cap, *rest)


class Routing(NamedTuple):
    """What a forward pass did with its experts.

    ``penalty`` is the load-balancing loss in nats, summed over layers and tokens, as the cross-entropy is summed over
    targets; 0 without experts. ``load`` (layers, count) is how many tokens each expert was given.
    """

    penalty: Tensor
    load: Tensor


class Llama(nn.Module):
    """A Llama of the given shape.

    ``compute`` is the type of activations, ``compiled`` whether blocks are compiled, ``recompute`` what of the forward
    pass is done again in the backward pass instead of being kept; it changes no bit of loss or gradients.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        compute: torch.dtype = torch.float32,
        compiled: bool = False,
        recompute: Recompute = "none",
    ) -> None:
        super().__init__()
        self.shape, self.compute, self.compiled, self.recompute = shape, compute, compiled, recompute
        self.spread = WHOLE
        self.embedding = nn.Parameter(torch.empty(shape.vocab, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))
        self.untied_head = None if shape.tied else nn.Parameter(torch.empty(shape.vocab, shape.width))
        cos, sin = rotary_table(shape.context, shape.head_dim, shape.rope_theta, shape.rope_scaling)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.routing = Routing(torch.zeros((), device="cpu"), torch.zeros(0, 0, device="cpu"))

    @torch.no_grad()
    def set_rope(self, theta: float, scaling: RopeScaling | None = None) -> None:
        """Turn to other rotary frequencies from the next forward pass on, as stages of longer context do.

        The shape keeps those that the model was made with. The tables are overwritten, so compiled graphs stay.
        """
        tables = rotary_table(self.shape.context, self.shape.head_dim, theta, scaling)
        for buffer, table in zip((self.cos, self.sin), tables, strict=True):
            buffer.copy_(table)  # type: ignore[operator]

    def initialise(self, seed: int) -> Llama:
        """Fill the parameters from one seed, in a fixed order, on the CPU; returns the model."""
        generator = torch.Generator().manual_seed(seed)
        for matrix, std in self.matrices():
            nn.init.normal_(matrix, 0.0, std, generator=generator)
        return self

    def matrices(self) -> Iterator[tuple[nn.Parameter, float]]:
        """What is drawn at the beginning, in this order, and its standard deviation; norms are ones."""
        yield self.embedding, self.shape.width**-0.5
        for layer in self.blocks:
            yield from layer.matrices()  # type: ignore[operator]
        if self.untied_head is not None:
            yield self.untied_head, self.shape.width**-0.5

    def hold(self, spread: Spread) -> None:
        """Compute only this process's part of the network from now on (``model.laid_out`` cuts the weights)."""
        self.spread = spread
        for layer in self.blocks:
            layer.spread = spread  # type: ignore[assignment]

    def weight(self, name: str) -> Tensor:
        """One of the weights by the name of its parameter, its adapter's addition included."""
        path, _, last = name.rpartition(".")
        return whole(self.get_submodule(path).weight(last)) if path else self.get_parameter(name)  # type: ignore[operator]

    @property
    def head(self) -> nn.Parameter:
        """The output matrix (vocab, width): the embedding itself when tied."""
        return self.embedding if self.untied_head is None else self.untied_head

    def hidden(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        arriving: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Final normalised states (batch, time, width) of token ids (batch, time), before the output head.

        ``documents`` (batch, time), integers, says which document of its row each token is of: a token sees those of
        its own only, up to itself. A document is a run of equal ids; (batch, time, 2) are documents and branches in
        them (:mod:`~isoflop.model.sight`). Positions are the row's all the same, or ``positions`` (batch, time), which
        must lie in the context, as a row of them then need not. With experts ``routing`` holds what this call did with
        them.

        Of a model that is spread over ranks, the states of this one's part of the sequence; a pipeline's stage takes
        what is ``arriving`` from the one before, and all but the last give what goes to the next.
        """
        time = tokens.shape[1]
        if positions is None and time > self.shape.context:
            raise ValueError(f"{time} tokens do not fit this model's context of {self.shape.context}")
        spread = self.spread
        if positions is None:
            cos, sin = (spread.local(table[:time], 0) for table in (self.cos, self.sin))  # type: ignore[index]
        else:
            cos, sin = (table[spread.local(positions)] for table in (self.cos, self.sin))  # type: ignore[index]
        x = spread.embed(spread.local(tokens), self.embedding, self.compute) if arriving is None else arriving
        function = block if self.shape.experts is None else expert_block
        apply, mask = compiled_block(function) if self.compiled else function, self.mask(tokens, documents)
        routed = []
        for layer in self.blocks:
            if self.recompute == "blocks":
                x = checkpoint(layer, x, cos, sin, apply, mask, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, cos, sin, apply, mask)
            if self.shape.experts is not None:
                x, *told = x
                routed.append(told)
        if self.shape.experts is not None:
            balances, loads = (torch.stack(column) for column in zip(*routed, strict=True))
            self.routing = Routing(self.shape.experts.balance * tokens.numel() * balances.sum(), loads)
        return spread.enter(rms_norm(x, self.norm, self.shape.norm_eps)) if spread.last else x

    def mask(self, tokens: Tensor, documents: Tensor | None) -> Mask:
        """What attention is given to know documents apart; a GPU's capped scores need a mask even without any."""
        if documents is None and self.shape.attention_cap and tokens.device.type == "cuda":
            documents = torch.zeros_like(tokens)
        if documents is None or self.spread.context.count > 1:
            return documents
        return mask_for(documents, self.shape.head_dim)

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Logits (batch, time, vocab) of token ids (batch, time), of ``documents`` as in :meth:`hidden`."""
        logits, cap = F.linear(self.hidden(tokens, documents), self.head.to(self.compute)), self.shape.logit_cap
        return cap * torch.tanh(logits / cap) if cap else logits
