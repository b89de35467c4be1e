"""Sorted runs: what comparing a whole corpus out of core is made of.

Every shard leaves one run, a file of records sorted by their field ``key``. Afterwards all runs are read together, a
range of keys at a time, so that whatever shares a key is seen at once and memory holds one range and not the corpus.
The ranges are cut at quantiles of a sample of the keys, so uneven keys make ranges as even as they can be; the
copies of one key are never parted and must fit in memory.

Costs two passes over the records on disk and two stable sorts. A run is opened once for every range.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isoflop import files

Records = NDArray[Any]
"""A structured array with an unsigned 64-bit field ``key``."""

COPIES = 5
"""A range takes this many times its size: unsorted, its keys and their order, sorted, and the one before it."""


def run_path(folder: Path, name: str, number: int) -> Path:
    """Where run ``number`` of a kind is kept."""
    return folder / f"{name}-{number:06d}.npy"


def run_paths(folder: Path, name: str, shards: int) -> list[Path]:
    """The runs of shards 0 … ``shards`` − 1, in their order."""
    return [run_path(folder, name, shard) for shard in range(shards)]


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array as an ``.npy`` file that is there whole or not at all."""
    temporary = files.temporary_for(path)
    with files.disk_errors(path):
        try:
            with temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            files.commit(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write(path: Path, records: Records) -> None:
    """Write one run; records of equal keys stay in the order in which they were given."""
    save(path, by_key(records))


def by_key(records: Records) -> Records:
    """The records sorted by key, equal keys in their old order."""
    return records[np.argsort(records["key"], kind="stable")]


def merged(paths: Sequence[Path], memory: int) -> Iterator[Records]:
    """All records of all runs, sorted by key, in pieces that no key straddles; about ``memory`` bytes are alive.

    Records of equal keys come in the order of the runs, and within a run in the order in which they were given.
    """
    if not paths:
        return
    starts = [0] * len(paths)
    for cut in [*_cuts(paths, memory).tolist(), 1 << 64]:
        pieces = []
        for number, path in enumerate(paths):
            run = np.load(path, mmap_mode="r")
            stop = bisect_left(run["key"], cut, lo=starts[number])
            pieces.append(np.array(run[starts[number] : stop]))
            starts[number] = stop
        records = np.concatenate(pieces)
        del pieces
        if len(records):
            yield by_key(records)


def between(paths: Sequence[Path], low: int, high: int) -> Records:
    """All records with low ≤ key < high, sorted by key. At least one run must be given."""
    pieces = []
    for path in paths:
        run = np.load(path, mmap_mode="r")
        start = bisect_left(run["key"], low)  # numpy's own search would first copy the whole column of keys
        pieces.append(np.array(run[start : bisect_left(run["key"], high, lo=start)]))
    return by_key(np.concatenate(pieces))


def first_of_key(records: Records) -> NDArray[np.int64]:
    """For every one of sorted records, the number of the first that has its key."""
    number = np.arange(len(records))
    new = np.ones(len(records), bool)
    new[1:] = records["key"][1:] != records["key"][:-1]
    first: NDArray[np.int64] = np.maximum.accumulate(np.where(new, number, 0))
    return first


def _cuts(paths: Sequence[Path], memory: int) -> NDArray[np.uint64]:
    """Keys between which lies about a range each: quantiles of every n-th key of every run."""
    runs = [np.load(path, mmap_mode="r") for path in paths]
    pieces = -(-sum(run.nbytes for run in runs) * COPIES // memory)
    if pieces <= 1:
        return np.zeros(0, np.uint64)
    stride = max(1, sum(map(len, runs)) // (64 * pieces))
    sample = np.sort(np.concatenate([run["key"][stride // 2 :: stride] for run in runs]))
    return np.unique(sample[np.arange(1, pieces) * len(sample) // pieces])
