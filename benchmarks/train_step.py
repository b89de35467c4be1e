"""Speed and memory of a training step beside other libraries' Llamas.

The same shape, type, batch, context and optimiser for every contender (``contenders.py``); they take turns step by step
in one process, so that a noisy moment hits all of them; medians and ratios. The share of the ceiling is 6·N·tokens per
second (N = ``matmul``) over the best matrix product of the compute type measured in the same process; MFU, on a GPU of
the catalogue, exact FLOPs over the vendor's peak. Peak bytes are those of parameters and moments and the most that one
step's tensors took on top.

    python benchmarks/train_step.py [--sizes 1e6 7e6 30e6] [--rows 8] [--context 256] [--threads 2] [--rounds 9]
    python benchmarks/train_step.py --released "Llama 3.2 1B" --rows 4 --context 4096 --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from contenders import NAMES, Contender, Setting, contenders

from isoflop.planning.ladder import shape_for
from isoflop.planning.released import RELEASED
from isoflop.planning.shape import Shape
from isoflop.training.calibrate import product_rate
from isoflop.training.hardware import precision_for
from isoflop.training.watch import peak


def synchronise(device: torch.device) -> None:
    """Wait for a GPU to be done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def race(
    steps: Mapping[str, Contender], batches: list[torch.Tensor], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each contender's steps, taken in turn after warming up."""
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
            step(batches[turn % len(batches)])
            synchronise(device)
            times[name].append(time.perf_counter() - began)
    return times


def peak_bytes(step: Contender, batch: torch.Tensor, device: torch.device) -> int:
    """Most bytes of tensors at once: what the contender holds and the most that a step takes on top."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(batch)
        return step.held + torch.cuda.max_memory_allocated() - before
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step(batch)
    events = recorded.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return step.held + most


def measure(setting: Setting, names: list[str], rows: int, rounds: int, ceiling: float) -> list[dict[str, Any]]:
    """Race on one shape and print its table; returns its rows."""
    shape, dtype, device = setting.shape, setting.dtype, setting.device
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randint(shape.vocab, (rows, shape.context + 1), generator=generator).to(device) for _ in range(4)]
    print(f"{shape.name}: {rows} × {shape.context} tokens a step, vocabulary {shape.vocab}", flush=True)
    steps = {name: build(setting) for name, build in contenders(names).items()}
    times = race(steps, batches, rounds, device)
    tokens, results = rows * shape.context, []
    best = times[names[-1]]
    vendor = peak(device, "bf16" if dtype == torch.bfloat16 else "fp32") if device.type == "cuda" else None
    for name, seconds in times.items():
        rate = tokens / statistics.median(seconds)
        ratio = statistics.median([t / b for t, b in zip(seconds, best, strict=True)])
        share, most = 6 * shape.matmul * rate / ceiling, peak_bytes(steps[name], batches[0], device)
        mfu = None if vendor is None else shape.flops_per_token * rate / vendor
        figures = f"{rate:9,.0f} tokens/s  {share:4.0%} of ceiling  {most / 1e6:7,.0f} MB"
        figures += "" if mfu is None else f"  MFU {mfu:.1%}"
        print(f"    {name:<22} {figures}  {names[-1]} is {ratio:.2f}x", flush=True)
        row = {"shape": shape.name, "who": name, "tokens_per_second": rate, "ratio": ratio}
        results.append(row | {"share_of_ceiling": share, "peak_bytes": most, "mfu": mfu})
    torch.compiler.reset()
    return results


def shapes(a: argparse.Namespace) -> list[Shape]:
    """The shapes asked for: released models at a context, or members of the ladder."""
    if a.released:
        return [replace(RELEASED[name].shape, context=a.context) for name in a.released]
    return [shape_for(size, a.vocab, context=a.context) for size in a.sizes]


def main() -> None:
    """Measure and print a table, and the same as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 7e6, 30e6])
    parser.add_argument("--released", nargs="+", choices=sorted(RELEASED), help="these instead")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), help="the last is what others are to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fp32", action="store_true", help="multiply in fp32 even where bf16 is native")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    device = torch.device(a.device)
    dtype = torch.float32 if a.fp32 else precision_for("auto", device)
    ceiling = product_rate(dtype, device)
    kind = str(dtype).removeprefix("torch.")
    print(f"torch {torch.__version__}, {device}, {a.threads} threads, {kind} ceiling {ceiling / 1e9:,.0f} GFLOP/s")
    results = []
    for shape in shapes(a):
        results += measure(Setting(shape, dtype, device), a.only, a.rows, a.rounds, ceiling)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
