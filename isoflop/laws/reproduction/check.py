"""One published number against its recomputation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What a source prints, what its data give here, and how far apart the two may be to count as reproduced.

    ``tolerance`` is absolute, in the units of the number: half a unit of the last printed digit, or a stated
    allowance where the recomputation is random or the source's procedure differs.
    """

    source: str
    quantity: str
    published: float
    recomputed: float
    tolerance: float

    @property
    def reproduced(self) -> bool:
        """Whether the two agree."""
        return abs(self.published - self.recomputed) <= self.tolerance

    def __str__(self) -> str:
        verdict = "reproduced" if self.reproduced else "NOT reproduced"
        return f"{self.source}: {self.quantity}: {self.published:.6g} published, {self.recomputed:.6g} here, {verdict}"
