"""What the loader costs: samples a second, its share of a training step, what reading ahead saves, start-up and memory.

Three synthetic sources of random tokens in files, at one size and at ten times that, in a temporary folder. Read in the
same process, in turn: one source and a mixture of three, cut and packed, and a mixture that changes. Start-up is
opening all sources up to the first batch; memory is the process's peak, in a process of its own for each size, after
reading as many batches of both. The training step is a 1M-parameter model's, on one thread.

    python benchmarks/loader.py [--tokens 5e6] [--rows 4 64] [--context 256] [--rounds 200]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from isoflop.tokens.blended import BlendedLoader, blended_loaders, open_sources
from isoflop.tokens.manifest import FORMAT, TOKENIZER, Manifest
from isoflop.tokens.mixture import Blend, Mixture, Source
from isoflop.tokens.shards import ShardWriter
from isoflop.tokens.tokenizer import Tokenizer
from isoflop.tokens.train import train_tokenizer

NAMES = ("web", "code", "maths")
SOURCES = tuple(Source(name, name) for name in NAMES)
WEIGHTS = {"web": 0.7, "code": 0.2, "maths": 0.1}
MIXTURES = {
    "one source": Mixture.constant(SOURCES[:1], {"web": 1.0}),
    "three sources": Mixture.constant(SOURCES, WEIGHTS),
    "three, changing": Mixture(SOURCES, tuple(Blend(n * 100_000, WEIGHTS | {"maths": 0.1 + n}) for n in range(8))),
}


def write(folder: Path, tokens: int, tokenizer: Tokenizer, seed: int) -> None:
    """A prepared folder of random documents, lengths lognormal with a mean of 450 tokens."""
    folder.mkdir()
    tokenizer.save(folder / TOKENIZER)
    rng, splits = np.random.default_rng(seed), {}
    for name, count in (("train", tokens), ("validation", 20_000)):
        writer = ShardWriter(folder, name, np.dtype("<u2"), 2**24, tokenizer.byte_lengths, tokenizer.bos)
        for length in rng.lognormal(5.6, 1.0, count // 450 + 1).astype(int):
            writer.write(np.concatenate([[tokenizer.bos], rng.integers(0, 250, length + 1), [tokenizer.eos]]))
        splits[name] = writer.close()
    Manifest(FORMAT, "<u2", tokenizer.vocab_size, tokenizer.checksum, "", {}, splits, {}).write(folder)


def loader(folder: Path, mixture: Mixture, context: int, packing: str = "cut") -> BlendedLoader:
    """The loader of a mixture, opened anew."""
    datasets = open_sources(mixture.sources, folder)
    return blended_loaders(datasets, mixture, [(0, math.inf, context)], 0, packing)[context]  # type: ignore[arg-type]


def median_seconds(call: Callable[[int], object], rounds: int) -> float:
    """The median time of a call, numbered."""
    times = []
    for turn in range(rounds):
        began = time.perf_counter()
        call(turn)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def own_memory() -> int:
    """Kilobytes of this process that are no mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def child(folder: Path, context: int) -> None:
    """Open the mixture and read 200 batches; print seconds to the first, and the memory that this took."""
    base, began = own_memory(), time.perf_counter()
    opened = loader(folder, MIXTURES["three sources"], context)
    opened.batch(0, 64)
    first, held = time.perf_counter() - began, []
    for turn in range(200):
        opened.batch(turn * 64, 64)
        held.append(own_memory())
    print(json.dumps({"start": first, "memory": max(held) - base}))


