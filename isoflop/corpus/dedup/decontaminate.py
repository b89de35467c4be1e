"""Benchmark items that stand in training documents, reported, and cut out or dropped with the document.

A document and an item overlap where they share a run of ``n`` words, compared without case and punctuation. Two
settings have names. ``gpt3`` looks for 13 words and cuts them out with 200 characters on either side (Brown et al.
2020, arXiv 2005.14165, appendix C), but unlike GPT-3 keeps what is left in one document, however short. ``llama3``
looks for 8 words and drops a document in which half of an item's words lie in such runs: the paper's measure
(Grattafiori et al. 2024, §5.1.4), which asks it of benchmarks and not of documents, and picks the share by benchmark.

Every shard leaves ``matches-….jsonl``: document, place, benchmark, item, share, span and the text of the span.
Documents are hashed once for every length that items have, n and the shorter ones; the index takes 26 bytes an n-gram,
and a table of up to 64 MiB, in every process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from isoflop import files
from isoflop.corpus.dedup import benchmarks
from isoflop.corpus.dedup.benchmarks import Index, Lookup
from isoflop.corpus.dedup.codepoints import Batch, Int64s, batches
from isoflop.corpus.dedup.shingles import Words, grams, words_of
from isoflop.corpus.dedup.substring import cut_out, united
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict

EXCERPT = 200
"""Characters of a span that the report quotes."""


@dataclass(frozen=True)
class Match:
    """An item found in a document: its number, the share of its words, and where its first to last words stand."""

    item: int
    share: float
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Decontaminate(Stage):
    """Find benchmark items in documents.

    Attributes:
        benchmarks: Files or folders of items, JSON lines or plain text.
        n: Words that document and item must share in a row.
        item_share: Least share of an item's words that must lie in such runs.
        shortest: Items with fewer words are not looked for; those of fewer than n words are looked for as a whole.
        common: An n-gram of more items than this is a template and is not looked for.
        action: Whether the document is dropped, or the spans are ``cut`` out of it.
        margin: Characters cut on either side of a span.
    """

    name: ClassVar[str] = "decontaminate"
    inputs: ClassVar[tuple[str, ...]] = ("benchmarks",)
    benchmarks: tuple[str, ...]
    n: int = 13
    item_share: float = 0.0
    shortest: int = 8
    common: int = 10
    action: Literal["drop", "cut"] = "drop"
    margin: int = 0

    def __post_init__(self) -> None:
        if not self.benchmarks or self.shortest < 1 or not 0 < self.n < 1 << 16:
            raise ValueError(f"decontaminate needs benchmarks, and n and shortest of 1 or more: {self}")

    def prepare(self, folder: Path) -> None:
        """Index the benchmarks."""
        found = list(benchmarks.items(self.benchmarks))
        benchmarks.save(benchmarks.build(found, self.n, self.shortest, self.common), folder)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Look a shard's documents up, and report what was found."""
        lookup = _lookup(folder, (folder / "index" / "items.json").stat().st_mtime_ns)
        verdicts: list[Verdict] = list(documents)
        lines = []
        for batch in batches([document.text for document in documents]):
            for number, matches in self._matches(batch, lookup):
                document = documents[batch.first + number]
                lines += [_line(document, match, lookup.index) for match in matches]
                verdicts[batch.first + number] = self._verdict(document, matches, lookup.index)
        files.write_text(folder / f"matches-{shard:06d}.jsonl", "".join(line + "\n" for line in lines))
        return verdicts

    def _matches(self, batch: Batch, lookup: Lookup) -> Iterator[tuple[int, list[Match]]]:
        """The documents of a batch, by number, in which items were found, with the items."""
        cut = words_of(batch)
        entries = lookup.index.entries
        pieces = [np.zeros((0, 4), np.int64)]
        for length in lookup.index.lengths:
            hashes, at = grams(cut, length)
            where, entry = lookup.find(hashes)
            item, place = entries["item"][entry], entries["place"][entry]
            pieces.append(np.stack([item, at[where], at[where] + length, place], axis=1))
        found = np.concatenate(pieces)
        texts = cut.texts[found[:, 1]]
        order = np.lexsort((found[:, 1], found[:, 0], texts))
        found, texts = found[order], texts[order]
        for number in np.unique(texts).tolist():
            here = found[np.searchsorted(texts, number) : np.searchsorted(texts, number, side="right")]
            matches = [self._match(part, cut, int(batch.starts[number]), lookup.index) for part in _by_item(here)]
            matches = [match for match in matches if match.share >= self.item_share]
            if matches:
                yield number, matches

    def _match(self, runs: Int64s, cut: Words, start: int, index: Index) -> Match:
        """One item's runs of words in one document (runs, 4): item, first word, word behind the last, place in it."""
        item = int(runs[0, 0])
        words = united((a, b) for _, a, b, _ in runs.tolist())
        inside = united({(place, place + b - a) for _, a, b, place in runs.tolist()})  # often met is met once
        share = sum(b - a for a, b in inside) / int(index.words[item])
        spans = tuple((int(cut.starts[a]) - start, int(cut.ends[b - 1]) - start) for a, b in words)
        return Match(item, share, spans)

    def _verdict(self, document: Document, matches: list[Match], index: Index) -> Verdict:
        benchmark, number = index.names[matches[0].item]
        detail = f"{benchmark}:{number}" + (f" and {len(matches) - 1} more" if len(matches) > 1 else "")
        if self.action == "drop":
            return Dropped(document, "holds a benchmark item", detail)
        size = len(document.text)
        spans = [(max(0, a - self.margin), min(size, b + self.margin)) for match in matches for a, b in match.spans]
        text = cut_out(document.text, united(spans))
        if not text.strip():
            return Dropped(document, "nothing but benchmark items", detail)
        return document._replace(text=text)


def gpt3(*paths: str) -> Decontaminate:
    """GPT-3's setting: runs of 13 words, cut with 200 characters on either side."""
    return Decontaminate(paths, n=13, action="cut", margin=200)


def llama3(*paths: str) -> Decontaminate:
    """Llama 3's overlap of runs of 8 words, documents dropped that hold half of an item."""
    return Decontaminate(paths, n=8, item_share=0.5)


def _by_item(runs: Int64s) -> list[Int64s]:
    return np.split(runs, np.flatnonzero(np.diff(runs[:, 0])) + 1)


def _line(document: Document, match: Match, index: Index) -> str:
    """One line of the report."""
    benchmark, number = index.names[match.item]
    quoted = " … ".join(document.text[a:b] for a, b in match.spans)
    about = {
        "document": document.id,
        "place": document.place,
        "benchmark": benchmark,
        "item": number,
        "share": round(match.share, 4),
        "spans": match.spans,
        "text": quoted[:EXCERPT],
    }
    return json.dumps(about)


@lru_cache(maxsize=4)
def _lookup(folder: Path, written: int) -> Lookup:
    """The index, read once a process; ``written`` tells one of the same folder from an older one."""
    return Lookup(benchmarks.load(folder))
