"""Generation against transformers' ``generate``: tokens a second, time to the first token, memory.

Both have the same weights and the same prompts of random ids, and draw by temperature 1 without a stop, so that both
write all tokens asked for. Batches of 1, 16 and 64 prompts, and 32 prompts with 16 samples each, which here share the
reading of their prompt. Rounds alternate; medians and ratios. Time to the first token is that of one request.

    python benchmarks/generate.py [--layers 12 --width 768 --heads 12 --vocab 32000] [--prompt 128] [--new 64]
    python benchmarks/generate.py --dtype bf16 --int8

Memory is the peak of the process above what it held with the weights loaded, in a process of its own for each.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from isoflop.inference.decoder import Decoder
from isoflop.inference.engine import Engine
from isoflop.inference.requests import Request
from isoflop.model.convert import to_transformers
from isoflop.model.llama import Llama
from isoflop.planning.shape import Shape

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CASES = {"batch 1": (1, 1), "batch 16": (16, 1), "batch 64": (64, 1), "32 prompts × 16": (32, 16)}


def shape_of(a: argparse.Namespace) -> Shape:
    """The model that is asked for, with room for prompts and answers."""
    return Shape(
        a.layers, a.width, a.heads, a.kv_heads or a.heads, a.ffn or 8 * a.width // 3 // 32 * 32, a.vocab,
        context=a.prompt + a.new,
    )  # fmt: skip


def peer(model: Llama, dtype: torch.dtype) -> Any:
    """transformers' model with these weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config, weights = to_transformers(model)
    theirs = LlamaForCausalLM(LlamaConfig(**config, bos_token_id=0, eos_token_id=None, pad_token_id=0)).to(dtype)
    theirs.load_state_dict(weights)
    return theirs.eval()


def prompts(a: argparse.Namespace, count: int) -> torch.Tensor:
    """Random ids (count, prompt)."""
    return torch.randint(1, a.vocab, (count, a.prompt), generator=torch.Generator().manual_seed(count))


def ours(engine: Engine, ids: torch.Tensor, samples: int, new: int) -> None:
    """One call of the engine, which must give all tokens."""
    requests = [Request(tuple(row), samples, new, seed=n) for n, row in enumerate(ids.tolist())]
    assert sum(len(c.ids) for answers in engine.generate(requests) for c in answers) == len(ids) * samples * new


def theirs(model: Any, ids: torch.Tensor, samples: int, new: int) -> None:
    """One call of transformers' generate, in batches of at most 64 rows as the engine has."""
    for part in ids.split(max(1, 64 // samples)):
        with torch.inference_mode():
            out = model.generate(
                part, attention_mask=torch.ones_like(part), do_sample=True, top_k=0, max_new_tokens=new,
                num_return_sequences=samples, use_cache=True,
            )  # fmt: skip
        assert out.shape == (len(part) * samples, ids.shape[1] + new)


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(a: argparse.Namespace) -> None:
    """Print the table."""
    model = Llama(shape_of(a), compute=DTYPES[a.dtype]).initialise(0)
    engine = Engine(Decoder(model, int8=a.int8), rows=64)
    other = peer(model, DTYPES[a.dtype])
    print(f"{model.shape.name}, {a.dtype}{' int8' if a.int8 else ''}, prompts of {a.prompt}, {a.new} new tokens")
    for name, (count, samples) in CASES.items():
        ids, new = prompts(a, count), a.new
        work: dict[str, Callable[[], None]] = {
            "isoflop": partial(ours, engine, ids, samples, new),
            "transformers": partial(theirs, other, ids, samples, new),
        }
        times: dict[str, list[float]] = {tool: [] for tool in work}
        for round_ in range(a.rounds + 1):
            for tool, call in work.items():
                taken = seconds(call)
                if round_:
                    times[tool].append(taken)
        speeds = {tool: count * samples * new / statistics.median(taken) for tool, taken in times.items()}
        ratios = sorted(b / o for o, b in zip(times["isoflop"], times["transformers"], strict=True))
        said = ", ".join(f"{tool} {speed:,.1f} tokens/s" for tool, speed in speeds.items())
        print(f"{name:16} {said}: {statistics.median(ratios):.2f}× ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
    ids = prompts(a, 1)
    firsts = {
        "isoflop": [seconds(lambda: ours(engine, ids, 1, 1)) for _ in range(a.rounds + 1)][1:],
        "transformers": [seconds(lambda: theirs(other, ids, 1, 1)) for _ in range(a.rounds + 1)][1:],
    }
    print("first token      " + ", ".join(f"{tool} {statistics.median(t) * 1e3:.1f} ms" for tool, t in firsts.items()))


def memory(a: argparse.Namespace, tool: str) -> None:
    """Print the peak of one tool's memory over what it held before, as JSON: the child of :func:`memories`."""
    model = Llama(shape_of(a), compute=DTYPES[a.dtype]).initialise(0)
    ids = prompts(a, 64)
    engine, other = (
        (Engine(Decoder(model, int8=a.int8)), None) if tool == "isoflop" else (None, peer(model, DTYPES[a.dtype]))
    )
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = held("VmRSS")
    ours(engine, ids, 1, a.new) if engine else theirs(other, ids, 1, a.new)
    print(json.dumps((held("VmHWM") - before) / 1e3))


def held(name: str) -> int:
    """A figure of this process's memory as Linux has it, kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def memories(arguments: list[str]) -> None:
    """Print both tools' memory at batch 64."""
    for tool in ("isoflop", "transformers"):
        done = subprocess.run(
            [sys.executable, __file__, *arguments, "--memory", tool], capture_output=True, text=True, check=True
        )
        print(f"memory at 64     {tool} +{float(done.stdout.splitlines()[-1]):,.0f} MB")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"layers": 12, "width": 768, "heads": 12, "vocab": 32_000, "prompt": 128, "new": 64}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--kv-heads", type=int)
    parser.add_argument("--ffn", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--memory", choices=("isoflop", "transformers"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.memory:
        memory(a, a.memory)
    else:
        compare(a)
        memories(sys.argv[1:])


if __name__ == "__main__":
    main()
