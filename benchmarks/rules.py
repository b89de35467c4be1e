"""Cleaning rules against datatrove's, side by side in one process.

    python benchmarks/rules.py ../shared/corpus/general --documents 3000

The documents of a folder, long ones cut at blank lines into pages of about the sizes of web pages, go through the
rules that both have: Gopher quality and repetition, C4, FineWeb. Each rule sees every page, as if no other had
dropped it. Datatrove runs with three word tokenizers: its own for English (spaCy; the slowest by far, ``--no-spacy``
leaves it out), ``str.split`` (nothing in Python is faster, so that the rest is compared), and this project's. With
the last the verdicts must be the same but for the reasons in the stages' docstrings; pages where they are not are
counted and the first printed. What is timed is what a pipeline calls for each document, without its bookkeeping;
isoflop's first rule pays for the words that all of them share. Rounds alternate; texts are forgotten between them,
the vocabulary is not. Printed are medians and how many times slower a contender is.

Needs datatrove and, for its own tokenizer, spacy.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from isoflop.corpus import documents
from isoflop.corpus.document import Document
from isoflop.corpus.rules import C4, FineWeb, GopherQuality, GopherRepetition
from isoflop.corpus.rules import text as shared
from isoflop.corpus.rules.words import sentences, words
from isoflop.corpus.stage import Stage

STAGES: list[Stage] = [
    GopherQuality(),
    GopherRepetition(),
    C4(min_sentences=5, min_words=3, end_marks=".?!\"'"),  # datatrove's
    FineWeb(),
]
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


def pages(folder: Path, count: int) -> list[str]:
    """Texts of 500 to 20,000 characters, the sizes going round; taken evenly from all sources of ``folder``."""
    sizes = (500, 1000, 2000, 3000, 5000, 8000, 20_000)
    files = sorted(folder.glob("*.jsonl.zst"))
    found: list[str] = []
    for file in files:
        wanted = len(found) + count // len(files) + 1
        for document in documents(file):
            start = 0
            while start < len(document.text) and len(found) < wanted:
                blank = _BLANK_LINE.search(document.text, start + sizes[len(found) % len(sizes)])
                end = blank.end() if blank else len(document.text)
                found.append(document.text[start:end])
                start = end
            if len(found) >= wanted:
                break
    return found


def filters(tokenizer: Any) -> list[Any]:
    """Datatrove's filters in the order of ``STAGES``; ``tokenizer`` is a language or a word tokenizer."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    kinds = (GopherQualityFilter, GopherRepetitionFilter, C4QualityFilter, FineWebQualityFilter)
    return [kind(language=tokenizer) for kind in kinds]


def tokenizer(split: Callable[[str], list[str]]) -> Any:
    """A word tokenizer for datatrove out of a function, with this project's count of sentences."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Plugged(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return split(text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text] * sentences(text)

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))] * sentences(text)

    return Plugged()


def ours(stage: Stage, texts: list[str]) -> list[str | None]:
    """The text that is left of each page, None where it goes."""
    verdicts = stage.judge([Document(text, "") for text in texts], 0, Path())
    return [verdict.text if isinstance(verdict, Document) else None for verdict in verdicts]


def theirs(one: Any, texts: list[str]) -> list[str | None]:
    """The same from a datatrove filter."""
    from datatrove.data import Document as Theirs

    left: list[str | None] = []
    for text in texts:
        document = Theirs(text=text, id="", metadata={})
        verdict = one.filter(document)
        left.append(document.text if (verdict if isinstance(verdict, bool) else verdict[0]) else None)
    return left


def runs(texts: list[str], spacy: bool) -> Iterator[tuple[str, list[Callable[[], list[str | None]]]]]:
    """Every contender with its four rules, ready to be called."""
    yield "isoflop", [lambda stage=stage: ours(stage, texts) for stage in STAGES]
    plugged = {"str.split": tokenizer(str.split), "isoflop's words": tokenizer(words)}
    if spacy:
        plugged = {"spaCy": "eng", **plugged}
    for name, plug in plugged.items():
        yield f"datatrove, {name}", [lambda one=one: theirs(one, texts) for one in filters(plug)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-spacy", dest="spacy", action="store_false")
    arguments = parser.parse_args()
    texts = pages(arguments.folder, arguments.documents)
    size = sum(map(len, texts))
    print(f"{len(texts)} pages, {size / 1e6:.1f} million characters, median {statistics.median(map(len, texts)):.0f}")
    contenders = dict(runs(texts, arguments.spacy))
    warm = texts[:: max(len(texts) // 20, 1)]
    for _, calls in runs(warm, arguments.spacy):
        for call in calls:
            call()
    seconds: dict[str, list[list[float]]] = {name: [] for name in contenders}
    left: dict[str, list[list[str | None]]] = {}
    for _ in range(arguments.rounds):
        for name, calls in contenders.items():
            shared.forget()
            took, left[name] = timed(calls)
            seconds[name].append(took)
    report(
        {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()},
        size,
    )
    compare(left, texts)


def timed(calls: list[Callable[[], list[str | None]]]) -> tuple[list[float], list[list[str | None]]]:
    """Processor seconds of each call, all of which keep to one thread, and what it answered."""
    seconds, answers = [], []
    for call in calls:
        start = time.process_time()
        answers.append(call())
        seconds.append(time.process_time() - start)
    return seconds, answers


def report(seconds: dict[str, list[float]], size: int) -> None:
    """Megacharacters a second of each rule and of all four, and how many times slower each contender is."""
    names = [stage.name for stage in STAGES]
    print(f"{'million characters/s':28}" + "".join(f"{name:>20}" for name in [*names, "all four"]))
    base = [*seconds["isoflop"], sum(seconds["isoflop"])]
    for name, row in seconds.items():
        row = [*row, sum(row)]
        cells = [f"{size / one / 1e6:.2f} ({one / mine:.1f}x)" for one, mine in zip(row, base, strict=True)]
        print(f"{name:28}" + "".join(f"{cell:>20}" for cell in cells))


def compare(left: dict[str, list[list[str | None]]], texts: list[str]) -> None:
    """How many pages each keeps, and on how many it disagrees with isoflop."""
    for index, stage in enumerate(STAGES):
        mine = left["isoflop"][index]
        for name, answers in left.items():
            kept = sum(text is not None for text in answers[index])
            pairs = list(zip(mine, answers[index], strict=True))
            verdicts = [place for place, (a, b) in enumerate(pairs) if (a is None) != (b is None)]
            edits = sum(a is not None and b is not None and a.strip() != b.strip() for a, b in pairs)
            print(f"{stage.name:18} {name:28} keeps {kept:5}  other verdict {len(verdicts):4}  other text {edits:4}")
            if name.endswith("words"):
                for place in verdicts[:5]:
                    print(f"    {texts[place][:100]!r}")


if __name__ == "__main__":
    main()
