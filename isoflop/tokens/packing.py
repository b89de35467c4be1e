"""Best-fit packing: documents laid into sequences whole, planned once, offline, and mapped from then on.

Concatenating and cutting uses every token, but where a sequence begins in the middle of a document the model must
predict without what it is about. Here only documents longer than a sequence are cut, and the pieces that do not fill
one are packed by best-fit decreasing: longest first, each into the fullest sequence that has room (Ding et al. 2024,
arXiv 2404.10830, who find better reading and fewer hallucinations at equal cost). What stays empty is padding, which
is no target.

A sequence has room for context + 1 tokens: inputs and the last target. A long document's pieces share a token, so that
every token but the first of a piece is a target of its own document once an epoch. Of the first tokens of pieces, a
document's begin is a target of the document before it in its sequence: that a document ends here is learnable. The
token that a later piece shares with the one before is no target, since nothing in its sequence leads up to it: rows
hold it as −2 − id, which ``inputs`` turns back. One such piece is the first of its sequence, where it costs no target.

A plan is a folder beside the shards, named by split, context and the fingerprint of the tokens, so that other tokens
never meet it. It is made a window of documents at a time, so memory does not grow with the corpus, and the last
sequences of a window are all that windows cost. Fitting takes about 2 s a million documents;
opening a plan is mapping four files.

Left out: attention masks between the documents of a sequence, for which ``document_ids`` is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from isoflop.files import locked, remove_temporaries, write_folder
from isoflop.tokens.dataset import TokenDataset
from isoflop.tokens.shards import Tokens

PADDING = -1
"""No token: neither input nor target. Rows hold ids, this, and below it ids that are inputs and no targets."""
VERSION = 2  # of the files
LOCK = ".packing-lock"
WINDOW = 1 << 20  # documents packed together
CHUNK = 1 << 22  # tokens looked through at once for where documents begin
FILES = {"starts": "<i8", "lengths": "<i4", "pieces": "<i8", "fills": "<i4", "aims": "<i4"}

Ints = NDArray[np.int64]
Rows = TypeVar("Rows")


@dataclass(frozen=True)
class Plan:
    """The sequences of a split: each a few pieces of documents, one after another.

    ``starts`` and ``lengths`` (all pieces) say where in the split a piece is, ``pieces`` (sequences + 1) which are each
    sequence's, ``fills`` (sequences) how many tokens those have and ``aims`` (sequences) how many of them are targets.
    A document begins with ``bos``. ``statistics`` counts documents, those cut, sequences and the share of targets that
    are some.
    """

    context: int
    starts: NDArray[np.int64]
    lengths: NDArray[np.int32]
    pieces: NDArray[np.int64]
    fills: NDArray[np.int32]
    aims: NDArray[np.int32]
    bos: int
    statistics: dict[str, float]

    @classmethod
    def of(cls, dataset: TokenDataset, split: str, context: int) -> Plan:
        """The plan of a split at a context, made now if there is none yet."""
        path = dataset.folder / f"packing-{VERSION}-{split}-{context}-{dataset.manifest.fingerprint[:16]}"
        if not path.exists():
            with locked(dataset.folder / LOCK):
                if not path.exists():  # another process was planning while this one waited
                    remove_temporaries(dataset.folder)
                    write_folder(path, partial(_plan, dataset, split, context))
        arrays: dict[str, Any] = {
            name: np.asarray(np.memmap(path / f"{name}.bin", dtype, "r")) for name, dtype in FILES.items()
        }
        statistics = json.loads((path / "plan.json").read_text())
        return cls(context, **arrays, bos=dataset.tokenizer.bos, statistics=statistics)

    def __len__(self) -> int:
        return len(self.fills)

    def rows(self, tokens: Tokens, sequences: Ints) -> Ints:
        """The tokens of these sequences, int64 (len(sequences), context + 1), ``PADDING`` where there are none.

        A token that is an input and no target is −2 − id.
        """
        first = self.pieces[sequences]
        pieces = ranges(first, self.pieces[sequences + 1] - first)
        lengths, fills = self.lengths[pieces].astype(np.int64), self.fills[sequences].astype(np.int64)
        rows = np.full((len(sequences), self.context + 1), PADDING, np.int64)
        columns = ranges(np.zeros_like(fills), fills)
        found = tokens.take(ranges(self.starts[pieces], lengths)).astype(np.int64)
        begins = np.cumsum(lengths) - lengths
        begins = begins[(columns[begins] > 0) & (found[begins] != self.bos)]
        found[begins] = -2 - found[begins]
        rows[np.repeat(np.arange(len(sequences)), fills), columns] = found
        return rows

    def targets(self, sequences: Ints) -> int:
        """Targets of these sequences."""
        return int(self.aims[sequences].sum())


def inputs(rows: Rows) -> Rows:
    """The ids that a model reads in ``rows``, an array or a tensor: those of no targets too, and 0 for padding."""
    marked: Any = rows
    return cast(Rows, (abs(marked + 1) - 1).clip(0))


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """start, start + 1, … of each length, one after another."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)


