"""The two ways to multiply a few rows with a weight matrix on a CPU: from the rows' side and from the weights' side.

``F.linear(x, W)`` and ``(W @ x.T).T`` are one product, for which the library takes different ways. All matrices of a
small Llama are gone through, so that they come from memory as in a step of generation. Rounds alternate; medians.

    python benchmarks/products.py [--width 384] [--layers 6] [--vocab 8192] [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from isoflop.inference.weights import FEW

ROWS = (1, *(2**n for n in range(1, (2 * FEW).bit_length())))
"""Up to twice as many as generation multiplies from the weights' side."""


def matrices(a: argparse.Namespace) -> list[Tensor]:
    """The weights of all layers and the head."""
    width, ffn = a.width, 8 * a.width // 3 // 32 * 32
    layer = [(3 * width, width), (width, width), (2 * ffn, width), (width, ffn)]
    return [torch.randn(out, inside) / inside**0.5 for out, inside in layer * a.layers + [(a.vocab, width)]]


def seconds(weights: list[Tensor], inputs: dict[int, Tensor], from_weights: bool) -> float:
    """One pass over all matrices."""
    started = time.perf_counter()
    for weight in weights:
        x = inputs[weight.shape[1]]
        _ = (weight @ x.t()).t() if from_weights else F.linear(x, weight)
    return time.perf_counter() - started


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"width": 384, "layers": 6, "vocab": 8192, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    torch.manual_seed(0)
    weights = matrices(a)
    with torch.inference_mode():
        for rows in ROWS:
            inputs = {inside: torch.randn(rows, inside) for inside in {weight.shape[1] for weight in weights}}
            flops = 2 * rows * sum(weight.numel() for weight in weights)
            taken: dict[bool, list[float]] = {False: [], True: []}
            for round_ in range(a.rounds + 1):
                for way, times in taken.items():
                    found = seconds(weights, inputs, way)
                    if round_:
                        times.append(found)
            rowwise, weightwise = (statistics.median(times) for times in taken.values())
            print(
                f"{rows:5} rows: from the rows {rowwise * 1e3:7.2f} ms, {flops / rowwise / 1e9:4.0f} GFLOP/s; "
                f"from the weights {weightwise * 1e3:7.2f} ms, {flops / weightwise / 1e9:4.0f}: "
                f"{rowwise / weightwise:.2f}×",
                flush=True,
            )


if __name__ == "__main__":
    main()
