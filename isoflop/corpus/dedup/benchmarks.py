"""The items of benchmarks, and the index of their word n-grams that documents are looked up in.

A line of a JSON-lines file is an item: its field ``text`` if it has one, else all of its strings in their order, nested
ones too (a question, its choices, the answer). A paragraph of a ``.txt`` or ``.md`` file is an item.

An item of fewer than n words is looked for as a whole if it has at least ``shortest``, and else not at all: GPT-3 did
without such items too, since "the cat sat" is in every corpus. N-grams of more than ``common`` items are a template
("Answer the question with yes or no") and are not looked for either. What is left out is counted in ``Index.skipped``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoflop import files
from isoflop.corpus import streams
from isoflop.corpus.dedup import runs
from isoflop.corpus.dedup.codepoints import Int64s, batches
from isoflop.corpus.dedup.shingles import grams, words_of
from isoflop.corpus.document import CorpusError, Reading
from isoflop.keys import UInt64s

JSON_LINES = (".jsonl", ".jsonl.zst", ".jsonl.gz")
PLAIN = (".txt", ".md")
ENTRY = np.dtype([("key", "u8"), ("item", "u4"), ("place", "u4"), ("length", "u2")])
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Item:
    """One question of a benchmark: its file, its number there counted from 1, and its text."""

    benchmark: str
    number: int
    text: str


@dataclass(frozen=True)
class Index:
    """N-grams of benchmarks, sorted by hash.

    Attributes:
        entries: Hash, item, first word within it and number of words of every n-gram; one that an item repeats, once.
        lengths: The numbers of words that occur.
        names: Benchmark and number of every item.
        words: How many words of each item are in its n-grams, repeated ones counted once.
        skipped: Items too short to be looked for, and n-grams left out as templates.
    """

    entries: runs.Records
    lengths: tuple[int, ...]
    names: Sequence[tuple[str, int]]
    words: Int64s
    skipped: dict[str, int]


def items(paths: Sequence[str]) -> Iterator[Item]:
    """All items of the files and folders. Raises CorpusError where there is nothing to read."""
    for name in paths:
        root = Path(name).expanduser()
        found = [root] if root.is_file() else sorted(root.rglob("*"))
        found = [path for path in found if path.name.endswith(JSON_LINES + PLAIN)]
        if not found:
            raise CorpusError(f"no benchmark at {root}: give files or folders of {', '.join(JSON_LINES + PLAIN)}")
        for path in found:
            shown = path.relative_to(root).as_posix() if path != root else path.name
            for number, text in enumerate(_texts(path), 1):
                yield Item(shown, number, text)


def build(found: Sequence[Item], n: int, shortest: int, common: int) -> Index:
    """The index of all items' n-grams."""
    entries, short = [np.empty(0, ENTRY)], 0
    for batch in batches([item.text for item in found]):
        cut = words_of(batch)
        length = np.diff(cut.bounds)
        short += int((length < shortest).sum())
        for size in sorted({n, *length[(length >= shortest) & (length < n)].tolist()}):
            hashes, at = grams(cut, size)
            texts = cut.texts[at]
            if size < n:
                whole = length[texts] == size
                hashes, texts, at = hashes[whole], texts[whole], at[whole]
            some = np.empty(len(hashes), ENTRY)
            some["key"], some["item"], some["length"] = hashes, batch.first + texts, size
            some["place"] = at - cut.bounds[texts]
            entries.append(some)
    table = _distinct(np.concatenate(entries))
    first = runs.first_of_key(table)
    rare = np.bincount(first, minlength=len(table))[first] <= common
    skipped = {"items too short": short, "n-grams in many items": len(np.unique(first[~rare]))}
    lengths = tuple(sorted(set(table["length"].tolist())))
    names = [(item.benchmark, item.number) for item in found]
    return Index(table[rare], lengths, names, _words_inside(table, len(found)), skipped)


def save(index: Index, folder: Path) -> None:
    """Write an index; the same index gives the same bytes."""

    def fill(temporary: Path) -> None:
        runs.save(temporary / "entries.npy", index.entries)
        runs.save(temporary / "words.npy", index.words)
        files.write_json(
            temporary / "items.json", {"names": index.names, "lengths": index.lengths, "skipped": index.skipped}
        )

    files.write_folder(folder / "index", fill)


def load(folder: Path) -> Index:
    """Read an index back."""
    about = json.loads((folder / "index" / "items.json").read_text())
    names = [(benchmark, number) for benchmark, number in about["names"]]
    entries, words = (np.load(folder / "index" / f"{name}.npy") for name in ("entries", "words"))
    return Index(entries, tuple(about["lengths"]), names, words, about["skipped"])


class Lookup:
    """An index made ready for looking many n-grams up: nearly all are refused by one bit of their hash's upper bits."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._keys = np.ascontiguousarray(index.entries["key"])
        bits = min(26, max(10, 3 + len(self._keys).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._maybe = np.zeros(1 << bits, bool)
        self._maybe[self._keys >> self._shift] = True

    def find(self, hashes: UInt64s) -> tuple[Int64s, Int64s]:
        """Pairs of an n-gram's number in ``hashes`` and an entry's number, for all n-grams that items have."""
        maybe = np.flatnonzero(self._maybe[hashes >> self._shift])
        low = np.searchsorted(self._keys, hashes[maybe], side="left")
        count = np.searchsorted(self._keys, hashes[maybe], side="right") - low
        at = np.repeat(low - np.cumsum(count) + count, count) + np.arange(count.sum())
        return np.repeat(maybe, count), at


def _distinct(entries: runs.Records) -> runs.Records:
    """The entries sorted by hash and item, each n-gram of an item once, where it is first."""
    entries = entries[np.lexsort((entries["place"], entries["item"], entries["key"]))]
    new = np.ones(len(entries), bool)
    new[1:] = (entries["key"][1:] != entries["key"][:-1]) | (entries["item"][1:] != entries["item"][:-1])
    return entries[new]


def _words_inside(entries: runs.Records, items: int) -> Int64s:
    """How many words of each item are in its entries, which are of one length within an item."""
    entries = entries[np.lexsort((entries["place"], entries["item"]))]
    new = entries["length"].astype(np.int64)  # of each entry, the words before the next one's
    gaps = np.diff(entries["place"].astype(np.int64))
    new[:-1] = np.where(np.diff(entries["item"]) == 0, np.minimum(new[:-1], gaps), new[:-1])
    return np.bincount(entries["item"], new, items).astype(np.int64)


def _texts(path: Path) -> Iterator[str]:
    raw = streams.blocks(path, Reading())
    if path.name.endswith(PLAIN):
        for piece in streams.pieces(raw):
            yield from (part for part in _BLANK_LINE.split(piece.decode("utf-8", "replace")) if part.strip())
        return
    for number, line in enumerate(streams.lines(path, raw), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}:{number} is not JSON ({error}); a benchmark must be whole") from error
        text = record.get("text") if isinstance(record, dict) else None
        yield text if isinstance(text, str) else "\n".join(_strings(record))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(part)
