"""Near-duplicate removal end to end: isoflop, datatrove and datasketch on the same documents with planted copies.

    python benchmarks/neardup.py --corpus ../shared/corpus/general --documents 3000 --rounds 3
    python benchmarks/neardup.py --grow --documents 5000

All use 14 bands of 8 on word 5-grams. The documents are pieces of 4,000 characters of a corpus; to them are added
copies in which words were replaced so that the sets of 5-grams have a known Jaccard similarity, then all are shuffled.
A planted copy counts as found if it and its original do not both stay; precision is the share of dropped documents that
belong to a planted pair (a corpus has near-duplicates of its own, so it need not be 1).

Every tool works in a process of its own, in turn; what is timed is everything from texts in memory to the list of
documents that stay, and memory is the peak above what the process held before. isoflop: survey, combine and judge, in
shards of 1,000. datatrove: its four blocks called directly, hashing, buckets, cluster and filter, in one task, with
its own clean-up and ``str.split`` for words, the fastest there is (``--spacy`` for its default for English).
datasketch: one MinHashLSH of which every document is asked before it is put in.

``--grow`` runs isoflop on invented documents, ten times as many as before, and shows peak memory.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isoflop.corpus.dedup.minhash import NearDuplicates
from isoflop.corpus.document import Document
from isoflop.corpus.readers import read

WORD = re.compile(r"\w+")
LEVELS = (0.6, 0.7, 0.8, 0.9, 0.95)
PIECE, SHARD = 4000, 1000


def isoflop(texts: list[str], folder: Path) -> list[int]:
    stage = NearDuplicates()
    documents = [Document(text, str(i)) for i, text in enumerate(texts)]
    shards = [documents[start : start + SHARD] for start in range(0, len(documents), SHARD)]
    for number, shard in enumerate(shards):
        stage.survey(shard, number, folder)
    stage.combine(len(shards), folder)
    verdicts = [v for number, shard in enumerate(shards) for v in stage.judge(shard, number, folder)]
    return [i for i, verdict in enumerate(verdicts) if isinstance(verdict, Document)]


def datatrove(texts: list[str], folder: Path, spacy: bool = False) -> list[int]:
    from datatrove.data import Document as Theirs
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.word_tokenizers import SpaCyTokenizer
    from xxhash import xxh64_intdigest

    config = minhash.MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    documents = [Theirs(text=text, id=str(i)) for i, text in enumerate(texts)]
    tokenizer = SpaCyTokenizer("en")
    if not spacy:
        tokenizer.word_tokenize = str.split
    signature = minhash.MinhashDedupSignature(str(folder / "signatures"), config=config, language=tokenizer)
    signature._hash_func = lambda text: xxh64_intdigest(text.encode())  # datatrove 0.9 gives xxhash 4 a str: refused
    signature.run(iter(documents), 0, 1)
    buckets = minhash.MinhashDedupBuckets(str(folder / "signatures"), str(folder / "buckets"), config=config)
    for rank in range(14):
        buckets.run(None, rank, 14)
    minhash.MinhashDedupCluster(str(folder / "buckets"), str(folder / "removed"), config=config).run(None, 0, 1)
    kept = minhash.MinhashDedupFilter(str(folder / "removed")).run(iter(documents), 0, 1)
    return [int(document.id) for document in kept]


def datatrove_spacy(texts: list[str], folder: Path) -> list[int]:
    return datatrove(texts, folder, spacy=True)


def datasketch(texts: list[str], folder: Path) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=112, params=(14, 8))
    kept = []
    for i, text in enumerate(texts):
        words = WORD.findall(text.lower())
        sketch = MinHash(num_perm=112)
        sketch.update_batch([" ".join(words[k : k + 5]).encode() for k in range(len(words) - 4)])
        if not index.query(sketch):
            kept.append(i)
        index.insert(str(i), sketch)
    return kept


TOOLS = {f.__name__: f for f in (isoflop, datatrove, datatrove_spacy, datasketch)}


def originals(corpus: str, wanted: int) -> list[list[str]]:
    """Words of pieces of a corpus, spread over its documents."""
    pieces: list[list[str]] = []
    for document in read(corpus):
        for start in range(0, min(len(document.text), 40 * PIECE), PIECE):
            words = document.text[start : start + PIECE].split()
            if len(words) > 300:
                pieces.append(words)
        if len(pieces) > 20 * wanted:
            break
    return [pieces[i] for i in np.random.default_rng(0).permutation(len(pieces))[:wanted]]


def planted(pieces: list[list[str]], each: int) -> tuple[list[str], list[tuple[int, int, float]]]:
    """The shuffled texts, and the places of originals and copies with their true similarity."""
    rng = np.random.default_rng(1)
    texts = [" ".join(words) for words in pieces]
    pairs = []
    for number, level in enumerate(np.repeat(LEVELS, each)):
        words = list(pieces[number])
        edits = round(len(words) * (1 - level) / (5 * (1 + level)))
        for place in rng.choice(len(words) // 5, edits, replace=False) * 5 + 2:
            words[place] = f"changed{rng.integers(10**9)}"
        texts.append(" ".join(words))
        pairs.append((number, len(texts) - 1, similarity(texts[number], texts[-1])))
    order = rng.permutation(len(texts))
    place = np.argsort(order)
    return [texts[i] for i in order], [(int(place[a]), int(place[b]), s) for a, b, s in pairs]


def similarity(a: str, b: str) -> float:
    """The Jaccard similarity of two texts' word 5-grams."""
    sets = []
    for text in (a, b):
        words = WORD.findall(text.lower())
        sets.append({tuple(words[k : k + 5]) for k in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def memory(field: str) -> float:
    """What Linux says that this process holds (VmRSS), or has held at most since it was last reset (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def reset_peak() -> None:
    """Count the peak from here."""
    Path("/proc/self/clear_refs").write_text("5")


def child(tool: str, path: Path) -> None:
    """One tool once; prints what stays, the seconds and the peak of memory above the start's."""
    if tool.startswith("datatrove"):
        from loguru import logger

        logger.remove()
    texts = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "warm").mkdir()
        TOOLS[tool](texts[:50], Path(folder) / "warm")  # imports and tables are nobody's documents per second
        (Path(folder) / "work").mkdir()
        reset_peak()
        before, began = memory("VmRSS"), time.perf_counter()
        kept = TOOLS[tool](texts, Path(folder) / "work")
        seconds = time.perf_counter() - began
    print(json.dumps({"kept": kept, "seconds": seconds, "before": before, "peak": memory("VmHWM")}))


def called(arguments: list[str]) -> dict[str, float]:
    out = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out.splitlines()[-1]))


