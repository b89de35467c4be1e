"""A Llama's forward pass over new tokens only, with keys and values of earlier ones in a cache.

The same network as ``model.llama``, written for reading: weights are cast to the compute type once, there is no
gradient, and a step of one token a row attends by two batched products in which the query heads of a group share
their keys without copying them. Several new tokens a row are a prompt (nothing before it: the library's causal
kernel), a continuation (a mask), or several continuations side by side that do not see each other (``branches``). Rows
of one call may have different lengths.

Costs: a step reads every weight once whatever the number of rows, which is why rows are worth having; on a CPU some
thirty calls of the library a layer. Left out: mixtures of experts, tensor parallelism.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.inference.branches import Branches
from isoflop.inference.cache import Cache
from isoflop.inference.weights import LayerWeights, Matrix, layer_weights, matrix
from isoflop.model.llama import Block, Llama


class Decoder:
    """A model ready to read and continue, in ``dtype`` (by default the model's compute type).

    With ``int8`` its matrices are rounded to eight bits with a scale for every output row (``weights.Rounded``).
    """

    def __init__(self, model: Llama, *, dtype: torch.dtype | None = None, int8: bool = False) -> None:
        shape = model.shape
        if shape.experts is not None:
            raise ValueError(f"{shape.name} is a mixture of experts, which cannot be read from token by token yet")
        self.shape, self.dtype = shape, dtype or model.compute
        self.device = model.embedding.device
        self.embedding = model.embedding.detach().to(self.dtype)
        self.layers: list[LayerWeights] = [
            layer_weights(cast(Block, block), self.dtype, int8) for block in model.blocks
        ]
        self.norm = model.norm.detach().to(self.dtype)
        self.head: Matrix = matrix(model.head.detach(), self.dtype, int8)
        cos, sin = model.cos, model.sin
        self.cos = torch.cat((cos, cos), -1)  # type: ignore[arg-type]
        self.sin = torch.cat((-sin, sin), -1)  # type: ignore[operator,arg-type]

    def cache(self, rows: int, capacity: int) -> Cache:
        """An empty cache for this model; ``capacity`` is at most the model's context."""
        return Cache(self.shape, rows, min(capacity, self.shape.context), self.dtype, self.device)

    @torch.no_grad()
    def read(self, tokens: Tensor, cache: Cache, branches: Branches | None = None) -> Tensor:
        """Read ``tokens`` (rows, time) after what the cache's first rows hold; returns states (rows, time, width).

        Lengths are the caller's to advance (:meth:`Cache.grow`). States are normalised, ready for :meth:`logits`.
        With ``branches`` the tokens of a row are several continuations of it, and only these are in its cache then.
        """
        rows, time = tokens.shape
        live = cache.live(time)
        slots = cache.lengths[:rows, None] + torch.arange(time, device=self.device)
        positions, bias = slots, None
        if branches is not None:
            positions, bias = branches.positions, self.bias(~branches.visible(cache.lengths[:rows], live))
        elif cache.longest > 0:
            bias = self.bias(torch.arange(live, device=self.device) > slots[:, :, None])
        cos, sin = self.cos[positions][:, :, None], self.sin[positions][:, :, None]
        x = F.embedding(tokens, self.embedding)
        for number, layer in enumerate(self.layers):
            x = x + self.attend(number, self.normalise(x, layer.norm1), cos, sin, slots, live, bias, cache)
            gate, up = layer.gate_up(self.normalise(x, layer.norm2)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        return self.normalise(x, self.norm)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (…, vocab), fp32, of states (…, width)."""
        logits = self.head(states).float()
        cap = self.shape.logit_cap
        return cap * torch.tanh(logits / cap) if cap else logits

    def normalise(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last axis."""
        return F.rms_norm(x, x.shape[-1:], weight, self.shape.norm_eps)

    def bias(self, hidden: Tensor) -> Tensor:
        """−∞ where a slot is ``hidden`` (rows, time, live) from a query, 0 elsewhere: (rows, 1, time, live)."""
        return torch.zeros(hidden.shape, dtype=self.dtype, device=self.device).masked_fill_(hidden, -torch.inf)[:, None]

    def attend(
        self,
        number: int,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        slots: Tensor,
        live: int,
        bias: Tensor | None,
        cache: Cache,
    ) -> Tensor:
        """Attention of layer ``number`` on normalised states; writes the new keys and values first."""
        s, layer = self.shape, self.layers[number]
        rows, time = x.shape[:2]
        projected = layer.qkv(x).view(rows, time, s.heads + 2 * s.kv_heads, s.head_dim)
        turned, v = torch.split(projected, [s.heads + s.kv_heads, s.kv_heads], 2)
        if layer.qk_norms is not None:
            turned = self.normalise_heads(turned, layer.qk_norms)
        turned = (turned * cos + turned.roll(s.head_dim // 2, -1) * sin).to(self.dtype)
        q, k = torch.split(turned, [s.heads, s.kv_heads], 2)
        cache.write(number, k, v, slots)
        if bias is None and not s.attention_cap:
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=s.heads != s.kv_heads)
            return layer.out(mixed.transpose(1, 2).reshape(rows, time, s.width))
        keys, values = cache.keys[number, :rows, :, :live], cache.values[number, :rows, :, :live]
        grouped = q.view(rows, time, s.kv_heads, -1, s.head_dim).permute(0, 2, 3, 1, 4)  # rows, kv, group, time, dim
        grouped = grouped.reshape(rows, s.kv_heads, -1, s.head_dim)
        scores = (grouped @ keys.transpose(-2, -1)).view(rows, -1, time, live) * s.head_dim**-0.5
        if s.attention_cap:
            scores = s.attention_cap * torch.tanh(scores / s.attention_cap)
        if bias is None:
            bias = self.bias(torch.arange(live, device=self.device) > slots[:, :, None])
        scores = scores + bias
        weights = torch.softmax(scores, -1).view(rows, s.kv_heads, -1, live)
        mixed = (weights @ values).view(rows, s.heads, time, s.head_dim)
        return layer.out(mixed.transpose(1, 2).reshape(rows, time, s.width))

    def normalise_heads(self, turned: Tensor, norms: tuple[Tensor, Tensor]) -> Tensor:
        """RMSNorm of every query and key head by the layer's two weights."""
        q, k = torch.split(turned, [self.shape.heads, self.shape.kv_heads], 2)
        return torch.cat((self.normalise(q, norms[0]), self.normalise(k, norms[1])), 2)
