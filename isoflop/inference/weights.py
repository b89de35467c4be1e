"""Weights made ready for reading: cast once, or rounded to eight bits with a scale for every output row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoflop.model.product import whole

FEW = 512
"""Rows that are few, at most."""
Matrix = Callable[[Tensor], Tensor]
"""A product with a weight matrix: (…, in) to (…, out)."""


class LayerWeights(NamedTuple):
    """What a block multiplies with."""

    norm1: Tensor
    qkv: Matrix
    out: Matrix
    norm2: Tensor
    gate_up: Matrix
    down: Matrix
    qk_norms: tuple[Tensor, Tensor] | None


def layer_weights(block: nn.Module, dtype: torch.dtype, int8: bool) -> LayerWeights:
    """The weights of a block, the additions of its adapters included."""
    own = {name: parameter.detach() for name, parameter in block.named_parameters()}
    joined = {name: whole(block.weight(name)).detach() for name in ("qkv", "out", "gate_up", "down")}  # type: ignore[operator]
    products = {name: matrix(weight, dtype, int8) for name, weight in joined.items()}
    norms = (own["q_norm"].to(dtype), own["k_norm"].to(dtype)) if "q_norm" in own else None
    return LayerWeights(norm1=own["norm1"].to(dtype), norm2=own["norm2"].to(dtype), qk_norms=norms, **products)


def matrix(weight: Tensor, dtype: torch.dtype, int8: bool) -> Matrix:
    """The product with ``weight`` (out, in), in ``dtype``, its weights rounded to eight bits where asked.

    On a CPU in fp32 few rows are multiplied from the weights' side: the library is 1.4 to 2.5 times as fast then with
    2 to 128 rows (``benchmarks/products.py``). The result lies transposed in memory.
    """
    if int8:
        return Rounded(weight)
    cast = weight.to(dtype)
    if dtype == torch.float32 and weight.device.type == "cpu":
        return lambda x: (cast @ x.t()).t() if 1 < len(x) <= FEW else F.linear(x, cast)
    return lambda x: F.linear(x, cast)


class Rounded:
    """A matrix of int8 with one scale a row: weight ≈ int8 · scale, symmetric, rounded to nearest.

    Half of bf16's bytes and a quarter of fp32's. The library's product makes no wider copy of the weights; it is of
    bf16 activations, whose fp32 kernel on a CPU is ten times slower.
    """

    def __init__(self, weight: Tensor) -> None:
        largest = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        self.scales = (largest / 127).to(torch.bfloat16).squeeze(1)
        self.rounded = torch.round(weight / (largest / 127)).clamp(-127, 127).to(torch.int8)

    def __call__(self, x: Tensor) -> Tensor:
        """The product with x (…, in)."""
        flat = x.reshape(-1, x.shape[-1]).bfloat16()
        product = torch._weight_int8pack_mm(flat, self.rounded, self.scales)
        return product.view(*x.shape[:-1], len(self.rounded)).to(x.dtype)
