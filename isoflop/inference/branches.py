"""Several continuations of one text in one row: each sees the text and itself, and stands where it would stand alone.

So the choices of a question are read behind it without a copy of its cache, and without filling them up to one length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Branches:
    """Where the new tokens of every row belong: (rows, time) each, −1 in ``numbers`` where a row is filled up."""

    numbers: Tensor
    positions: Tensor

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[Sequence[int]]], lengths: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Branches]:
        """The tokens (rows, time) of every row's continuations, one after the other, and their branches.

        ``lengths`` are of what each row has read before, at least one token.
        """
        time = max(sum(map(len, row)) for row in rows)
        ids, numbers, positions = (torch.full((len(rows), time), value) for value in (0, -1, 0))
        for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            flat = [(token, n, length + i) for n, branch in enumerate(row) for i, token in enumerate(branch)]
            if flat:
                found = torch.tensor(flat)
                ids[at, : len(flat)], numbers[at, : len(flat)], positions[at, : len(flat)] = found.unbind(1)
        return ids.to(device), cls(numbers.to(device), positions.to(device))

    def visible(self, lengths: Tensor, live: int) -> Tensor:
        """Which slots every token sees (rows, time, live), where rows have read ``lengths`` (rows,) before.

        What fills a row up sees the text too, because a softmax over nothing is not a number.
        """
        time = self.numbers.shape[1]
        same = (self.numbers[:, :, None] == self.numbers[:, None, :]).tril()
        offset = torch.arange(live, device=lengths.device) - lengths[:, None]  # of a slot among the new tokens
        new = (offset >= 0) & (offset < time)
        index = offset.clamp(0, time - 1)[:, None].expand(-1, time, -1)
        return (offset < 0)[:, None] | new[:, None] & same.gather(2, index)
