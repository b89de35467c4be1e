"""What every deduplication stage costs: text per second of survey, combine and judge on one core, and bytes on disk.

    python benchmarks/dedup.py --corpus ../shared/corpus/general --megabytes 20 --benchmarks ../shared/data/evaluation

The corpus is the first so many million characters of a folder, cut into four shards; phases are timed one after the
other in this process, every stage ``--rounds`` times in turn, and medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from isoflop.corpus.dedup.books import BookOverlap
from isoflop.corpus.dedup.decontaminate import Decontaminate
from isoflop.corpus.dedup.exact import ExactDuplicates
from isoflop.corpus.dedup.lines import DuplicateLines, DuplicateParagraphs
from isoflop.corpus.dedup.minhash import REFINEDWEB, NearDuplicates
from isoflop.corpus.dedup.substring import RepeatedSpans
from isoflop.corpus.document import Document
from isoflop.corpus.readers import read
from isoflop.corpus.stage import Stage

SHARDS = 4


def corpus(path: str, characters: float) -> list[list[Document]]:
    shards: list[list[Document]] = [[] for _ in range(SHARDS)]
    held, number = 0, 0
    for document in read(path):
        shards[number % SHARDS].append(document)
        held, number = held + len(document.text), number + 1
        if held > characters:
            break
    return shards


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def phases(stage: Stage, shards: list[list[Document]]) -> tuple[float, float, float, int]:
    """Seconds of survey (or of preparing, where there is none), combine and judge, and bytes on disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = timed(lambda: stage.prepare(folder))
        surveyed = combined = 0.0
        if stage.whole:
            surveyed = timed(lambda: [stage.survey(shard, i, folder) for i, shard in enumerate(shards)])
            combined = timed(lambda: stage.combine(len(shards), folder))
        judged = timed(lambda: [stage.judge(shard, i, folder) for i, shard in enumerate(shards)])
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return prepared + surveyed, combined, judged, disk


def main() -> None:
    """Measure all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="../shared/corpus/general")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--benchmarks", default="../shared/data/evaluation")
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    shards = corpus(a.corpus, a.megabytes * 1e6)
    documents = [document for shard in shards for document in shard]
    size = sum(len(document.text) for document in documents) / 1e6
    print(f"{len(documents)} documents, {size:.1f}M characters; M characters a second, seconds, bytes a character")
    stages: dict[str, Stage] = {
        "exact_duplicates": ExactDuplicates(),
        "duplicate_lines": DuplicateLines(),
        "duplicate_paragraphs": DuplicateParagraphs(),
        "near_duplicates": NearDuplicates(),
        "refinedweb": REFINEDWEB,
        "book_overlap": BookOverlap(),
        "repeated_spans": RepeatedSpans(),
        "decontaminate": Decontaminate((a.benchmarks,)),
    }
    phases(NearDuplicates(), [shards[0][:1]])  # the tables of characters
    runs = [{name: phases(stage, shards) for name, stage in stages.items()} for _ in range(a.rounds)]
    for name, stage in stages.items():
        survey, combine, judge, disk = (statistics.median(run[name][i] for run in runs) for i in range(4))
        first = f"survey {size / survey:6.1f}/s, combine {combine:6.3f} s" if stage.whole else f"prepare {survey:.2f} s"
        print(f"{name:22s} {first}, judge {size / judge:7.1f}/s, disk {disk / size / 1e6:.3f}")


if __name__ == "__main__":
    main()
