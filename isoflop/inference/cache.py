"""Keys and values of what rows have read so far, and the masks and positions that follow from their lengths.

One tensor for keys and one for values, (layers, rows, kv_heads, capacity, head_dim), laid out so that a decoding step
reads them without a copy. Rows begin at slot 0 and have lengths of their own; what lies beyond a row's length is never
seen. Work on the cache is on its live slots alone: the longest row's length, rounded up to ``BUCKET``. Costs
2·layers·kv_width·capacity elements a row. Left out: paging; rows are copied where a prompt has several samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isoflop.planning.shape import Shape

BUCKET = 32
"""Slots are taken in multiples of this, so that shapes change seldom."""


class Cache:
    """Room for ``rows`` sequences of at most ``capacity`` tokens."""

    def __init__(self, shape: Shape, rows: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        capacity = -(-capacity // BUCKET) * BUCKET
        size = (shape.layers, rows, shape.kv_heads, capacity, shape.head_dim)
        self.shape, self.rows, self.capacity = shape, rows, capacity
        self.keys = torch.zeros(size, dtype=dtype, device=device)
        self.values = torch.zeros(size, dtype=dtype, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.longest = 0

    def grow(self, lengths: list[int]) -> None:
        """Set every row's length."""
        self.lengths.copy_(torch.tensor(lengths, dtype=torch.long))
        self.longest = max(lengths, default=0)

    def live(self, new: int) -> int:
        """Slots that hold something once ``new`` more tokens are written to every row."""
        return min(self.capacity, -(-(self.longest + new) // BUCKET) * BUCKET)

    def write(self, layer: int, rows: Tensor, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put keys and values (count, kv_heads, head_dim) into these slots (count,) of these rows (count,)."""
        self.keys[layer].transpose(1, 2)[rows, slots] = keys
        self.values[layer].transpose(1, 2)[rows, slots] = values

    def layer(self, layer: int, rows: int, live: int) -> tuple[Tensor, Tensor]:
        """Keys and values (rows, kv_heads, live, head_dim) of the first rows and slots."""
        return self.keys[layer, :rows, :, :live], self.values[layer, :rows, :, :live]

    def copy_row(self, row: int, source: Cache, from_row: int, length: int) -> None:
        """Let a row have read what another cache's row has: its first ``length`` tokens."""
        self.keys[:, row, :, :length] = source.keys[:, from_row, :, :length]
        self.values[:, row, :, :length] = source.values[:, from_row, :, :length]

    def move(self, row: int, to: int, length: int) -> None:
        """Give a row's contents to another row of this cache."""
        self.copy_row(to, self, row, length)
