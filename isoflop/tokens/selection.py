"""Which documents are kept, held out, and shown to the tokenizer: arithmetic on their content hashes.

What happens to a document depends on its content and the seed, not on where it stands, so that a corpus read
in another order gives the same split, and a corpus that grows moves no document from one side to the other.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from isoflop.corpus import Document
from isoflop.keys import UInt64s, keyed

Mask = NDArray[np.bool_]

LOW_HALF = 2**64 - 1


@dataclass(frozen=True)
class Survey:
    """Every document of a corpus in reading order: a 128-bit content hash in two halves, size, and group.

    Arrays of shape (documents,); ``text_bytes`` is UTF-8 bytes. A group is what a sample is spread over.
    """

    high: UInt64s
    low: UInt64s
    text_bytes: NDArray[np.int64]
    group: NDArray[np.int64]

    def first_occurrences(self) -> Mask:
        """True for the first document of each content."""
        first = np.zeros(len(self.low), dtype=np.bool_)
        order = np.lexsort((self.high, self.low))  # stable: equal contents stay in reading order
        high, low = self.high[order], self.low[order]
        new = np.ones(len(order), dtype=np.bool_)
        new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        first[order[new]] = True
        return first

    def held_out(self, among: Mask, fraction: float, key: int) -> Mask:
        """True for about ``fraction`` of the documents ``among`` which to choose; never for none of them."""
        chance = keyed(self.low, key) / 2.0**64
        chosen = among & (chance < fraction)
        if not chosen.any():
            chosen[np.argmin(np.where(among, chance, np.inf))] = True
        return chosen

    def spread(self, among: Mask, key: int) -> NDArray[np.int64]:
        """The documents ``among`` in an order of which every beginning is spread evenly over the groups.

        Documents are shuffled within their group, and the groups are then dealt out together, each at a
        speed in proportion to its number of documents. The first document of every group comes first.
        """
        chosen = np.flatnonzero(among)
        shuffled = keyed(self.low[chosen], key)
        by_group = chosen[np.lexsort((shuffled, self.group[chosen]))]
        _, starts, counts = np.unique(self.group[by_group], return_index=True, return_counts=True)
        rank = np.arange(len(by_group)) - np.repeat(starts, counts)
        return by_group[np.lexsort((keyed(self.low[by_group], key), rank / np.repeat(counts, counts)))]

    def fingerprint(self, among: Mask) -> str:
        """Of the set of contents, whatever their order."""
        order = np.lexsort((self.high[among], self.low[among]))
        halves = np.stack([self.low[among][order], self.high[among][order]]).astype("<u8")
        return xxhash.xxh3_128_hexdigest(halves.tobytes())


def content_hash(text: bytes) -> int:
    """128 bits: two documents with the same hash are taken to be the same."""
    return xxhash.xxh3_128_intdigest(text)


def group_of(source: str) -> str:
    """The file of a JSON record; the top folder (or package) of a document that is a file or part of one."""
    file, colon, record = source.rpartition(":")
    if not (colon and record.isdigit()):
        file = source
    return file if ".jsonl" in file else file.split("/", 1)[0]


def survey(documents: Iterable[Document]) -> Survey:
    """Read all documents once and remember 32 bytes of each."""
    high, low, sizes, groups = array("Q"), array("Q"), array("q"), array("q")
    numbers: dict[str, int] = {}
    for document in documents:
        data = document.text.encode("utf-8")
        digest = content_hash(data)
        high.append(digest >> 64)
        low.append(digest & LOW_HALF)
        sizes.append(len(data))
        groups.append(numbers.setdefault(group_of(document.place), len(numbers)))
    return Survey(
        np.array(high, np.uint64),
        np.array(low, np.uint64),
        np.array(sizes, np.int64),
        np.array(groups, np.int64),
    )
