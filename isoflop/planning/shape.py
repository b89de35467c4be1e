"""The shape of a Llama, and everything that can be counted from it without building it.

A shape is the handful of integers that fix the network. From it follow parameter counts under three
conventions and FLOPs under two. Mixing the conventions up is the field's most common error, so each has
one name, used everywhere:

- ``total``: every parameter (Chinchilla's N).
- ``matmul``: the parameters that multiply activations: the blocks' matrices and the output head, but not the
  input embedding, which is a look-up (Porian et al. 2024). With a tied head this is ``total`` less the norms.
- ``body``: the blocks' matrices alone, neither embedding nor head (Kaplan's N).

With experts ``matmul`` and ``body`` count what one token meets, the router and the active experts, so that FLOPs per
token are 6·``matmul`` all the same and dense and sparse models compare at equal compute; ``total`` counts every expert.

Training FLOPs are either ``6·N·D`` with N = ``matmul``, or exact: the same plus causal attention's scores and
sums. This module knows no torch, so that the planner can answer at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from isoflop.planning.experts import Experts
from isoflop.planning.rope import RopeScaling

Convention = Literal["total", "matmul", "body"]


@dataclass(frozen=True)
class Shape:
    """The numbers that make a Llama. ``context`` is the longest that it trains at, in tokens.

    ``rope_scaling`` is Llama 3.1's; ``experts`` make every feed-forward part a mixture of experts. What no Llama has is
    off by default: ``qk_norm`` (RMSNorm of every query and key head), ``attention_cap`` and ``logit_cap`` (c·tanh(x/c)
    of attention's scores and of the logits; 0 for none).
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    context: int = 256
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    rope_scaling: RopeScaling | None = None
    experts: Experts | None = None
    qk_norm: bool = False
    attention_cap: float = 0.0
    logit_cap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a shape that cannot be built, saying which number is at fault."""
        for name in ("layers", "width", "heads", "kv_heads", "ffn", "vocab", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"a model's {name} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads do not share {self.kv_heads} key-value heads evenly")
        if self.head_dim % 2:
            raise ValueError(f"rotary embeddings need an even head dimension, not {self.head_dim}")
        if self.experts is not None and (self.width % 8 or self.ffn % 8):
            raise ValueError(
                f"experts' grouped products need a width and an FFN that are multiples of 8, not {self.width} and "
                f"{self.ffn}"
            )
        if self.attention_cap < 0 or self.logit_cap < 0:
            raise ValueError(f"caps are above 0, or 0 for none, not {self.attention_cap} and {self.logit_cap}")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of the keys (and of the values) over all key-value heads."""
        return self.kv_heads * self.head_dim

    @property
    def layer_experts(self) -> int:
        """SwiGLUs in one block: 1 without experts."""
        return self.experts.count if self.experts else 1

    @property
    def layer_matrices(self) -> int:
        """Parameters in one block's matrices: queries, keys, values, output; gate, up, down of every expert; router."""
        return self._matrices(self.layer_experts)

    @property
    def layer_active(self) -> int:
        """Those of one block that a token meets: all but the experts that were not chosen."""
        return self._matrices(self.experts.active if self.experts else 1)

    def _matrices(self, experts: int) -> int:
        attention = 2 * self.width * self.width + 2 * self.width * self.kv_width
        router = self.width * self.experts.count if self.experts else 0
        return attention + router + experts * 3 * self.width * self.ffn

    @property
    def layer_norms(self) -> int:
        """Parameters of one block's norms."""
        return 2 * self.width + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def body(self) -> int:
        """Parameters of the blocks' matrices that a token meets: no embedding, no head, no norms (Kaplan's N)."""
        return self.layers * self.layer_active

    @property
    def matmul(self) -> int:
        """Parameters that multiply activations: the body and the output head (Porian's N)."""
        return self.body + self.vocab * self.width

    @property
    def total(self) -> int:
        """Every parameter, norms and embeddings included (Chinchilla's N)."""
        embeddings = self.vocab * self.width * (1 if self.tied else 2)
        return self.layers * (self.layer_matrices + self.layer_norms) + self.width + embeddings

    def count(self, convention: Convention) -> int:
        """Parameters under a named convention."""
        return {"total": self.total, "matmul": self.matmul, "body": self.body}[convention]

    @property
    def flops_per_token(self) -> int:
        """Exact training FLOPs per token at the longest context."""
        return self.flops_per_token_at(self.context)

    def flops_per_token_at(self, context: int) -> int:
        """Exact training FLOPs per token: 6·``matmul`` plus causal attention over sequences of ``context``.

        A query meets (context + 1)/2 keys on average; scores and weighted sums cost 2 FLOPs a
        multiply-add each; the backward pass twice the forward: 6·layers·width·(context + 1). With a mask between
        documents attention's part is less, by as much as the data has it; counted is the whole.
        """
        return 6 * self.matmul + 6 * self.layers * self.width * (context + 1)

    @property
    def name(self) -> str:
        """A short name that sorts by eye: parameters (``matmul``), layers, width; experts, if any, active of all."""
        experts = f"-e{self.experts.active}of{self.experts.count}" if self.experts else ""
        return f"{human(self.matmul)}-L{self.layers}-d{self.width}{experts}"

    def to_json(self) -> dict[str, Any]:
        """The shape as plain values."""
        return asdict(self)


def human(n: float) -> str:
    """A count as people say it: 405B, 1.24B, 70M, 172k."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size * 0.9995:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"
