"""The model that is cheapest over its life: training and then serving, at a loss that is given.

A model that will answer many requests should be smaller than compute-optimal and trained on more tokens. The
answer is a root of one derivative, found by bisection for any surface: about fifty evaluations where tokens for a
loss have a closed answer, ten thousand (some 50 ms) where they do not. Left out: unequal prices of training and
serving FLOPs, utilisation, and the cost of attention over long prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .surface import FLOPS, Allocation, LossSurface

SERVING_FLOPS = 2.0  # per parameter and token, forward only


@dataclass(frozen=True)
class Lifetime:
    """A model of N parameters trained on D tokens to ``loss`` that then serves ``served`` tokens.

    ``optimal`` is the model that reaches the same loss with the least *training* compute.
    """

    N: float
    D: float
    loss: float
    served: float
    optimal: Allocation

    @property
    def training(self) -> float:
        """FLOPs of training, 6·N·D."""
        return FLOPS * self.N * self.D

    @property
    def inference(self) -> float:
        """FLOPs of serving, two per parameter and token."""
        return SERVING_FLOPS * self.N * self.served

    @property
    def total(self) -> float:
        """FLOPs over the life."""
        return self.training + self.inference

    @property
    def saving(self) -> float:
        """The part of the compute-optimal model's lifetime FLOPs that this one saves, 0 to 1."""
        return 1 - self.total / (self.optimal.C + SERVING_FLOPS * self.optimal.N * self.served)

    def __str__(self) -> str:
        return (
            f"N = {self.N:.4g}, D = {self.D:.4g} for {self.loss:.4f} nats/token: {self.training:.4g} FLOPs to train, "
            f"{self.inference:.4g} to serve {self.served:.4g} tokens, {self.saving:.1%} less than compute-optimal"
        )


def lifetime(law: LossSurface, served: float, *, loss: float | None = None, C: float | None = None) -> Lifetime:
    """Minimise 6·N·D + 2·N·served over the models that reach a loss.

    The loss is given as such, or as that of the compute-optimal model of C training FLOPs. Source: Sardana &
    Frankle 2023, "Beyond Chinchilla-Optimal: Accounting for Inference in Language Model Scaling Laws",
    for any surface. Raises ValueError unless exactly one of ``loss`` and ``C`` is given, for a number of served tokens
    that is negative or infinite, and for a loss that the law does not reach.
    """
    if C is not None and loss is None:
        target = law.optimal(C).loss
    elif loss is not None and C is None:
        target = loss
    else:
        raise ValueError("give either the loss to reach or the training budget C whose optimum sets it")
    if not 0 <= served < math.inf:
        raise ValueError(f"the tokens to be served must be zero or more and finite, not {served}")
    optimal = law.cheapest(target)
    N = _root(law, target, served, optimal.N)
    return Lifetime(N=N, D=law.tokens_for(target, N), loss=target, served=served, optimal=optimal)


def _root(law: LossSurface, loss: float, served: float, high: float) -> float:
    """Return the size at which lifetime FLOPs stop falling, at most ``high``, where training FLOPs do."""
    if served == 0:
        return high
    low = high / 2
    while _marginal(law, loss, served, low) > 0:
        low /= 2
    while high / low - 1 > 1e-12:
        middle = math.sqrt(low * high)
        if _marginal(law, loss, served, middle) > 0:
            high = middle
        else:
            low = middle
    return high


def _marginal(law: LossSurface, loss: float, served: float, N: float) -> float:
    """Return the lifetime FLOPs of one more parameter, with D(N) following the loss: dD/dN = −(∂L/∂N)/(∂L/∂D)."""
    D = law.tokens_for(loss, N)
    if not math.isfinite(D):
        return -math.inf
    by_size, by_tokens = law.slopes(N, D)
    with np.errstate(divide="ignore"):
        trade = np.divide(by_size, by_tokens)
    return float(FLOPS * (D - N * trade) + SERVING_FLOPS * served)