def best_fit(lengths: Ints, room: int) -> Ints:
    """Which bin each piece goes into, by best-fit decreasing into bins of ``room``; bins are numbered from 0.

    Deterministic: equal lengths in their order, into the fullest bin with room, the latest of equals.
    """
    bins = np.empty(len(lengths), np.int64)
    open_bins: list[list[int]] = [[] for _ in range(room + 1)]  # by the room that is left in them
    left, count = 0, 0  # bit r of ``left``: some bin has r left
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        if fitting := left >> length:
            before = length + (fitting & -fitting).bit_length() - 1
            chosen = open_bins[before].pop()
            if not open_bins[before]:
                left ^= 1 << before
        else:
            before, chosen, count = room, count, count + 1
        bins[piece] = chosen
        if after := before - length:
            open_bins[after].append(chosen)
            left |= 1 << after
    return bins


def _plan(dataset: TokenDataset, split: str, context: int, folder: Path) -> None:
    """Write the four files of a plan, and what it says of the documents."""
    files = {name: (folder / f"{name}.bin").open("wb") for name in FILES}
    documents = cut = sequences = written = targets = 0
    try:
        _append(files["pieces"], "pieces", np.zeros(1, np.int64))
        for starts, lengths in _documents(dataset.tokens(split), dataset.tokenizer.bos):
            documents, cut = documents + len(lengths), cut + int(np.count_nonzero(lengths > context + 1))
            starts, lengths, bins, later = _pack(starts, lengths, context)
            counts, fills = np.bincount(bins), np.bincount(bins, lengths)
            # The first token of a sequence is no target, nor is that of a later piece behind another.
            aims = fills - np.maximum(1, np.bincount(bins, later))
            _append(files["starts"], "starts", starts)
            _append(files["lengths"], "lengths", lengths)
            _append(files["pieces"], "pieces", written + np.cumsum(counts))
            _append(files["fills"], "fills", fills)
            _append(files["aims"], "aims", aims)
            written, sequences = written + len(starts), sequences + len(counts)
            targets += int(aims.sum())
    finally:
        for file in files.values():
            file.close()
    used = targets / (sequences * context)
    statistics = {"documents": documents, "cut": cut, "sequences": sequences, "used": used}
    (folder / "plan.json").write_text(json.dumps(statistics, indent=1) + "\n")


def _pack(starts: Ints, lengths: Ints, context: int) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Cut documents into pieces and pack them: starts, lengths and bins of pieces, in the order of bins.

    And whether each is a later piece of its document; in a bin such pieces come first.
    """
    whole = np.maximum(0, -(-(lengths - context - 1) // context))  # pieces that fill a sequence alone
    rest = lengths - whole * context
    full = np.repeat(starts, whole) + context * ranges(np.zeros_like(whole), whole)
    bins = best_fit(rest, context + 1)
    order = np.lexsort((whole == 0, bins))
    count = int(bins.max(initial=-1)) + 1
    return (
        np.concatenate([(starts + whole * context)[order], full]),
        np.concatenate([rest[order], np.full(len(full), context + 1)]),
        np.concatenate([bins[order], count + np.arange(len(full))]),
        np.concatenate([(whole > 0)[order], np.zeros(len(full), np.bool_)]),
    )


def _documents(tokens: Tokens, bos: int) -> Iterator[tuple[Ints, Ints]]:
    """Starts and lengths of the documents of a stream, ``WINDOW`` at a time."""
    begun = np.zeros(0, np.int64)
    for first in range(0, len(tokens), CHUNK):
        begun = np.concatenate([begun, first + np.flatnonzero(tokens[first : first + CHUNK] == bos)])
        while len(begun) > WINDOW:
            yield begun[:WINDOW], np.diff(begun[: WINDOW + 1])
            begun = begun[WINDOW:]
    yield begun, np.diff(begun, append=len(tokens))


def _append(file: BinaryIO, name: str, values: NDArray[Any]) -> None:
    file.write(values.astype(FILES[name]).tobytes())