def training_step(folder: Path, context: int, rounds: int) -> dict[str, float]:
    """Median seconds of a step of a 1M-parameter model on the mixture: with and without reading ahead, in turn."""
    import torch

    from isoflop.planning.ladder import shape_for
    from isoflop.planning.schedule import BatchRamp, Schedule
    from isoflop.training.config import TrainConfig
    from isoflop.training.run import Run
    from isoflop.training.trainer import Trainer

    torch.set_num_threads(1)
    vocab = Tokenizer.load(folder / "web" / TOKENIZER).vocab_size
    trainers, times = {}, {}
    for depth in (0, 2):
        config = TrainConfig(
            shape_for(1e6, vocab, context=context),
            Schedule(10**7, 1e-3),
            BatchRamp(8 * context),
            mixture=Mixture.constant(tuple(Source(n, str(folder / n)) for n in NAMES), WEIGHTS),
            read_ahead=depth,
        )
        run = Run(folder / f"run-{depth}")
        run.start(config)
        trainers[depth], times[depth] = Trainer.build(config, run), []
        trainers[depth].step()
    reading = []
    for turn in range(rounds):
        for depth, trainer in trainers.items():
            began = time.perf_counter()
            trainer.step()
            times[depth].append(time.perf_counter() - began)
        began = time.perf_counter()
        trainers[0].loaders[context].batch(1000 + 8 * turn, 8)
        reading.append(time.perf_counter() - began)
    step, ahead = (statistics.median(times[depth]) for depth in (0, 2))
    ratio = statistics.median([b / a for a, b in zip(times[0], times[2], strict=True)])
    share = statistics.median([r / a for r, a in zip(reading, times[0], strict=True)])
    return {"step": step, "ahead": ahead, "ahead_ratio": ratio, "share": share}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=5e6, help="of the smaller corpus, all sources")
    parser.add_argument("--rows", type=int, nargs="+", default=[4, 64])
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        return child(a.child, a.context)
    tokenizer = train_tokenizer(
        ["a few words to have a tokenizer at all. " * 50, "def f(x):\n    return x\n" * 50], 273
    )
    with tempfile.TemporaryDirectory() as temporary:
        folders = {scale: Path(temporary) / f"{scale}x" for scale in (1, 10)}
        for scale, folder in folders.items():
            folder.mkdir()
            for seed, name in enumerate(NAMES):
                write(folder / name, int(a.tokens * scale * WEIGHTS[name]), tokenizer, seed)
        speed(folders[1], a.context, a.rows, a.rounds)
        growth(folders, a.context)
        found = training_step(folders[1], a.context, max(10, a.rounds // 10))
        print(f"a step of 8 × {a.context} tokens: {found['step'] * 1e3:.1f} ms, reading is {found['share']:.2%} of it")
        print(f"with reading ahead: {found['ahead'] * 1e3:.1f} ms, {found['ahead_ratio']:.3f} of that")
    return None


def speed(folder: Path, context: int, rows: list[int], rounds: int) -> None:
    """Samples a second by kind of loader and samples a call."""
    began = time.perf_counter()
    packed = loader(folder, MIXTURES["three sources"], context, "fit")
    print(f"packing three sources: {time.perf_counter() - began:.1f} s, once")
    kinds = {name: loader(folder, mixture, context) for name, mixture in MIXTURES.items()} | {"three, packed": packed}
    for count in rows:
        for name, opened in kinds.items():
            seconds = median_seconds(lambda turn, o=opened, n=count: o.batch(turn * n, n), rounds)
            print(
                f"{name:<16} {count:>4} samples a call: {count / seconds:9,.0f} samples/s, "
                f"{seconds / count / context * 1e9:5.0f} ns a token"
            )


def growth(folders: dict[int, Path], context: int) -> None:
    """Start-up and memory of both sizes, each in a process of its own, in turn."""
    found: dict[int, list[dict[str, float]]] = {scale: [] for scale in folders}
    for _ in range(5):
        for scale, folder in folders.items():
            command = [sys.executable, __file__, "--child", str(folder), "--context", str(context)]
            found[scale].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for scale, results in found.items():
        start, grown = (
            statistics.median([r["start"] for r in results]),
            statistics.median([r["memory"] for r in results]),
        )
        print(f"{scale:>2}x the corpus: first batch after {start * 1e3:.0f} ms, memory {grown / 1024:+.1f} MB")


if __name__ == "__main__":
    main()
