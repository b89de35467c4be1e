"""Training with and without a teacher: the supervised law with an outer power, and the law of distilled students.

Closed answers throughout, except the best teacher (a search of about a thousand evaluations). Left out: the
compute of distillation, which depends on whether the teacher exists already and on how many students share it;
and constants for students, which we could not check against the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..library import published
from .chinchilla import Chinchilla
from .law import BLANK, Law, Values, positive
from .surface import Allocation, LossSurface, minimise


@dataclass(frozen=True, repr=False)
class PoweredSum(LossSurface, kind="powered-sum"):
    """L(N, D) = E + (A/N^α + B/D^β)^γ, in nats per token; with γ = 1 it is Chinchilla.

    The power is monotone, so every question is one that Chinchilla answers about the sum inside. Source: Busbridge
    et al. 2025, "Distillation Scaling Laws", equation for supervised models.
    """

    E: float = BLANK
    A: float = BLANK
    alpha: float = BLANK
    B: float = BLANK
    beta: float = BLANK
    gamma: float = BLANK
    formula = "L = {E} + ({A}/N^{alpha} + {B}/D^{beta})^{gamma}"

    def inside(self) -> Chinchilla:
        """Give the sum A/N^α + B/D^β as a surface."""
        return Chinchilla(0.0, self.A, self.alpha, self.B, self.beta)

    def loss(self, N: ArrayLike, D: ArrayLike) -> Values:
        """Evaluate the loss of N parameters trained on D tokens; N and D broadcast."""
        return self.E + self.inside().loss(N, D) ** self.gamma

    def slopes(self, N: ArrayLike, D: ArrayLike) -> tuple[Values, Values]:
        """Give ∂L/∂N and ∂L/∂D."""
        inside = self.inside()
        outer = self.gamma * inside.loss(N, D) ** (self.gamma - 1)
        by_size, by_tokens = inside.slopes(N, D)
        return outer * by_size, outer * by_tokens

    def optimal(self, C: float) -> Allocation:
        """Spend C FLOPs for the lowest loss, under C = 6ND. Raises ValueError as :class:`Chinchilla` does."""
        best = self.inside().optimal(C)
        return Allocation(N=best.N, D=best.D, C=C, loss=float(self.loss(best.N, best.D)))

    def tokens_for(self, loss: float, N: float) -> float:
        """Tokens on which N parameters reach ``loss``; infinite where no number of tokens is enough."""
        return self.inside().tokens_for(self._sum_for(loss), N)

    def params_for(self, loss: float, D: float) -> float:
        """Parameters that reach ``loss`` on D tokens; infinite where no size is enough."""
        return self.inside().params_for(self._sum_for(loss), D)

    def cheapest(self, loss: float) -> Allocation:
        """Reach ``loss`` with the least compute. Raises ValueError for a loss at or below E."""
        if not loss > self.E:
            raise ValueError(f"no budget reaches a loss of {loss}: the floor of {self} is {self.E:.6g}")
        best = self.inside().cheapest(self._sum_for(loss))
        return Allocation(N=best.N, D=best.D, C=best.C, loss=loss)

    def _sum_for(self, loss: float) -> float:
        """Return the sum that gives ``loss``; zero, which nothing reaches, at the floor and below."""
        return math.pow(max(loss - self.E, 0.0), 1 / self.gamma)


@dataclass(frozen=True, repr=False)
class Distillation(Law, kind="distillation"):
    """L_S = L_T + L_T^−c0 · (1 + (L_T / (d1·L̃_S))^(1/f1))^(−c1·f1) · (A/N^α + B/D^β)^γ, in nats per token.

    The loss of a student of N parameters distilled on D tokens from a teacher whose own loss is L_T. L̃_S is what the
    student would reach by itself on as many tokens, and is asked of the supervised law that every question here is
    given. Where the teacher is far better than that, the middle factor goes to one and a still better teacher makes a
    *worse* student: the capacity gap. Source: Busbridge et al. 2025, "Distillation Scaling Laws", the student law;
    the form is as remembered, not read in the paper.
    """

    c0: float = BLANK
    c1: float = BLANK
    d1: float = BLANK
    f1: float = BLANK
    A: float = BLANK
    alpha: float = BLANK
    B: float = BLANK
    beta: float = BLANK
    gamma: float = BLANK
    formula = (
        "L_S = L_T + L_T^-{c0} · (1 + (L_T/({d1}·L̃_S))^(1/{f1}))^(-{c1}·{f1}) · ({A}/N^{alpha} + {B}/D^{beta})^{gamma}"
    )

    def loss(self, N: ArrayLike, D: ArrayLike, teacher_loss: ArrayLike, supervised: LossSurface) -> Values:
        """Evaluate the student's loss; ``supervised`` is the law of the same model without a teacher.

        N, D and ``teacher_loss`` broadcast.
        """
        teacher = np.asarray(teacher_loss, float)
        gap = teacher / (self.d1 * supervised.loss(N, D))
        matched = (1 + gap ** (1 / self.f1)) ** (-self.c1 * self.f1)
        reach = PoweredSum(0.0, self.A, self.alpha, self.B, self.beta, self.gamma).loss(N, D)
        return teacher + teacher**-self.c0 * matched * reach

    def best_teacher(self, N: float, D: float, supervised: LossSurface, lowest: float, highest: float) -> float:
        """Give the teacher's loss between two bounds that makes the best student of N parameters on D tokens.

        Raises ValueError unless the bounds are positive and in order.
        """
        if not 0 < lowest < highest < math.inf:
            raise ValueError(f"the teacher's loss must lie between two positive bounds, not {lowest} and {highest}")
        positive("N", N)
        positive("D", D)
        return minimise(lambda teacher: self.loss(N, D, teacher, supervised), lowest, highest)


BUSBRIDGE_2025_SUPERVISED = published(
    "BUSBRIDGE_2025_SUPERVISED",
    PoweredSum(E=1.220, A=3355.0, alpha=0.408, B=18186.0, beta=0.431, gamma=0.452),
    source="Busbridge et al. 2025, arXiv 2502.08606, the supervised law",
    meaning="N without embeddings, loss on C4 in nats per token",
    counts="body",
    verified=False,
    note="remembered, and agreeing with one secondary text; not read in the paper",
)
