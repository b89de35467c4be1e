"""Text to token shards: ``isoflop prepare`` end to end beside the tokenizers library alone and gigatoken alone.

All read the same text with the same tokenizer, in one process, taking turns; the library and gigatoken have it in
memory already, as strings, while ``prepare`` reads files, finds duplicates, encodes and writes shards. Its stage
"encode" (read again, check, encode, write) is shown alone too, and with the library as its only engine. Medians of MB
of text a second and the ratio to the library alone. Run it alone on the machine.

    python benchmarks/tokenise.py [--corpus ../shared/corpus/general] [--megabytes 20] [--rounds 5] [--kind bpe]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isoflop.corpus import documents
from isoflop.tokens import PrepareConfig, Tokenizer, prepare, train_tokenizer
from isoflop.tokens import tokenizer as engine_choice
from isoflop.tokens.engines import Engine, Library, fastest
from isoflop.tokens.train import KINDS


def sample(corpus: str, size: int) -> list[str]:
    """The first texts of a corpus, about ``size`` bytes of them."""
    texts = []
    for document in documents(corpus):
        texts.append(document.text)
        size -= len(document.text.encode())
        if size <= 0:
            break
    return texts


def encode_alone(engine: Engine, texts: list[str]) -> float:
    """Seconds to encode texts that are in memory."""
    start = time.perf_counter()
    engine.encode(texts)
    return time.perf_counter() - start


def prepare_all(corpus: Path, tokenizer: Path, *, fast: bool) -> tuple[float, float]:
    """Seconds of ``prepare`` with a tokenizer that exists, and of its stage "encode" alone."""
    engine_choice._LARGE_BATCH = 500_000 if fast else math.inf  # type: ignore[assignment]
    begun: dict[str, float] = {}

    def note(stage: str, done: float, total: float) -> None:
        begun[stage] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        manifest = prepare(PrepareConfig(str(corpus), tokenizer=str(tokenizer)), Path(folder) / "out", note)
        end = time.perf_counter()
    assert manifest.engine.startswith("gigatoken" if fast else "tokenizers"), manifest.engine
    return end - start, end - begun["read"]


def measure(texts: list[str], tokenizer: Tokenizer, rounds: int) -> dict[str, list[float]]:
    """Seconds of every way, one entry a round, the ways taking turns."""
    library = Library(tokenizer._backend)
    engine = fastest(library, tokenizer._backend, texts)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus, file = Path(folder) / "corpus.jsonl", Path(folder) / "tokenizer.json"
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        tokenizer.save(file)
        ways: dict[str, Callable[[], tuple[float, ...]]] = {
            library.name: lambda: (encode_alone(library, texts),),
            "prepare (library)": lambda: prepare_all(corpus, file, fast=False),
        }
        if engine is not library:
            ways[engine.name] = lambda: (encode_alone(engine, texts),)
            ways[f"prepare ({engine.name})"] = lambda: prepare_all(corpus, file, fast=True)
        for _ in range(rounds):
            for name, way in ways.items():
                for part, taken in zip(("", ", encode stage"), way(), strict=False):
                    seconds.setdefault(name + part, []).append(taken)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default=str(Path(__file__).resolve().parents[2] / "shared" / "corpus" / "general"))
    parser.add_argument("--megabytes", type=float, default=20.0, help="text to encode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--kind", choices=KINDS, default="bpe")
    a = parser.parse_args()
    texts = list(dict.fromkeys(sample(a.corpus, int(a.megabytes * 1e6))))
    size = sum(len(text.encode()) for text in texts) / 1e6
    start = time.perf_counter()
    tokenizer = train_tokenizer(texts, a.vocab_size, 10_000_000, a.kind)
    print(f"{a.kind}, {a.vocab_size:,} ids, trained on {min(size, 10):.0f} MB in {time.perf_counter() - start:.1f} s")
    seconds = measure(texts, tokenizer, a.rounds)
    alone = statistics.median(seconds[Library(tokenizer._backend).name])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:<44} {size / median:>8.1f} MB/s {alone / median:>7.2f}×   {min(taken):.2f}–{max(taken):.2f} s")


if __name__ == "__main__":
    main()
