"""Examples laid into rows: several in one row, none seeing another, each target known.

An example is ids of which some are trained on. It takes a place for every id that leads up to a target: what follows
its last target is left out. Rows have one length for a whole stage, and a batch's examples go into as few of them as
best-fit decreasing finds (``tokens.packing``). In a row every example is a document of its own, and so is the padding,
so that attention keeps them apart; positions go on through the row, which rotary embeddings cannot tell from positions
of their own.

An example longer than a row is cut at its end, and dropped where nothing that is trained on would be left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from isoflop.keys import derive_key, keyed
from isoflop.tokens.packing import PADDING, Ints, best_fit

Item = TypeVar("Item")
STEP = 64
"""Lengths of rows are multiples of it, which kernels like."""


@dataclass(frozen=True)
class Example:
    """Ids int32 (n,), and which of them are targets, bool (n,); the first, which nothing leads up to, never is."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]

    @classmethod
    def of(cls, ids: Sequence[int], trained: Sequence[bool]) -> Example:
        """One of plain lists."""
        marks = np.array(trained, np.bool_)
        marks[:1] = False
        return cls(np.array(ids, np.int32), marks)

    @property
    def size(self) -> int:
        """The places it takes in a row: as many ids as lead up to its last target; 0 where it has none."""
        return int(np.flatnonzero(self.trained)[-1]) if self.trained.any() else 0

    @property
    def targets(self) -> int:
        """How many of its ids are trained on."""
        return int(self.trained.sum())

    def cut(self, room: int) -> Example:
        """Its beginning, which fits into ``room`` places."""
        return Example(self.ids[: room + 1], self.trained[: room + 1])

    @property
    def prompt_hash(self) -> int:
        """A hash of what comes before its first target: the same for all answers to one prompt."""
        first = int(np.argmax(self.trained)) if self.trained.any() else len(self.ids)
        return xxhash.xxh3_64_intdigest(self.ids[:first].tobytes())


class Rows(NamedTuple):
    """A micro-batch: the ids that are read, their targets (``PADDING`` where there is none) and whose they are.

    All int64 (rows, length); a document is a run of equal numbers. ``places`` (n,) are where targets are, counted over
    all rows, so that the output head need not be applied elsewhere. Some more places are among them, which have none: n
    is all places, or their half, quarter …, for the sake of few shapes.
    """

    tokens: Tensor
    targets: Tensor
    documents: Tensor
    places: Tensor

    @property
    def aims(self) -> Tensor:
        """The targets at ``places``."""
        return self.targets.flatten()[self.places]

    def at_places(self, hidden: Tensor) -> Tensor:
        """States (n, width) at ``places``, of those of all tokens, (rows, length, width)."""
        return hidden.flatten(0, 1)[self.places]

    def to(self, device: torch.device) -> Rows:
        """The same on a device."""
        return Rows(*(tensor.to(device) for tensor in self))


def lay(rows: Sequence[Sequence[Example]], length: int) -> Rows:
    """Examples as rows of ``length`` places; raises ValueError where they do not fit into one."""
    tokens, documents = np.zeros((len(rows), length), np.int64), np.zeros((len(rows), length), np.int64)
    targets = np.full((len(rows), length), PADDING, np.int64)
    for row, examples in enumerate(rows):
        start = 0
        for number, example in enumerate(examples):
            size = example.size
            place = slice(start, start + size)
            tokens[row, place] = example.ids[:size]
            targets[row, place] = np.where(example.trained, example.ids, PADDING)[1 : size + 1]
            documents[row, place] = number
            start += size
        documents[row, start:] = len(examples)
    return Rows(*(torch.from_numpy(array) for array in (tokens, targets, documents, places_of(targets))))


def places_of(targets: Ints) -> Ints:
    """Where there are targets in rows of them, and places without, up to all places halved as often as may be."""
    flat = targets.ravel()
    found = np.flatnonzero(flat != PADDING)
    wanted = len(flat)
    while wanted % 2 == 0 and wanted // 2 >= max(1, len(found)):
        wanted //= 2
    return np.concatenate([found, np.flatnonzero(flat == PADDING)[: wanted - len(found)]])


def packed(sizes: Ints, room: int) -> list[list[int]]:
    """Which of the things of these sizes go into each row of ``room`` places, by best-fit decreasing."""
    rows: dict[int, list[int]] = {}
    for number, row in enumerate(best_fit(sizes, room).tolist()):
        rows.setdefault(row, []).append(number)
    return list(rows.values())


def pieces(rows: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """Rows in groups of at most ``most``, each a power of two, so that there are few shapes to compile for."""
    start = 0
    while start < len(rows):
        size = fitting(min(most, len(rows) - start))
        yield rows[start : start + size]
        start += size


def fitting(most: int) -> int:
    """The largest power of two up to ``most``; 1 at least."""
    return 1 << max(1, most).bit_length() - 1


def row_length(longest: int, context: int) -> int:
    """The length of a stage's rows: that of its longest example, rounded up, and no more than the context."""
    return min(context, -(-max(1, longest) // STEP) * STEP)


@dataclass(frozen=True)
class Fitted:
    """The examples that something can be learnt from, and how many were cut at their end or dropped for it."""

    examples: list[Example]
    cut: int
    dropped: int

    @classmethod
    def of(cls, examples: Sequence[Example], context: int) -> Fitted:
        """Those that have a target within the context.

        Raises ValueError, saying why, where there are none.
        """
        short = [example.cut(context) for example in examples]
        kept = [example for example in short if example.targets]
        cut = sum(0 < after.targets < before.targets for before, after in zip(examples, short, strict=True))
        if not kept:
            untrained = sum(not example.targets for example in examples)
            raise ValueError(
                f"these {len(examples):,} examples train on nothing: {untrained:,} have no answer of an assistant, and "
                f"of {len(examples) - untrained:,} the answer begins beyond the context of {context:,} tokens"
            )
        return cls(kept, cut, len(short) - len(kept))


def held_out(hashes: Sequence[int], share: float) -> NDArray[np.bool_]:
    """Which examples are kept from training to measure on, by the hashes of their prompts.

    The same whatever the seed, the order and the other examples, and all examples of one prompt go together.
    """
    drawn = keyed(np.array(hashes, np.uint64), derive_key(0, "held out"))
    return drawn / 2.0**64 < share


def fingerprint(examples: Sequence[Example]) -> str:
    """xxh3 of all ids and which are trained on, in their order."""
    digest = xxhash.xxh3_128()
    for example in examples:
        digest.update(np.int64(len(example.ids)).tobytes() + example.ids.tobytes() + example.trained.tobytes())
    return digest.hexdigest()
