"""Counts of word n-grams, out of core: sorted runs on disk, merged by ranges of keys.

An n-gram is one 64-bit key: its words' numbers, the oldest in the highest bits, so that the suffix of a key is a mask
and the context a shift. ``order`` times the bits of a word's number must therefore fit in 64: 65,000 words at order
4, two million at order 3. Memory while counting is that of one run (``run`` n-grams, 16 bytes each, about four times
that while sorting), whatever the size of the text; the merged counts are mapped from disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from isoflop.keys import UInt64s

Counts = NDArray[np.int64]

RUN = 1 << 23


def keys_of(numbers: UInt64s, order: int, bits: int, begin: int) -> UInt64s:
    """Keys of the n-grams of each length that end at each word, shape (order, words): row k − 1 has those of k words.

    Before the first word stand ``begin`` marks, as many as it takes.
    """
    padded = np.concatenate([np.full(order - 1, begin, np.uint64), numbers])
    grams = np.empty((order, len(numbers)), np.uint64)
    grams[0] = numbers
    for k in range(1, order):
        older = padded[order - 1 - k : len(padded) - k]
        grams[k] = grams[k - 1] | (older << np.uint64(k * bits))
    return grams


def add_up(keys: UInt64s, counts: Counts) -> tuple[UInt64s, Counts]:
    """Distinct keys, ascending, with the sums of their counts."""
    order = np.argsort(keys, kind="stable")
    return add_up_sorted(keys[order], counts[order])


def add_up_sorted(keys: UInt64s, counts: Counts) -> tuple[UInt64s, Counts]:
    """The same of keys in ascending order."""
    if not len(keys):
        return keys, counts
    firsts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[firsts], np.add.reduceat(counts, firsts)


def count(keys: Iterable[UInt64s], out: Path, run: int = RUN) -> None:
    """Count a stream of keys of any length into ``out/keys.npy`` and ``out/counts.npy``, ascending."""
    with TemporaryDirectory(dir=out, prefix=".runs-") as scratch:
        runs = []
        for number, block in enumerate(_blocks(keys, run)):
            name = Path(scratch) / f"{number}.npy"
            found, counts = np.unique(block, return_counts=True)
            np.save(name, np.stack([found, counts.astype(np.uint64)]))
            runs.append(name)
        maps = [np.load(name, mmap_mode="r") for name in runs]
        merged = list(_merged(maps, run))  # one entry per range: the distinct n-grams must fit, the text need not
    distinct = [part[0] for part in merged] or [np.empty(0, np.uint64)]
    sums = [part[1] for part in merged] or [np.empty(0, np.int64)]
    np.save(out / "keys.npy", np.concatenate(distinct))
    np.save(out / "counts.npy", np.concatenate(sums))


def _blocks(keys: Iterable[UInt64s], size: int) -> Iterator[UInt64s]:
    """The keys in blocks of at least ``size``, the last one excepted."""
    held: list[UInt64s] = []
    length = 0
    for part in keys:
        held.append(part)
        length += len(part)
        if length >= size:
            yield np.concatenate(held)
            held, length = [], 0
    if length:
        yield np.concatenate(held)


def _merged(runs: list[UInt64s], size: int) -> Iterator[tuple[UInt64s, Counts]]:
    """The union of sorted runs in ranges of about ``size`` keys, cut where samples of the runs say."""
    if not runs:
        return
    total = sum(run.shape[1] for run in runs)
    samples = np.sort(np.concatenate([run[0, :: max(1, size // 64)] for run in runs]))
    cuts = np.unique(samples[np.linspace(0, len(samples) - 1, max(2, total // size + 1)).astype(np.int64)[1:-1]])
    edges = [np.concatenate([[0], np.searchsorted(run[0], cuts), [run.shape[1]]]) for run in runs]
    for number in range(len(cuts) + 1):
        parts = [run[:, edge[number] : edge[number + 1]] for run, edge in zip(runs, edges, strict=True)]
        keys = np.concatenate([part[0] for part in parts])
        yield add_up(keys, np.concatenate([part[1] for part in parts]).astype(np.int64))
