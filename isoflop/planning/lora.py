"""Which small additions to a model's matrices are trained in its stead (LoRA), as plain numbers; no torch."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrices of a block by the names that PEFT calls target modules."""


@dataclass(frozen=True)
class Lora:
    """Which additions a model is given (``model.lora``).

    Attributes:
        rank: of each addition, which has rank·(in + out) numbers for a matrix (out, in); 0 for none at all.
        alpha: an addition is scaled by alpha / rank.
        parts: the matrices of a block that have one: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.
        rank_stabilised: scale by alpha / √rank instead, so that large ranks learn as fast as small ones.
    """

    rank: int = 0
    alpha: float = 32.0
    parts: tuple[str, ...] = PARTS
    rank_stabilised: bool = False

    def __post_init__(self) -> None:
        """Refuse what adapts nothing."""
        if self.rank < 0 or not self.alpha > 0 or not self.parts:
            raise ValueError(f"LoRA needs a rank of 0 or more, an alpha above 0 and parts to adapt: {self}")
        for part in self.parts:
            if part not in PARTS:
                near = difflib.get_close_matches(part, PARTS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"a block has {', '.join(PARTS)}"
                raise ValueError(f"LoRA knows no part {part!r} of a block; {hint}")

    @property
    def scale(self) -> float:
        """What B·A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)
