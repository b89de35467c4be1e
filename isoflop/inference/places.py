"""Where new tokens stand in rows that are filled up to one length, so that products are of tokens alone.

A pass over rows of different lengths multiplies by weights what is real, and lays tokens out in rows only where they
attend to each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """``count`` new tokens in ``rows`` rows of ``time`` places.

    Attributes:
        rows: rows of the pass.
        time: places of each.
        chosen: which of the rows · time places hold tokens (count,); None where all do.
        row: the row of each token (count,).
        slot: its slot in the cache (count,).
    """

    rows: int
    time: int
    chosen: Tensor | None
    row: Tensor
    slot: Tensor

    @classmethod
    def of(cls, slots: Tensor, real: Tensor | None) -> Places:
        """From the slots of all places (rows, time), and which of them hold tokens, or None for all."""
        rows, time = slots.shape
        row = torch.arange(rows, device=slots.device).repeat_interleave(time)
        if real is None:
            return cls(rows, time, None, row, slots.reshape(-1))
        chosen = real.reshape(-1).nonzero().squeeze(1)
        return cls(rows, time, chosen, row[chosen], slots.reshape(-1)[chosen])

    def pick(self, values: Tensor) -> Tensor:
        """Those of the tokens (count, …) out of those of all places (rows, time, …)."""
        flat = values.flatten(0, 1)
        return flat if self.chosen is None else flat[self.chosen]

    def lay_out(self, values: Tensor) -> Tensor:
        """Values of the tokens (count, …) in their places (rows, time, …), zeros elsewhere."""
        if self.chosen is None:
            return values.reshape(self.rows, self.time, *values.shape[1:])
        laid = values.new_zeros(self.rows * self.time, *values.shape[1:])
        laid[self.chosen] = values
        return laid.view(self.rows, self.time, *values.shape[1:])
