"""Token ids on disk: flat little-endian files, written once, memory-mapped ever after.

A split is one stream of tokens; its shards are that stream cut every ``shard_tokens`` tokens, wherever that
falls. Opening costs the same for any length, and reading only the pages that are touched.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from isoflop.files import TEMPORARY, commit
from isoflop.tokens.manifest import Shard, Split


class ShardWriter:
    """Writes one split. A finished shard is synced and has its final name; ``close`` finishes the last."""

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: np.dtype[Any],
        shard_tokens: int,
        byte_lengths: NDArray[np.int64],
        bos: int,
    ) -> None:
        self._folder, self._name, self._dtype, self._shard_tokens = folder, name, dtype, shard_tokens
        self._byte_lengths, self._bos = byte_lengths, bos
        self._shards: list[Shard] = []
        self._open()

    def write(self, ids: NDArray[np.int64]) -> None:
        """Append ids, shape (any,)."""
        while ids.size:
            room = self._shard_tokens - self._tokens
            self._append(ids[:room])
            ids = ids[room:]
            if self._tokens == self._shard_tokens:
                self._finish()
                self._open()

    def close(self) -> Split:
        """Finish the last shard and return the split."""
        if self._tokens:
            self._finish()
        else:
            self.abandon()
        return Split.of(self._shards)

    def abandon(self) -> None:
        """Let go of the unfinished shard."""
        self._file.close()
        self._path.with_name(self._path.name + TEMPORARY).unlink(missing_ok=True)

    def _open(self) -> None:
        self._path = self._folder / f"{self._name}-{len(self._shards):05d}.bin"
        self._file = self._path.with_name(self._path.name + TEMPORARY).open("wb")
        self._hash = xxhash.xxh3_128()
        self._tokens = self._documents = self._text_bytes = 0

    def _append(self, ids: NDArray[np.int64]) -> None:
        data = ids.astype(self._dtype).tobytes()
        self._file.write(data)
        self._hash.update(data)
        self._tokens += ids.size
        self._documents += int(np.count_nonzero(ids == self._bos))
        self._text_bytes += int(self._byte_lengths[ids].sum())

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        commit(self._path.with_name(self._path.name + TEMPORARY), self._path)
        counts = (self._tokens, self._documents, self._text_bytes)
        self._shards.append(Shard(self._path.name, *counts, self._hash.hexdigest()))


class Tokens:
    """The tokens of a split as one stream: ``len(tokens)``, and ``tokens[a:b]`` as an array of its own."""

    def __init__(self, folder: Path, shards: Sequence[Shard], dtype: np.dtype[Any]) -> None:
        # A plain array over the mapping: np.memmap's own indexing costs several times as much.
        self._shards = [np.asarray(np.memmap(folder / shard.file, dtype, "r")) for shard in shards]
        self._ends = np.cumsum([shard.tokens for shard in shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def __getitem__(self, span: slice) -> NDArray[np.unsignedinteger[Any]]:
        """A copy of the tokens of a slice (without a step), in the dtype of the shards."""
        start, stop, step = span.indices(len(self))
        assert step == 1, "tokens are read in order"
        parts = []
        while start < stop:
            number = int(np.searchsorted(self._ends, start, side="right"))
            end = min(stop, int(self._ends[number]))
            offset = int(self._ends[number]) - len(self._shards[number])
            parts.append(self._shards[number][start - offset : end - offset])
            start = end
        return np.concatenate(parts) if parts else np.empty(0, np.uint16)

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """The ``length`` tokens from each start, int64 of shape (len(starts), length)."""
        windows = np.empty((len(starts), length), np.int64)
        first = np.searchsorted(self._ends, starts, side="right")
        last = np.searchsorted(self._ends, starts + length - 1, side="right")
        for number in np.unique(first[first == last]).tolist():
            rows = np.flatnonzero((first == number) & (last == number))
            shard = self._shards[number]
            offsets = starts[rows] - (self._ends[number] - len(shard))
            windows[rows] = shard[offsets[:, None] + np.arange(length)]
        for row in np.flatnonzero(first != last).tolist():
            windows[row] = self[starts[row] : starts[row] + length]
        return windows

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tokens at any positions, int64 of shape (len(positions),)."""
        found = np.empty(len(positions), np.int64)
        numbers = np.searchsorted(self._ends, positions, side="right")
        for number in np.unique(numbers).tolist():
            shard, mine = self._shards[number], numbers == number
            found[mine] = shard[positions[mine] - (self._ends[number] - len(shard))]
        return found