def compare(corpus: str, documents: int, each: int, rounds: int, tools: list[str]) -> None:
    texts, pairs = planted(originals(corpus, documents), each)
    members = {i for a, b, _ in pairs for i in (a, b)}
    levels = [round(s, 1) if s < 0.925 else 0.95 for _, _, s in pairs]
    print(f"{len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f}M characters, {len(pairs)} planted copies")
    curve = {
        level: statistics.mean(1 - (1 - s**8) ** 14 for (_, _, s), n in zip(pairs, levels, strict=True) if n == level)
        for level in sorted(set(levels))
    }
    print("S-curve:   " + "  ".join(f"{level}: {value:.3f}" for level, value in curve.items()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts))
        results = []
        for number in range(rounds):
            results.append({tool: called(["--child", tool, str(path)]) for tool in tools})
            rates = ", ".join(f"{tool} {len(texts) / results[-1][tool]['seconds']:.0f}" for tool in tools)
            print(f"round {number + 1}, docs/s: {rates}", flush=True)
    for tool in tools:
        runs = [result[tool] for result in results]
        kept = set(runs[0]["kept"])
        found = [not (a in kept and b in kept) for a, b, _ in pairs]
        recall = {n: statistics.mean(f for f, m in zip(found, levels, strict=True) if m == n) for n in curve}
        dropped = [i for i in range(len(texts)) if i not in kept]
        rate = statistics.median(len(texts) / run["seconds"] for run in runs)
        ratio = statistics.median(result[tool]["seconds"] / result["isoflop"]["seconds"] for result in results)
        memory = f"peak {runs[0]['peak']:.0f} MB (+{runs[0]['peak'] - runs[0]['before']:.0f})"
        precision = statistics.mean(i in members for i in dropped)
        print(f"{tool:16s} {rate:8.0f} docs/s ({ratio:.1f} times isoflop's time), {memory}, precision {precision:.3f}")
        print("   recall: " + "  ".join(f"{level}: {value:.3f}" for level, value in recall.items()))


def invented(documents: int) -> Iterator[list[Document]]:
    """Shards of documents of 100 words, one in ten a copy of the one before with a word changed."""
    rng = np.random.default_rng(2)
    for start in range(0, documents, SHARD):
        shard: list[Document] = []
        for number, row in enumerate(rng.integers(0, 10**6, (SHARD, 100))):
            words = shard[-1].text.split() if number % 10 == 9 else [f"w{value}" for value in row.tolist()]
            words[int(rng.integers(100))] = "x"
            shard.append(Document(" ".join(words), str(start + number)))
        yield shard


def grow(documents: int) -> None:
    """Peak memory of all phases on so many invented documents, merged in 4 MB; prints it."""
    stage = NearDuplicates(memory_mb=4)
    with tempfile.TemporaryDirectory() as name:
        folder, began = Path(name), time.perf_counter()
        for number, shard in enumerate(invented(documents)):
            stage.survey(shard, number, folder)
        surveyed = memory("VmHWM")
        reset_peak()
        stage.combine(documents // SHARD, folder)
        combined = memory("VmHWM")
        reset_peak()
        gone = sum(
            not isinstance(verdict, Document)
            for number, shard in enumerate(invented(documents))
            for verdict in stage.judge(shard, number, folder)
        )
        seconds = time.perf_counter() - began
    print(
        json.dumps(
            {"survey": surveyed, "combine": combined, "judge": memory("VmHWM"), "gone": gone, "seconds": seconds}
        )
    )


def main() -> None:
    """Compare, or show that memory stays flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="../shared/corpus/general")
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--each", type=int, default=200, help="planted copies at each similarity")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spacy", action="store_true", help="datatrove's default tokenizer too")
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--grown", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(a.child[0], Path(a.child[1]))
    elif a.grown:
        grow(a.grown)
    elif a.grow:
        for documents in (a.documents, 10 * a.documents):
            found = called(["--grown", str(documents)])
            print(f"{documents} documents: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    else:
        tools = [tool for tool in TOOLS if a.spacy or tool != "datatrove_spacy"]
        compare(a.corpus, a.documents, a.each, a.rounds, tools)


if __name__ == "__main__":
    main()
