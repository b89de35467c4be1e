"""The law of over-trained models: Chinchilla with one exponent for size and data.

With equal exponents the compute-optimal ratio M = D/N is the same at every budget, and curves of constant M
are parallel: loss at any M is a power of compute with the same exponent. That is what lets a handful of small runs
predict far over-trained large ones. Closed answers throughout, all of them Chinchilla's. Left out: the law of
downstream error in the loss, which is refitted in :mod:`isoflop.laws.reproduction.gadre`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .chinchilla import Chinchilla
from .law import BLANK, Values, positive
from .surface import FLOPS, Allocation, LossSurface


@dataclass(frozen=True, repr=False)
class OverTraining(LossSurface, kind="over-training"):
    """L = E + a·N^b + β·6^(b/2)·(M·N)^b with M = D/N and b < 0, in nats per token.

    The factor 6^(b/2) makes the last term one of compute. By C = 6ND, C·M = 6ND·D/N = 6D², so
    β·6^(b/2)·(M·N)^b = β·6^(b/2)·D^b = β·(C·M)^(b/2). The term in N is written without it, a·N^b =
    a·6^(−b/2)·(C/M)^(b/2), so a and β are not on the same scale: Chinchilla's A is a, its B is β·6^(b/2).
    Source: Gadre et al. 2024, "Language models scale reliably with over-training and on downstream tasks".
    """

    E: float = BLANK
    a: float = BLANK
    beta: float = BLANK
    b: float = BLANK
    formula = "L = {E} + {a}·N^{b} + {beta}·6^({b}/2)·(M·N)^{b}"

    def chinchilla(self) -> Chinchilla:
        """Give the equal Chinchilla law: α = β = −b."""
        return Chinchilla(E=self.E, A=self.a, alpha=-self.b, B=self.beta * FLOPS ** (self.b / 2), beta=-self.b)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        return self.chinchilla().loss(N, D)

    def loss_of(self, C: ArrayLike, M: ArrayLike) -> Values:
        """Evaluate the loss for C FLOPs at M tokens per parameter (C = 6ND); C and M broadcast."""
        c, m = positive("C", C), positive("M", M)
        return self.loss(np.sqrt(c / (FLOPS * m)), np.sqrt(c * m / FLOPS))

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        return self.chinchilla().slopes(N, D)

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND. Raises ValueError as :class:`Chinchilla` does."""
        return self.chinchilla().optimal(C)

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        return self.chinchilla().tokens_for(loss, N)

    def params_for(self, loss: float, D: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        return self.chinchilla().params_for(loss, D)

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError for a loss at or below E."""
        return self.chinchilla().cheapest(loss)


_SOURCE = "Gadre et al. 2024, arXiv 2403.08540, refitted from its testbed"
_NOTE = "five runs of 11M to 411M parameters: four at M = 20, the smallest also at M = 320"


def _meaning(corpus: str) -> str:
    return f"N with embeddings, C = 6ND, models trained on {corpus}, loss on C4's validation split"


GADRE_2024_C4 = published(
    "GADRE_2024_C4",
    OverTraining(E=1.5082605444147166, a=113.69260327517962, beta=189.51552149611567, b=-0.24247223927556466),
    source=_SOURCE,
    meaning=_meaning("C4"),
    counts="total",
    verified=True,
    note=_NOTE,
)

GADRE_2024_REDPAJAMA = published(
    "GADRE_2024_REDPAJAMA",
    OverTraining(E=1.836648408738623, a=166.210992120337, beta=366.6871979615622, b=-0.2728507061786173),
    source=_SOURCE,
    meaning=_meaning("RedPajama"),
    counts="total",
    verified=True,
    note=_NOTE,
)

GADRE_2024_REFINEDWEB = published(
    "GADRE_2024_REFINEDWEB",
    OverTraining(E=1.7344620893321105, a=125.09569550155217, beta=246.2066862427996, b=-0.25439484463174905),
    source=_SOURCE,
    meaning=_meaning("RefinedWeb"),
    counts="total",
    verified=True,
    note=_NOTE,
)
