"""Peak memory of the whole way from raw text to tokens as the corpus grows tenfold: it should not grow with it.

Runs ``isoflop clean`` with a preset, and then ``isoflop prepare`` on what that left, in processes of their own, on the
first N MB and the first 10·N MB of a corpus' text, and prints the peak memory of the largest process of each: workers
are counted too. Clean holds a shard a worker, so shards of 2 MB let even a small corpus have more than one, and
duplicates are compared in 16 MB instead of 256, which a small corpus would not fill.

    python benchmarks/corpus_memory.py --corpus ../shared/corpus/general [--megabytes 10] [--preset fineweb]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from isoflop.corpus import documents
from isoflop.corpus.document import Document
from isoflop.corpus.writer import write_documents

GROWTH = 10
SHARD_BYTES = 2_000_000
MEMORY_MB = 16
FILE_BYTES = 50_000_000
MEASURED = """
import re, resource, runpy, sys
from pathlib import Path
sys.argv = ["isoflop", *sys.argv[1:]]
try:
    runpy.run_module("isoflop", run_name="__main__", alter_sys=True)
finally:
    mine, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if (status := Path("/proc/self/status")).exists():  # the other counts what the parent had when it started this
        mine = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1])
    print("peak", max(mine, workers), file=sys.stderr)
"""
"""The largest of this process and of those that it waited for, in KiB on Linux."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--preset", default="fineweb")
    parser.add_argument("--vocab-size", type=int, default=4096)
    a = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in (int(a.megabytes * 1e6), int(GROWTH * a.megabytes * 1e6)):
            folder = Path(scratch) / str(size)
            taken = excerpt(a.corpus, size, folder / "raw")
            table = commanded("clean", "--preset", a.preset, str(folder / "raw"), "--dry-run").stdout
            table = table.replace("shard_bytes = 16000000", f"shard_bytes = {SHARD_BYTES}")
            table = table.replace("memory_mb = 256", f"memory_mb = {MEMORY_MB}")
            (folder / "clean.toml").write_text(table)
            clean = peak("clean", "--config", str(folder / "clean.toml"), "--out", str(folder / "clean"))
            cleaned = str(folder / "clean" / "documents")
            prepare = peak(
                "prepare", "--corpus", cleaned, "--vocab-size", str(a.vocab_size), "--out", str(folder / "tokens")
            )
            kept = json.loads((folder / "clean" / "summary.json").read_text())["kept"]["bytes"]
            rows.append((taken, kept, clean, prepare))
            print(
                f"{taken / 1e6:8.1f} MB raw, {kept / 1e6:8.1f} MB cleaned: peak clean {clean:6.0f} MB, "
                f"prepare {prepare:6.0f} MB",
                flush=True,
            )
    (less, _, *before), (more, _, *after) = rows
    ratios = " and ".join(f"{new / old:.2f}x" for old, new in zip(before, after, strict=True))
    print(f"{more / less:.1f}x the text: {ratios} the memory of clean and prepare")


def excerpt(corpus: str, size: int, folder: Path) -> int:
    """Write the first ``size`` bytes of a corpus' text, again from its front where it has less, as distinct documents.

    Returns the bytes written. A second round's documents have its number in front, which keeps them apart for exact
    duplicates; near duplicates they stay.
    """
    folder.mkdir(parents=True)
    taken = number = held = 0
    batch: list[Document] = []
    for document in chain.from_iterable(rounds(corpus)):
        batch.append(document)
        length = len(document.text.encode())
        taken, held = taken + length, held + length
        if held >= FILE_BYTES or taken >= size:
            write_documents(folder / f"{number:04d}.jsonl.zst", batch)
            batch, held, number = [], 0, number + 1
        if taken >= size:
            return taken
    raise AssertionError("rounds never end")


def rounds(corpus: str) -> Iterator[Iterator[Document]]:
    """The corpus, and again."""
    yield documents(corpus)
    again = 1
    while True:
        yield (
            d._replace(text=f"{again} {d.text}", id=f"{again}/{d.id}", place=f"{again}/{d.place}")
            for d in documents(corpus)
        )
        again += 1


def commanded(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of isoflop, in a process that says its peak in the end."""
    result = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return result


def peak(*arguments: str) -> float:
    """Peak memory of the largest process of a command, in MB."""
    *_, last = (line for line in commanded(*arguments).stderr.splitlines() if line.startswith("peak "))
    unit = 1 if sys.platform == "darwin" else 1024
    return int(last.split()[1]) * unit / 1e6


if __name__ == "__main__":
    main()
