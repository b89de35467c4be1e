"""Tokens per second of a training step, side by side with transformers' Llama, eager and compiled.

Three sizes; the same shape, dtype, batch, context and optimiser for every contender; the contenders take turns step by
step in one process, so that a noisy moment hits all of them; medians and ratios. The share of the ceiling is 6·N·tokens
per second over the best bf16 matrix product measured in the same process.

    python benchmarks/train_step.py [--sizes 1e6 7e6 30e6] [--rows 8] [--context 256] [--threads 2] [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from isoflop.model.convert import to_transformers
from isoflop.model.llama import Llama
from isoflop.planning.ladder import shape_for
from isoflop.planning.shape import Shape
from isoflop.training.config import OptimizerConfig
from isoflop.training.hardware import cpu_multiplies_bf16
from isoflop.training.loss import cross_entropy
from isoflop.training.optimizer import build_optimizer

Step = Callable[[torch.Tensor], float]


def ceiling(device: torch.device, seconds: float = 2.0) -> float:
    """Best FLOP/s of a bf16 matrix product among a few square sizes."""
    best = 0.0
    for n in (1024, 2048, 4096):
        a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
        a @ b
        end = time.perf_counter() + seconds / 3
        while time.perf_counter() < end:
            synchronise(device)
            began = time.perf_counter()
            a @ b
            synchronise(device)
            best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def synchronise(device: torch.device) -> None:
    """Wait for a GPU to be done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def finish(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip and update, as both contenders do."""
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def ours(shape: Shape, dtype: torch.dtype, device: torch.device, *, compiled: bool) -> Step:
    """A training step of this project's Llama."""
    model = Llama(shape, compute=dtype, compiled=compiled).initialise(0).to(device)
    optimizer = build_optimizer(model, OptimizerConfig())
    for group in optimizer.param_groups:
        group["lr"] = 1e-3

    def step(tokens: torch.Tensor) -> float:
        loss = cross_entropy(model.hidden(tokens[:, :-1]), model.head, tokens[:, 1:], fast=compiled)
        loss = loss / tokens[:, 1:].numel()
        loss.backward()
        finish(model, optimizer)
        return loss.item()

    return step


def theirs(shape: Shape, dtype: torch.dtype, device: torch.device, *, compiled: bool) -> Step:
    """A training step of transformers' Llama from the same weights: fp32 parameters under autocast, fused AdamW."""
    config, weights = to_transformers(Llama(shape).initialise(0))
    model = LlamaForCausalLM(LlamaConfig(**config, use_cache=False, attn_implementation="sdpa")).to(device)
    model.load_state_dict(weights, strict=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step(tokens: torch.Tensor) -> float:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = forward(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        finish(model, optimizer)
        return loss.item()

    return step


def race(steps: dict[str, Step], shape: Shape, rows: int, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each contender's steps, taken in turn after warming up."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(shape.vocab, (rows, shape.context + 1), generator=generator).to(device) for _ in range(4)]
    for name, step in steps.items():
        began = time.perf_counter()
        for batch in batches[:3]:
            last = step(batch)
        print(f"    {name:<22} ready after {time.perf_counter() - began:5.1f} s, loss {last:.4f}", flush=True)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds):
        for name, step in steps.items():
            synchronise(device)
            began = time.perf_counter()
            step(batches[turn % 4])
            synchronise(device)
            times[name].append(time.perf_counter() - began)
    return times


def main() -> None:
    """Measure and print a table, and the same as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 7e6, 30e6])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--fp32", action="store_true", help="multiply in fp32 even where bf16 is native")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    native = device.type == "cuda" or cpu_multiplies_bf16()
    dtype = torch.bfloat16 if native and not a.fp32 else torch.float32
    peak = ceiling(device)
    print(f"torch {torch.__version__}, {device}, {a.threads} threads, {dtype}, bf16 ceiling {peak / 1e9:.0f} GFLOP/s")
    results = []
    for size in a.sizes:
        shape = shape_for(size, a.vocab, context=a.context)
        print(f"{shape.name}: {a.rows} × {a.context} tokens a step, vocabulary {a.vocab}")
        steps = {
            "transformers eager": theirs(shape, dtype, device, compiled=False),
            "transformers compiled": theirs(shape, dtype, device, compiled=True),
            "isoflop eager": ours(shape, dtype, device, compiled=False),
            "isoflop compiled": ours(shape, dtype, device, compiled=True),
        }
        times = race(steps, shape, a.rows, a.rounds, device)
        tokens = a.rows * a.context
        best = times["isoflop compiled"]
        for name, seconds in times.items():
            rate = tokens / statistics.median(seconds)
            ratio = statistics.median([t / b for t, b in zip(seconds, best, strict=True)])
            flops = 6 * shape.matmul * rate
            figures = f"{rate:9,.0f} tokens/s  {flops / 1e9:6.0f} GFLOP/s  {flops / peak:4.0%} of ceiling"
            print(f"    {name:<22} {figures}  isoflop compiled is {ratio:.2f}x", flush=True)
            results.append({"shape": shape.name, "who": name, "tokens_per_second": rate, "ratio": ratio})
        torch.compiler.reset()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
