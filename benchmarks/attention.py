"""Causal attention at short contexts on this machine: scores written out against torch's fused kernel, both ways.

One layer's forward and backward pass, compiled as in training, alternating in one process; medians and ratios.

    python benchmarks/attention.py [--threads 1] [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from isoflop.model.attention import ShortAttention

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The project's way."""
    return ShortAttention.apply(q, k, v)


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """torch's way."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def seconds(function: Attention, inputs: list[torch.Tensor], grad: torch.Tensor) -> float:
    """One forward and backward pass."""
    began = time.perf_counter()
    function(*inputs).backward(grad)
    return time.perf_counter() - began


def main() -> None:
    """Measure a few contexts and head dimensions at 2,048 tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    print(f"torch {torch.__version__}, {a.threads} threads, bf16, 2,048 tokens, forward and backward")
    for heads, head_dim in ((2, 24), (4, 32), (8, 64)):
        for context in (128, 256, 512):
            sizes = (2048 // context, heads, context, head_dim)
            q, k, v = (torch.randn(sizes).bfloat16().requires_grad_() for _ in range(3))
            grad = torch.randn(sizes).bfloat16()
            ways = [torch.compile(f, dynamic=False) for f in (written_out, fused)]
            for way in ways * 3:
                seconds(way, [q, k, v], grad)
            times = [[seconds(way, [q, k, v], grad) for way in ways] for _ in range(a.rounds)]
            ours, library = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median([b / a for a, b in times])
            print(
                f"{heads} heads of {head_dim}, context {context}: written out {ours * 1e3:6.2f} ms, "
                f"fused {library * 1e3:6.2f} ms, {ratio:.2f}x",
                flush=True,
            )
            torch.compiler.reset()


if __name__ == "__main__":
    main()
