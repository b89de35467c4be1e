"""Long spans that stand earlier in the corpus too, cut out of every later place (Lee et al. 2021, arXiv 2107.06499).

Theirs is a suffix array of the corpus, which must be in memory. Here every text picks its own anchors (``anchors.py``),
and the stretch of ``characters`` that begins at one is compared by its hash; so are the first and the last stretch of
every text. What is guaranteed, of spans that are equal character by character:

- nothing is cut that is not part of a span of at least ``characters`` that stands earlier in the corpus too;
- every repeated span of at least ``characters`` + ``window`` is found, and all of it is cut but less than ``window``
  characters at either end (none there where it begins or ends both texts), and part of a word at most.

So every span stays somewhere, though perhaps not in one piece: a later document may lose its middle to an earlier one.
A text that overlaps its own repetition keeps the first ``characters`` of it. Cuts are drawn in to white space, so that
no word is left in half. Hashes have 64 bits: among the stretches of 10 billion characters, two different ones are
taken for each other with a chance of a tenth of a percent.

Costs 20 bytes of disk a stretch, one every 50 characters or so at the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from isoflop import files
from isoflop.corpus.dedup import runs, verdicts
from isoflop.corpus.dedup.anchors import anchors
from isoflop.corpus.dedup.codepoints import Batch, Hashes, Int64s, batches
from isoflop.corpus.document import Document
from isoflop.corpus.stage import Dropped, Stage, Verdict

RECORD = np.dtype([("key", "u8"), ("label", "u8"), ("start", "u4")])
CUT = np.dtype([("key", "u8"), ("start", "u4"), ("end", "u4")])
"""By the label of a document: a span of it that goes."""
WORD_AT_MOST = 40
"""A cut is drawn in by no more than this to spare a word."""


@dataclass(frozen=True)
class RepeatedSpans(Stage):
    """Cut out spans that stand earlier in the corpus too.

    Attributes:
        characters: Shortest span that is cut. Lee et al. take 50 tokens, some 200 characters of English.
        window: How much of a span may be left at either end; half of it doubles the disk that is needed.
        q: Characters of which an anchor's hash is made.
        memory_mb: About how much memory comparing may take.
    """

    name: ClassVar[str] = "repeated_spans"
    whole: ClassVar[bool] = True
    characters: int = 200
    window: int = 100
    q: int = 16
    memory_mb: int = 256

    def __post_init__(self) -> None:
        if not (0 < self.q <= self.characters and self.window > 0):
            raise ValueError(f"repeated_spans needs q of at most characters, and a window, all positive: {self}")

    def survey(self, documents: Sequence[Document], shard: int, folder: Path) -> None:
        """Hash the stretches of a shard."""
        records = [np.empty(0, RECORD)]
        for batch in batches([document.text for document in documents], gap=self.window + self.q):
            hashes = Hashes(batch.points)
            starts = self._starts(batch, hashes)
            texts = np.searchsorted(batch.starts, starts, side="right") - 1
            found = np.empty(len(starts), RECORD)
            found["key"] = hashes.spans(starts, starts + self.characters)
            found["label"] = verdicts.labels(shard, batch.first + texts)
            found["start"] = starts - batch.starts[texts]
            records.append(found)
        runs.write(runs.run_path(folder, "stretches", shard), np.concatenate(records))

    def combine(self, shards: int, folder: Path) -> None:
        """Find the stretches that occur twice."""

        def fill(temporary: Path) -> None:
            merged = runs.merged(runs.run_paths(folder, "stretches", shards), self.memory_mb << 20)
            for number, records in enumerate(merged):
                runs.write(runs.run_path(temporary, "cuts", number), self._cuts(records))

        files.write_folder(folder / "cuts", fill)

    def judge(self, documents: Sequence[Document], shard: int, folder: Path) -> list[Verdict]:
        """Cut the repetitions out of a shard's documents."""
        low, high = shard << verdicts.SHARD_BITS, (shard + 1) << verdicts.SHARD_BITS
        paths = sorted((folder / "cuts").glob("cuts-*.npy"))
        cuts: dict[int, list[tuple[int, int]]] = {}
        for label, start, end in runs.between(paths, low, high).tolist() if paths else ():
            cuts.setdefault(label - low, []).append((start, end))
        return [
            _without(document, united(cuts[number])) if number in cuts else document
            for number, document in enumerate(documents)
        ]

    def _starts(self, batch: Batch, hashes: Hashes) -> Int64s:
        """Where the stretches of a batch start: at anchors, at the start of a text and in time for its end."""
        last = batch.ends - self.characters
        long = last >= batch.starts
        starts = np.unique(
            np.concatenate([batch.starts[long], anchors(batch, hashes, self.q, self.window), last[long]])
        )
        texts = np.searchsorted(batch.starts, starts, side="right") - 1
        return starts[starts <= last[texts]]

    def _cuts(self, records: runs.Records) -> runs.Records:
        """What goes of all but the first occurrence of each stretch."""
        first = runs.first_of_key(records)
        later = np.flatnonzero(first != np.arange(len(records)))
        cuts = np.empty(len(later), CUT)
        cuts["key"] = records["label"][later]
        cuts["start"] = records["start"][later]
        cuts["end"] = cuts["start"] + self.characters
        first = first[later]
        own = cuts["key"] == records["label"][first]
        kept_to = records["start"][first] + self.characters
        cuts["start"][own] = np.maximum(cuts["start"], kept_to)[own]
        return cuts


def united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places as spans that do not touch, in order."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def cut_out(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text without the spans, which are drawn in so that no word is left in half."""
    pieces, end = [], 0
    for start, stop in _drawn_in(text, spans):
        pieces.append(text[end:start])
        end = stop
    return "".join([*pieces, text[end:]])


def _drawn_in(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in spans:
        if _in_word(text, start):
            near = range(start, min(end, start + WORD_AT_MOST))
            start = next((i + 1 for i in near if text[i].isspace()), start)
        if _in_word(text, end):
            near = range(end, max(start, end - WORD_AT_MOST), -1)
            end = next((i for i in near if text[i - 1].isspace()), end)
        if start < end:
            yield start, end


def _in_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def _without(document: Document, spans: list[tuple[int, int]]) -> Verdict:
    text = cut_out(document.text, spans)
    if not text.strip():
        return Dropped(document, "nothing but repeated spans", f"{len(spans)} spans")
    return document._replace(text=text)
