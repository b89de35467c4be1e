"""A mixture of experts in place of each block's SwiGLU: how many, and how many a token meets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Experts:
    """``count`` SwiGLU experts of the shape's ``ffn`` width each, of which a router chooses ``active`` for a token.

    ``balance`` weighs the load-balancing loss (Fedus et al. 2021, arXiv 2101.03961, equation 4) in nats per token.
    """

    count: int
    active: int = 1
    balance: float = 0.01

    def __post_init__(self) -> None:
        """Refuse more active experts than there are."""
        if not 1 <= self.active <= self.count:
            raise ValueError(f"a token meets between 1 and all {self.count} experts, not {self.active}")
        if self.balance < 0:
            raise ValueError(f"the weight of the load-balancing loss must not be negative: {self.balance}")
