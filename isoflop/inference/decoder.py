"""A Llama's forward pass over new tokens only, with keys and values of earlier ones in a cache.

The same network as ``model.llama``, written for reading: weights are cast to the compute type once, there is no
gradient, and a step of one token a row attends by two batched products in which the query heads of a group share
their keys without copying them. Several new tokens a row are a prompt (nothing before it: the library's causal
kernel), a continuation (a mask), or several continuations side by side that do not see each other (``branches``). Rows
of one call may have different lengths; only tokens are multiplied with weights, not what fills rows up (``places``).

Costs: a step reads every weight once whatever the number of rows, which is why rows are worth having; on a CPU some
thirty calls of the library a layer. Left out: mixtures of experts, tensor parallelism; reading the cache of a prompt
once for all of its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.inference.branches import Branches
from isoflop.inference.cache import Cache
from isoflop.inference.places import Places
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
    def read(
        self, tokens: Tensor, cache: Cache, *, real: Tensor | None = None, branches: Branches | None = None
    ) -> Tensor:
        """Read ``tokens`` (rows, time) after what the cache's first rows hold; returns states (count, width).

        Rows of different lengths are filled up at their ends: ``real`` (rows, time) says which places hold tokens, and
        states are of those alone, row after row, normalised, ready for :meth:`logits`. Lengths are the caller's to
        advance (:meth:`Cache.grow`). With ``branches`` the tokens of a row are several continuations of it, and only
        these are in its cache then.
        """
        rows, time = tokens.shape
        live = cache.live(time)
        slots = cache.lengths[:rows, None] + torch.arange(time, device=self.device)
        positions, hidden = slots, None
        if branches is not None:
            real, positions = branches.numbers >= 0, branches.positions
            hidden = ~branches.visible(cache.lengths[:rows], live)
        elif cache.longest > 0 or self.shape.attention_cap:
            hidden = torch.arange(live, device=self.device) > slots[:, :, None]
        places = Places.of(slots, real)
        positions = places.pick(positions)
        turn = self.cos[positions][:, None], self.sin[positions][:, None]
        bias = None if hidden is None else self.bias(hidden)
        x = F.embedding(places.pick(tokens), self.embedding)
        for number, layer in enumerate(self.layers):
            x = x + self.attend(number, self.normalise(x, layer.norm1), turn, places, bias, cache)
            gate, up = layer.gate_up(self.normalise(x, layer.norm2)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        return self.normalise(x, self.norm)

    def read_texts(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[Tensor, Tensor]:
        """Read a text a row behind what the cache holds; returns states (count, width) and which are the last ones."""
        lengths = torch.tensor([len(text) for text in texts])
        ids = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        states = self.read(ids.to(self.device), cache, real=None if bool(real.all()) else real.to(self.device))
        return states, (lengths.cumsum(0) - 1).to(self.device)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (count, vocab), fp32, of states (count, width)."""
        logits = self.head(states).float().contiguous()
        cap = self.shape.logit_cap
        return cap * torch.tanh(logits / cap) if cap else logits

    def normalise(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm over the last axis."""
        return F.rms_norm(x, x.shape[-1:], weight, self.shape.norm_eps)

    def bias(self, hidden: Tensor) -> Tensor:
        """−∞ where a slot is ``hidden`` (rows, time, live) from a query, 0 elsewhere: (rows · kv_heads, group · time,
        live), as the scores of query heads that share their keys are laid out."""
        s, (rows, time, live) = self.shape, hidden.shape
        bias = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device).masked_fill_(hidden, -torch.inf)
        shared = bias[:, None, None].expand(rows, s.kv_heads, s.heads // s.kv_heads, time, live)
        return shared.reshape(rows * s.kv_heads, -1, live)

    def attend(
        self,
        number: int,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        places: Places,
        bias: Tensor | None,
        cache: Cache,
    ) -> Tensor:
        """Attention of layer ``number`` on normalised states (count, width); writes the new keys and values first."""
        s, layer = self.shape, self.layers[number]
        projected = layer.qkv(x).reshape(len(x), s.heads + 2 * s.kv_heads, s.head_dim)
        turned, v = torch.split(projected, [s.heads + s.kv_heads, s.kv_heads], 1)
        if layer.qk_norms is not None:
            turned = self.normalise_heads(turned, layer.qk_norms)
        cos, sin = turn
        turned = (turned * cos + turned.roll(s.head_dim // 2, -1) * sin).to(self.dtype)
        q, k = torch.split(turned, [s.heads, s.kv_heads], 1)
        cache.write(number, places.row, places.slot, k, v)
        laid = places.lay_out(q).transpose(1, 2)  # rows, heads, time, dim
        keys, values = cache.layer(number, places.rows, places.time if bias is None else bias.shape[-1])
        mixed = self.mix_causally(laid, keys, values) if bias is None else self.mix(laid, keys, values, bias)
        return layer.out(places.pick(mixed.transpose(1, 2)).reshape(len(x), s.width))

    def mix_causally(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Values by the attention of queries (rows, heads, time, dim) to as many keys, by the library's kernel."""
        s = self.shape
        return F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=s.heads != s.kv_heads)

    def mix(self, q: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Values by the attention of queries (rows, heads, time, dim) to all live slots, which ``bias`` may hide.

        Two batched products a key head, whose query heads lie below each other.
        """
        s, scale, cap = self.shape, self.shape.head_dim**-0.5, self.shape.attention_cap
        keys, values = keys.flatten(0, 1), values.flatten(0, 1)  # rows · kv_heads, live, dim
        grouped = q.reshape(len(keys), -1, s.head_dim)
        if cap:
            scores = cap * torch.tanh(torch.bmm(grouped, keys.transpose(1, 2)) * (scale / cap)) + bias
        else:
            scores = torch.baddbmm(bias, grouped, keys.transpose(1, 2), alpha=scale)
        return torch.bmm(torch.softmax(scores, -1), values).view(q.shape)

    def normalise_heads(self, turned: Tensor, norms: tuple[Tensor, Tensor]) -> Tensor:
        """RMSNorm of every query and key head by the layer's two weights."""
        q, k = torch.split(turned, [self.shape.heads, self.shape.kv_heads], 1)
        return torch.cat((self.normalise(q, norms[0]), self.normalise(k, norms[1])), 1)
